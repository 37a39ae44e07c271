"""Tidying a splat on its way out.

Every option is off unless asked for, and says how many splats it took."""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gs_ssd.errors import UserError
from gs_ssd.export.frames import FloatArray
from gs_ssd.export.splats import Splats
from gs_ssd.maths.conventions import FROM_WORLD

VISIBLE = 1 / 255  #: an opacity below this never changes an 8-bit picture


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """What to take away, in this order, and how to place what stays."""

    non_finite: bool = True  #: NaN, infinite, or absurdly large values, which break most importers
    invisible: bool = False  #: opacity below 1/255
    floaters: bool = False  #: everything that does not hang together with the largest body
    crop_radius: float | None = None  #: keep what lies within this distance of the object's centre
    max_splats: int | None = None  #: keep the most visible so many
    recenter: bool = False  #: centre over the origin, base on the ground
    height: float | None = None  #: scale to this height in metres


def clean(splats: Splats, options: Cleaning) -> tuple[Splats, dict[str, int]]:
    """Apply `options`; returns what is left and, per step that was asked for, how many splats it
    removed.

    Raises:
        UserError: nothing is left, or a number that makes no sense.
    """
    for name, word in (("crop_radius", "crop"), ("max_splats", "max-splats"), ("height", "height")):
        value = getattr(options, name)
        if value is not None and not 0 < value < np.inf:
            raise UserError(f"--{word} is {value}; it must be a finite, positive number")
    removed: dict[str, int] = {}

    def keep(reason: str, mask: NDArray[np.bool_]) -> None:
        nonlocal splats
        removed[reason] = int(len(mask) - mask.sum())
        splats = splats.take(mask)
        if len(splats) == 0:
            raise UserError(f"no splat is left: all of the last {removed[reason]} were {reason}")

    if options.non_finite:
        keep("non-finite", finite(splats))
    if options.invisible:
        keep("invisible", splats.opacities >= VISIBLE)
    if options.floaters:
        keep("floaters", main_body(splats))
    if options.crop_radius is not None:
        center, _ = framing(splats)
        keep(
            "outside the crop", np.linalg.norm(splats.means - center, axis=1) <= options.crop_radius
        )
    if options.max_splats is not None and len(splats) > options.max_splats:
        order = np.argsort(-_visibility(splats), kind="stable")
        mask = np.zeros(len(splats), dtype=bool)
        mask[order[: options.max_splats]] = True
        keep("above the limit", mask)
    return place(splats, recenter=options.recenter, height=options.height), removed


def most_visible(splats: Splats, count: int) -> Splats:
    """The `count` splats that are seen best (opacity times the largest cross-section), in their
    order; those that are not finite are taken last.

    For pictures that must not cost much: it is `Cleaning.max_splats` at a third of the time.
    """
    if count >= len(splats):
        return splats
    with np.errstate(over="ignore", invalid="ignore"):  # of those that are not finite
        cross_section = splats.log_scales.sum(axis=1) - splats.log_scales.min(axis=1)
        seen = cross_section - np.logaddexp(0, -splats.logit_opacities)
    seen[~finite(splats)] = -np.inf
    mask = np.zeros(len(splats), dtype=bool)
    mask[np.argpartition(seen, -count)[-count:]] = True
    return splats.take(mask)


def finite(splats: Splats) -> NDArray[np.bool_]:
    """True where every number can be written and drawn: sizes in exp(-60..60), means below 1e6, a
    quaternion."""
    good = ~np.isnan(splats.logit_opacities)
    good &= (np.abs(splats.means) < 1e6).all(axis=1)
    good &= (np.abs(splats.log_scales) < 60).all(axis=1)
    good &= np.isfinite(splats.quats_wxyz).all(axis=1) & (
        np.abs(splats.quats_wxyz).max(axis=1, initial=0) > 1e-12
    )
    return good & np.isfinite(splats.sh).all(axis=(1, 2))


