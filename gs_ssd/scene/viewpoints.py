"""Where the training cameras stand, as pure functions of (config, step, generator).

The defaults are LucidDreamer's recipe: telephoto views that come closer and spread around the
object in the course of training. A prior whose metadata names the cameras of its own training
pictures overrides whatever is left `None`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from gs_ssd.bounds import (
    AzimuthDeg,
    Bounds,
    Distance,
    FovDeg,
    Knots,
    NonNegative,
    PolarDeg,
    Share,
    Size,
    Views,
    settings,
)
from gs_ssd.bounds import Range as Ordered
from gs_ssd.errors import UserError
from gs_ssd.maths import anneal
from gs_ssd.scene.camera import Cameras

Range = tuple[float, float]
ORTHOGONAL = 4
"""Views of a group whose azimuths are a quarter turn apart."""


@settings
class WideningConfig:
    """Again and again each range is multiplied by its factor and clipped to its limits."""

    every_share: Share = 0.1
    """Share of the run between two widenings; 0: never (LucidDreamer: 500 of 5000 steps)."""
    radius_factor: Annotated[float, Bounds(0.1, 10)] = 0.95
    radius_limits: Ordered[Distance] = (3.5, 5.0)
    """Lowest values of the lower and of the upper end."""
    fov_factors: tuple[Annotated[float, Bounds(0.1, 10)], Annotated[float, Bounds(0.1, 10)]] = (
        0.75,
        1.1,
    )
    fov_limits_deg: Ordered[FovDeg] = (9.167, 34.377)
    angle_factor: Annotated[float, Bounds(1, 10)] = 1.5
    polar_limits_deg: Ordered[PolarDeg] | None = None
    """`None`: the starting range, so that the polar angle never widens (as in all of LucidDreamer's
    configs)."""
    azimuth_limits_deg: Ordered[AzimuthDeg] = (-180.0, 180.0)


@settings
class CloseupConfig:
    """Views with a narrow field of view on a point off the middle: a coarse prior sees fine parts
    in them.

    Their prompts say so where the prior's metadata has words for it (`camera.closeup.template`).
    """

    share: Knots[Share] = ()
    """Share of the views as a law of progress: knots [share of the run, share of the views]; empty:
    none."""
    fov_y_deg: Ordered[FovDeg] | None = None
    look_at_jitter: NonNegative | None = None
    """The camera is moved, direction kept, by up to this much along each axis (uniform), world
    units. `None`, both: the prior's own, where its metadata names them."""


@settings
class ViewpointConfig:
    """Cameras of a step.

    Degrees here and in logs, radians in code; polar angles from +z (90 is level)."""

    num_views: Views = 4
    num_views_law: Knots[Annotated[float, Bounds(1, 64)]] = ()
    """The number of views as a law of progress, rounded: many small pictures first, then fewer
    large ones; empty: `num_views` in every step."""
    image_size: Size | None = None
    """Pixels of the square renderings; `None`: the prior's."""
    radius: Ordered[Distance] | None = None
    fov_y_deg: Ordered[FovDeg] | None = None
    polar_deg: Ordered[PolarDeg] | None = None
    """`None`: the prior's own cameras where its metadata names them, else LucidDreamer's object
    recipe."""
    azimuth_deg: Ordered[AzimuthDeg] = (-180.0, 180.0)
    angle_gamma: Annotated[float, Bounds(0.01, 100)] = 1.0
    """1 is uniform; above 1 the angles concentrate at the middle of their ranges (1.5 for
    faces)."""
    azimuths: Literal["stratified", "independent", "orthogonal"] = "stratified"
    """Stratified: the azimuth range is cut into one slice a view, so no step looks at one side
    alone. Orthogonal: groups of four views a quarter turn apart, alike in all else, as multi-view
    priors want; the range is that of each group's first view."""
    fov: Literal["shared", "per_view"] = "per_view"
    """LucidDreamer draws one field of view for a pool of ten cameras: `shared` draws one per
    step."""
    jitter_position: Annotated[float, Bounds(0, 100)] = 0.05
    """Full width of the uniform noise on the position, world units."""
    jitter_target: Annotated[float, Bounds(0, 100)] = 0.05
    """Standard deviation of the point looked at, world units."""
    jitter_up: Annotated[float, Bounds(0, 100)] = 0.01
    widening: WideningConfig = dataclasses.field(default_factory=WideningConfig)
    closeup: CloseupConfig = dataclasses.field(default_factory=CloseupConfig)


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The ranges that hold at one step; angles in radians."""

    radius: Range
    fov_rad: Range
    polar_rad: Range
    azimuth_rad: Range


@settings
class Viewpoints(ViewpointConfig):
    """Viewpoints with nothing open; the ranges are LucidDreamer's object recipe."""

    image_size: Size = 512
    radius: Ordered[Distance] = (5.2, 5.5)
    fov_y_deg: Ordered[FovDeg] = (18.335, 34.377)
    polar_deg: Ordered[PolarDeg] = (45.0, 105.0)


