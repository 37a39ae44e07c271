"""What a splat is, what drawing it costs, and what each format makes of it: `gs-ssd inspect`."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from gs_ssd.export.clean import VISIBLE, finite, framing
from gs_ssd.export.formats import FORMATS
from gs_ssd.export.frames import FloatArray
from gs_ssd.export.overdraw import Overdraw, overdraw
from gs_ssd.export.splats import Splats
from gs_ssd.export.views import pictures, psnr

PERCENTILES = (5, 25, 50, 75, 95)
PICTURE = 192  #: pixels of the views by which losses are measured
INVISIBLE_DB = 60.0  #: above this an 8-bit picture hardly changes
SAME_DB = 100.0  #: above this only the last bits of float32 differ


@dataclasses.dataclass(frozen=True)
class Limit:
    """A published number of splats up to which a device or a service is known to do well."""

    where: str
    splats: int
    source: str


LIMITS = (
    Limit(
        "Android phones of the middle range, comfortably",
        200_000,
        "github.com/sceneview/sceneview/issues/2646",
    ),
    Limit(
        "Meta Quest 3 standalone, 72 fps",
        400_000,
        "github.com/ninjamode/Unity-VR-Gaussian-Splatting/issues/7",
    ),
    Limit(
        "Apple Vision Pro (M2), 90 fps with MetalSplatter", 400_000, "github.com/ibrews/SplatStage"
    ),
    Limit(
        "SuperSplat without levels of detail",
        1_000_000,
        "PlayCanvas's manual, Streaming & Performance",
    ),
)
PHONE_DEGREE = Limit(
    "Android phones of the middle range", 1, "github.com/sceneview/sceneview/issues/2646"
)


@dataclasses.dataclass(frozen=True)
class Loss:
    """A format after writing and reading back: `psnr` over sixteen views against the original, None
    where equal."""

    bytes: int
    psnr: float | None
    degree: int
    antialiased: bool


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Lengths are in the file's units and axes; `reach` is the radius of the ball that a first view
    shows."""

    splats: int
    degree: int
    frame: str
    antialiased: bool
    non_finite: int
    invisible: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    center: tuple[float, ...]
    reach: float
    opacities: dict[int, float]
    sigmas: dict[int, float]
    flatness: float
    overdraw: Overdraw | None
    losses: dict[str, Loss]
    warnings: tuple[str, ...]


def inspect(splats: Splats, *, draw: bool = True) -> Inspection:
    """Count and measure; `draw` off leaves out overdraw and losses, which take seconds.

    `opacities` and `sigmas` (the middle one of a splat's three) are by percentile; `flatness` is
    the median of smallest over middle sigma. Numbers are over the splats that are finite.
    """
    good = splats.take(finite(splats))
    center, reach = framing(good)
    scales = np.sort(good.scales.astype(np.float64), axis=1)
    drawn = overdraw(good) if draw and len(good) else None
    report = Inspection(
        splats=len(splats),
        degree=splats.sh_degree,
        frame=splats.frame,
        antialiased=splats.antialiased,
        non_finite=len(splats) - len(good),
        invisible=int((good.opacities < VISIBLE).sum()),
        low=_tuple(good.means.min(axis=0, initial=np.inf)),
        high=_tuple(good.means.max(axis=0, initial=-np.inf)),
        center=_tuple(center),
        reach=reach,
        opacities=_percentiles(good.opacities),
        sigmas=_percentiles(scales[:, 1]),
        flatness=float(np.median(scales[:, 0] / scales[:, 1])) if len(good) else 0.0,
        overdraw=drawn,
        losses=_losses(good) if draw and len(good) else {},
        warnings=(),
    )
    return dataclasses.replace(report, warnings=tuple(warnings_about(report)))


def _percentiles(values: FloatArray) -> dict[int, float]:
    if len(values) == 0:
        return {}
    return dict(
        zip(
            PERCENTILES,
            map(float, np.percentile(values.astype(np.float64), PERCENTILES)),
            strict=True,
        )
    )


def _tuple(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _losses(splats: Splats) -> dict[str, Loss]:
    """Every format that is both written and read, by going there and back."""
    wanted = pictures(splats, PICTURE)
    losses = {}
    with tempfile.TemporaryDirectory(prefix="gs-ssd-") as folder:
        for suffix, kind in FORMATS.items():
            if kind.read is None or kind.write is None:
                continue
            path = Path(folder) / f"written{suffix}"
            kind.write(path, splats.to_frame(kind.frame))
            back = kind.read(path)
            seen = pictures(back, PICTURE, like=splats)
            loss = None if np.array_equal(seen, wanted) else psnr(seen, wanted)
            losses[suffix] = Loss(path.stat().st_size, loss, back.sh_degree, back.antialiased)
    return losses


def warnings_about(report: Inspection) -> list[str]:
    """What should be seen to before publishing: broken splats, and published limits that are
    exceeded."""
    found = []
    if report.non_finite:
        found.append(
            f"{report.non_finite} splats are NaN, infinite or absurd; exporting drops them"
        )
    if report.invisible:
        found.append(
            f"{report.invisible} splats have opacity below 1/255; --drop-invisible drops them"
        )
    found += [
        f"{report.splats} splats are more than {limit.splats} ({limit.where}; {limit.source}); "
        f"--simplify {limit.splats} merges them"
        for limit in LIMITS
        if report.splats > limit.splats
    ]
    if report.degree > PHONE_DEGREE.splats:
        found.append(
            f"harmonics of degree {report.degree} cost too much on {PHONE_DEGREE.where}"
            f" ({PHONE_DEGREE.source}); --sh-degree {PHONE_DEGREE.splats} cuts them"
        )
    return found