def refuse_non_finite(path: str | os.PathLike[str], splats: Splats) -> None:
    """For formats that state what their numbers lie between.

    Raises:
        UserError: a splat that `finite` would take away.
    """
    bad = int((~finite(splats)).sum())
    if bad:
        raise UserError(
            f"{path}: this format cannot hold the {bad} non-finite splats; leave"
            " --keep-non-finite out"
        )


def framing(splats: Splats) -> tuple[FloatArray, float]:
    """Centre [3] and radius of the ball that a first view should show, deaf to a few stray
    splats."""
    if len(splats) == 0:
        return np.zeros(3), 1.0
    low, high = np.percentile(splats.means.astype(np.float64), [1, 99], axis=0)
    center = (low + high) / 2
    reach = np.linalg.norm(splats.means - center, axis=1) + splats.scales.max(axis=1)
    return center, float(max(np.percentile(reach, 98), 1e-6))


def place(splats: Splats, *, recenter: bool, height: float | None) -> Splats:
    """Scale to a height in metres, and set the object over the origin with its base on the
    ground."""
    if not recenter and height is None:
        return splats
    up = FROM_WORLD[splats.frame] @ np.array([0.0, 0.0, 1.0])
    reach = 2 * splats.scales
    along = splats.means @ up
    thickness = reach.max(axis=1)
    low, high = np.percentile(along - thickness, 1), np.percentile(along + thickness, 99)
    factor = 1.0 if height is None else height / max(high - low, 1e-9)
    origin = np.zeros(3)
    if recenter:
        center, _ = framing(splats)
        origin = center - up * (up @ center) + up * low
    x, y, z = ((np.array(splats.offset) + origin) * factor).tolist()
    return dataclasses.replace(
        splats,
        means=(splats.means - origin) * factor,
        offset=(x, y, z),
        log_scales=splats.log_scales + np.log(factor),
    )


def main_body(splats: Splats, *, cells: int = 40) -> NDArray[np.bool_]:
    """True for splats of the heaviest connected component.

    Space is cut into cubes, at most `cells` along the framing ball's diameter, and no smaller than
    splats lie apart in a filled ball; cubes that touch, even at a corner, hang together. Weight is
    opacity times cross-section, so a dense body beats a large but faint cloud.
    """
    center, radius = framing(splats)
    edge = 2 * radius * max(1 / cells, len(splats) ** (-1 / 3))
    grid = np.floor((splats.means - center) / edge).clip(-(2**19), 2**19).astype(np.int64) + 2**19
    keys = (grid[:, 0] << 42) | (grid[:, 1] << 21) | grid[:, 2]
    cubes, cube_of = np.unique(keys, return_inverse=True)
    labels = _components(cubes)[cube_of]
    weight = np.bincount(labels, weights=_visibility(splats))
    return labels == weight.argmax()


def _components(cubes: NDArray[np.int64]) -> NDArray[np.int64]:
    """A label per sorted cube key, the same for all cubes that hang together (26 neighbours)."""
    steps = [
        (x << 42) + (y << 21) + z
        for x in (-1, 0, 1)
        for y in (-1, 0, 1)
        for z in (-1, 0, 1)
        if (x, y, z) > (0, 0, 0)
    ]
    first, second = [], []
    for step in steps:
        at = np.searchsorted(cubes, cubes + step).clip(max=len(cubes) - 1)
        found = np.flatnonzero(cubes[at] == cubes + step)
        first.append(found)
        second.append(at[found])
    a, b = np.concatenate(first), np.concatenate(second)
    graph = sparse.coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(len(cubes), len(cubes)))
    return sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)


def _visibility(splats: Splats) -> FloatArray:
    """Opacity times the largest cross-section of each splat [N]."""
    scales = np.sort(splats.scales.astype(np.float64), axis=1)
    return splats.opacities * scales[:, 1] * scales[:, 2]
