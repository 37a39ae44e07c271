"""One asset seen by a suite's turntable: rendered, judged, and compared with the true object at the
same cameras."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gs_ssd.assets.base import Renderable
from gs_ssd.lab.evaluate import parts, statistics
from gs_ssd.lab.evaluate.judge import Opinion
from gs_ssd.lab.evaluate.suite import Entry, Turntable

if TYPE_CHECKING:
    from gs_ssd.lab.world.tracer import Layer

SIZE = 512
"""Pixels a side at which edges and floaters are looked at."""
CRISP_VIEWS = (0, 5, 10, 15)
"""The views that are looked at in full size; all of them serve what needs no fine edges."""
COARSE = 128
"""Pixels a side at which silhouettes, floaters and colours are compared."""
JUDGED = 64
"""Pixels a side at which the judge and the nearest-view test look."""
FACED = 0.007
"""Mean squared difference of front and back above which an object has a face; shading alone makes
up to .0064."""
WHITE = 1.0


@dataclasses.dataclass(frozen=True)
class Pictures:
    """V square pictures of one object on white, and its alpha."""

    rgb: Float[Tensor, "v 3 s s"]
    alpha: Float[Tensor, "v s s"]

    @property
    def on_black(self) -> Float[Tensor, "v 3 s s"]:
        """The same pictures on black, i.e. colours times alpha."""
        return (self.rgb - (1 - self.alpha[:, None]) * WHITE).clamp(0, 1)

    def shrunk(self, size: int) -> "Pictures":
        """Area averages, as pictures that were taken at that size with many rays per pixel."""
        return Pictures(
            F.adaptive_avg_pool2d(self.rgb, size), F.adaptive_avg_pool2d(self.alpha, size)
        )

    def chosen(self, views: Sequence[int]) -> "Pictures":
        """Some of the views."""
        return Pictures(self.rgb[list(views)], self.alpha[list(views)])


@runtime_checkable
class Judge(Protocol):
    """Names kind and colour; was trained on other pictures than the prior, and never on a splat."""

    def __call__(self, rgb: Tensor) -> Opinion:
        """Its opinion of pictures in 0..1, [V,3,64,64]."""
        ...


@torch.no_grad()
def photograph(asset: Renderable, turntable: Turntable, size: int = SIZE) -> Pictures:
    """The asset from the turntable's cameras, four views at a time."""
    cameras = turntable.cameras(size)
    rgb, alpha = [], []
    for start in range(0, turntable.views, 4):
        some = cameras[start : start + 4].to(asset.device)
        output = asset.render(some, torch.full((len(some), 3), WHITE, device=asset.device))
        rgb.append(output.rgb.clamp(0, 1).cpu())
        alpha.append(output.alpha[:, 0].clamp(0, 1).cpu())
    return Pictures(torch.cat(rgb), torch.cat(alpha))


class Truth:
    """The bundled world's own object for one prompt: its mean shape in the prompt's colour."""

    def __init__(self, entry: Entry, turntable: Turntable, size: int = SIZE) -> None:
        from gs_ssd.lab.world.kinds import sculpt
        from gs_ssd.lab.world.tracer import stack

        if entry.kind is None or entry.color is None:
            raise ValueError(f"the world has no true shape for {entry.prompt!r}")
        self._parts = sculpt(entry.kind, entry.color)
        self._layers = stack([self._parts])
        self._turntable, self._size = turntable, size

    @functools.cached_property
    def crisp(self) -> Pictures:
        """The crisp views of the turntable, at full size."""
        chosen = [v for v in CRISP_VIEWS if v < self._turntable.views]
        azimuth, elevation = self._azimuths(), self._elevations()
        return self._trace([azimuth[v] for v in chosen], [elevation[v] for v in chosen], self._size)

    @functools.cached_property
    def coarse(self) -> Pictures:
        """All views of the turntable, at coarse size."""
        return self._trace(self._azimuths(), self._elevations(), COARSE)

    @functools.cached_property
    def around(self) -> Float[Tensor, "v a 3 s s"]:
        """For every view of the turntable the object at that elevation from 16 azimuths, at the
        judge's size."""
        views, azimuth = self._turntable.views, [22.5 * i for i in range(16)]
        rings = {e: self._trace(azimuth, [e] * 16, JUDGED).rgb for e in set(self._elevations())}
        return torch.stack([rings[self._elevations()[view]] for view in range(views)])

    @functools.cached_property
    def turned(self) -> Pictures:
        """The object turned round under the same lamp, seen from `behind`: a second face, where a
        back should be."""
        azimuth, elevation = self._azimuths(), self._elevations()
        return self._trace(
            [azimuth[v] + 180 for v in self.behind],
            [elevation[v] for v in self.behind],
            COARSE,
            True,
        )

    @functools.cached_property
    def without(self) -> dict[str, Float[Tensor, "v 3 s s"]]:
        """The coarse views with each named part taken off."""
        azimuth, elevation = self._azimuths(), self._elevations()
        names = dict.fromkeys(part.name for part in self._parts if part.name)
        left = {
            name: [
                layer
                for layer, part in zip(self._layers, self._parts, strict=True)
                if part.name != name
            ]
            for name in names
        }
        return {
            name: self._trace(azimuth, elevation, COARSE, layers=rest).rgb
            for name, rest in left.items()
        }

    @property
    def behind(self) -> list[int]:
        """The views of the turntable within 45 degrees of the back."""
        return [view for view, azimuth in enumerate(self._azimuths()) if abs(azimuth - 180) <= 45]

    def _azimuths(self) -> list[float]:
        return [360.0 * i / self._turntable.views for i in range(self._turntable.views)]

    def _elevations(self) -> list[float]:
        table = self._turntable
        return [table.elevations_deg[i % len(table.elevations_deg)] for i in range(table.views)]

    def _trace(
        self,
        azimuth_deg: list[float],
        elevation_deg: list[float],
        size: int,
        lamp_turned: bool = False,
        layers: "list[Layer] | None" = None,
    ) -> Pictures:
        from gs_ssd.lab.world.tracer import Light, trace
        from gs_ssd.lab.world.views import orbit

        table, layers = self._turntable, self._layers if layers is None else layers
        views = orbit(
            torch.tensor(azimuth_deg), torch.tensor(elevation_deg), table.radius, table.fov_y_deg
        )
        toward, strength = Light().tensors(2, None)
        if lamp_turned:
            toward = toward * toward.new_tensor([-1, -1, 1])
        pieces = [
            trace(
                layers,
                w2c,
                tan,
                size,
                size,
                light=(toward[: len(w2c)], strength[: len(w2c)]),
                supersample=2,
            )
            for w2c, tan in zip(views.w2c.split(2), views.tan_half_fov.split(2), strict=True)
        ]
        return Pictures(
            torch.cat([p.rgb for p in pieces]), torch.cat([p.alpha[:, 0] for p in pieces])
        )