def resolve(config: ViewpointConfig, metadata: Mapping[str, Any], image_size: int) -> Viewpoints:
    """Fill what is `None` from the prior's metadata (`camera`) or the recipe.

    A prior that names its cameras was trained on them alone, so its ranges do not widen, and a
    widening of the user's own is refused.
    """
    camera = dict(metadata.get("camera") or {})
    known = {
        key: (float(camera[key][0]), float(camera[key][1]))
        for key in ("radius", "fov_y_deg")
        if key in camera
    }
    if "elevation_deg" in camera:
        low, high = camera["elevation_deg"]
        known["polar_deg"] = (90.0 - high, 90.0 - low)
    if known and config.widening.every_share and config.widening != WideningConfig():
        raise UserError(
            "viewpoints.widening would lead away from the cameras that this prior names, and it was"
            " trained on them alone: set viewpoints.widening.every_share=0, or leave the"
            " section out"
        )
    if config.azimuths == "orthogonal" and config.num_views % ORTHOGONAL:
        raise UserError(
            f"viewpoints.azimuths=orthogonal takes views in groups of {ORTHOGONAL}, and"
            f" viewpoints.num_views={config.num_views} is no multiple of it"
        )
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    filled: dict[str, Any] = {"image_size": image_size, **known} | {
        key: value for key, value in given.items() if value is not None
    }
    filled["closeup"] = _resolve_closeup(config.closeup, camera.get("closeup") or {})
    if known:
        filled["widening"] = dataclasses.replace(config.widening, every_share=0.0)
    try:
        return Viewpoints(**filled)
    except ValidationError as error:  # the config was valid; what the prior says may not be
        raise UserError(
            f"the prior names cameras that cannot be: {error.errors()[0]['loc']}; fix its"
            " gs_ssd.json"
        ) from error


def _resolve_closeup(config: CloseupConfig, own: Mapping[str, Any]) -> CloseupConfig:
    fov, jitter = config.fov_y_deg or own.get("fov_y_deg"), config.look_at_jitter
    jitter = own.get("look_at_jitter") if jitter is None else jitter
    if not config.share:
        return config
    if fov is None or jitter is None:
        raise UserError(
            "the prior names no close-ups: set viewpoints.closeup.fov_y_deg and .look_at_jitter, or"
            " no share"
        )
    return CloseupConfig(config.share, (float(fov[0]), float(fov[1])), float(jitter))