def own_numbers(crisp: Pictures, coarse: Pictures) -> dict[str, float]:
    """What can be said of pictures alone: crisp, clean, saturated, sharp."""
    return {
        "haze": statistics.haze_share(crisp.alpha),
        "edge_px": statistics.edge_width(crisp.alpha),
        "detail": statistics.high_frequency_energy(crisp.rgb),
        "outside": statistics.outside_main_component(coarse.alpha),
        "saturation": statistics.saturation(coarse.on_black, coarse.alpha),
    }


def numbers_beside_truth(coarse: Pictures, truth: Truth) -> dict[str, float]:
    """What needs the true object: its silhouette, how many views resemble its front, and whether
    its back has a face.

    Objects whose back looks like their front have no front to count.
    """
    iou = statistics.silhouette_iou(coarse.alpha, truth.coarse.alpha)
    iou = iou[~iou.isnan()]
    numbers = {"iou": float(iou.mean()), "iou_worst": float(iou.min()) if len(iou) else math.nan}
    numbers["psnr"] = parts.psnr(coarse.rgb, truth.coarse.rgb)
    found = parts_found(coarse, truth)
    if found:
        numbers |= {"parts": sum(found.values()) / len(found), "part_worst": min(found.values())}
        numbers |= {f"part_{name}": share for name, share in found.items()}
    front, back = truth.around[0, 0], truth.around[0, 8]
    if (front - back).square().mean() > FACED:
        for name, pictures in (("fronts", coarse), ("fronts_truth", truth.coarse)):
            nearest, _ = statistics.nearest_views(pictures.shrunk(JUDGED).rgb, truth.around)
            numbers[name] = float(statistics.front_count([22.5 * i for i in nearest.tolist()]))
        back, face = (
            truth.coarse.chosen(truth.behind).shrunk(JUDGED).rgb,
            truth.turned.shrunk(JUDGED).rgb,
        )
        seen = coarse.chosen(truth.behind).shrunk(JUDGED).rgb
        numbers["face_behind"] = float(statistics.leaning(seen, back, face).mean())
    return numbers


def parts_found(coarse: Pictures, truth: Truth) -> dict[str, float]:
    """Recall of the true object's small parts by name, and of its gaps; without what it has not."""
    found = {
        name: parts.recall(coarse.rgb, truth.coarse.rgb, rest)
        for name, rest in truth.without.items()
    }
    found["gaps"] = parts.gap_recall(coarse.alpha, truth.coarse.alpha)
    return {name: share for name, share in found.items() if not math.isnan(share)}


def recognised(opinion: Opinion, entry: Entry) -> dict[str, float]:
    """Shares of the views in which kind, colour and both are named right; the right kind's chance
    in the worst view."""
    kind = [name == entry.kind for name in opinion.kinds]
    color = [name == entry.color for name in opinion.colors]
    hits = {
        "kind_share": kind,
        "color_share": color,
        "both_share": [a and b for a, b in zip(kind, color, strict=True)],
    }
    numbers = {name: sum(views) / len(views) for name, views in hits.items()}
    if entry.kind in opinion.chances:
        numbers["kind_worst"] = float(opinion.chances[entry.kind].min())
    return numbers