def ranges_at(config: Viewpoints, step: int, num_steps: int) -> Ranges:
    """The ranges of a step, counted from 0 (recipe: widened at iterations 500, 1000, ...)."""
    every = max(round(config.widening.every_share * num_steps), 1)
    return _widened(config, (step + 1) // every if config.widening.every_share > 0 else 0)


def first_ranges(config: Viewpoints) -> Ranges:
    """The ranges before any widening."""
    return _widened(config, 0)


def _widened(config: Viewpoints, times: int) -> Ranges:
    widening = config.widening
    radius, fov, polar = config.radius, config.fov_y_deg, config.polar_deg
    azimuth = config.azimuth_deg
    if times:
        shrink = widening.radius_factor**times
        # A limit never moves a range: a config may start closer than the recipe's limits, or beyond
        # half a turn.
        near, far = widening.radius_limits
        radius = (
            max(min(radius[0], near), radius[0] * shrink),
            max(min(radius[1], far), radius[1] * shrink),
        )
        fov = (
            max(min(widening.fov_limits_deg[0], fov[0]), fov[0] * widening.fov_factors[0] ** times),
            min(max(widening.fov_limits_deg[1], fov[1]), fov[1] * widening.fov_factors[1] ** times),
        )
        grow = widening.angle_factor**times
        low, high = widening.polar_limits_deg or polar
        polar = (
            max(min(low, polar[0]), polar[0] / grow),
            min(max(high, polar[1]), polar[1] * grow),
        )
        left, right = widening.azimuth_limits_deg
        # An end across zero (the lower one of 90..270) would be multiplied inwards: it stays where
        # it is.
        azimuth = (
            max(min(left, azimuth[0]), min(azimuth[0], azimuth[0] * grow)),
            min(max(right, azimuth[1]), max(azimuth[1], azimuth[1] * grow)),
        )
    return Ranges(radius, _radians(fov), _radians(polar), _radians(azimuth))


def _radians(range_deg: Range) -> Range:
    return math.radians(range_deg[0]), math.radians(range_deg[1])


def angle_quantile(
    uniform: Float[Tensor, "*batch"], low: float, high: float, gamma: float
) -> Float[Tensor, "*batch"]:
    """The recipe's angle law as a quantile function: mid + sign * u^gamma * half, for uniforms in
    0..1."""
    centred = 2 * uniform - 1
    return (low + high) / 2 + centred.sign() * centred.abs() ** gamma * (high - low) / 2


def views_at(config: ViewpointConfig, step: int, num_steps: int) -> int:
    """How many cameras a step has; whole groups, at least one, where they come in groups."""
    if not config.num_views_law:
        return config.num_views
    views = anneal.piecewise(anneal.progress(step, num_steps), config.num_views_law)
    if config.azimuths == "orthogonal":
        return max(round(views / ORTHOGONAL), 1) * ORTHOGONAL
    return round(views)


def sample(config: Viewpoints, step: int, num_steps: int, generator: torch.Generator) -> Cameras:
    """The cameras of one step (counted from 0) of `num_steps`, on the generator's device.

    How many of them are close-ups, the share of them at this step says, rounded at random.
    """
    if config.azimuths == "orthogonal":
        return _orthogonal(config, step, num_steps, generator)
    ranges = ranges_at(config, step, num_steps)
    views, device = views_at(config, step, num_steps), generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    azimuth_share = uniform(views)
    if config.azimuths == "stratified":
        azimuth_share = (torch.arange(views, device=device) + azimuth_share) / views
    fov_share = uniform(1).expand(views) if config.fov == "shared" else uniform(views)
    up = torch.tensor([0.0, 0.0, 1.0], device=device) + config.jitter_up * normal(views, 3)
    polar = angle_quantile(uniform(views), *ranges.polar_rad, config.angle_gamma)
    radius = angle_quantile(uniform(views), *ranges.radius, 1.0)
    fov = angle_quantile(fov_share, *ranges.fov_rad, 1.0)
    eye_offset = config.jitter_position * (uniform(views, 3) - 0.5)
    target = config.jitter_target * normal(views, 3)

    closeup, near = torch.zeros(views, dtype=torch.bool, device=device), config.closeup
    share = anneal.piecewise(anneal.progress(step, num_steps), near.share)
    if share > 0 and near.fov_y_deg is not None and near.look_at_jitter is not None:
        closeup[
            torch.randperm(views, generator=generator, device=device)[
                : int(views * share + uniform(1).item())
            ]
        ] = True
        shift = near.look_at_jitter * (2 * uniform(views, 3) - 1)
        narrow = angle_quantile(uniform(views), *_radians(near.fov_y_deg), 1.0)
        fov = torch.where(closeup, narrow, fov)
        # Camera and target move together, so that the angles stay true.
        eye_offset, target = (
            torch.where(closeup[:, None], shift, kept) for kept in (eye_offset, target)
        )

    azimuth = angle_quantile(azimuth_share, *ranges.azimuth_rad, config.angle_gamma)
    size = config.image_size
    cameras = Cameras.orbit(
        azimuth, polar, radius, fov, size, size, eye_offset=eye_offset, target=target, up=up
    )
    return dataclasses.replace(cameras, closeup=closeup)


def _orthogonal(
    config: Viewpoints, step: int, num_steps: int, generator: torch.Generator
) -> Cameras:
    """Each group is one camera, jitter included, and the same after quarter turns about z."""
    groups = views_at(config, step, num_steps) // ORTHOGONAL
    first = dataclasses.replace(config, num_views=groups, num_views_law=(), azimuths="stratified")
    cameras = sample(first, step, num_steps, generator)
    rows = torch.arange(groups, device=generator.device).repeat_interleave(ORTHOGONAL)
    quarters = torch.arange(ORTHOGONAL, device=generator.device).repeat(groups)
    return cameras[rows].turned(quarters * (math.pi / 2))


def centre(config: Viewpoints) -> tuple[float, float, float]:
    """(polar_rad, radius, fov_y_rad) in the middle of the first step's ranges: for previews and
    turntables."""
    ranges = first_ranges(config)
    return sum(ranges.polar_rad) / 2, sum(ranges.radius) / 2, sum(ranges.fov_rad) / 2
