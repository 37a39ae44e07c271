"""Is it still a text-to-image model? Other noises should give other proportions, and a caption
that names no view any view.

Everything is read off plain pictures, and off photographs of the world in the same way, so that
what the reading itself adds (backgrounds, lamps, 64 pixels) is the same on both sides:

- `proportions`: height over width, area and colour of the silhouette. Their spread over noises at
  one camera is set beside the spread of the world's own objects there, and beside that of one
  shape under other lamps, paints and backgrounds.
- `azimuths`: the nearest true view of each picture. How many there are is set beside photographs
  from cameras drawn all around.
"""

import dataclasses
import random

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gs_ssd.lab import world
from gs_ssd.lab.prior_training import sides
from gs_ssd.lab.world.colors import COLORS
from gs_ssd.lab.world.photographs import Studio, draw_lights
from gs_ssd.lab.world.sculptor import Part
from gs_ssd.lab.world.views import CameraLaw, Views

AZIMUTH, ELEVATION = 40.0, 15.0
"""The one camera at which proportions are read, degrees: a little from the side, so that depth
counts too."""
AROUND = CameraLaw(closeup_share=0.0)
"""Where the world is photographed from to compare a caption without a view with."""
APART = 0.1
"""Difference of a channel (of 1) from the background from which a pixel belongs to the object."""
MIDDLE_HALF = 1.349
"""Its width in a normal distribution, in standard deviations."""
TRAITS = ("aspect", "area", "colour")


def camera(count: int) -> Views:
    """The one camera, `count` times."""
    azimuth, elevation = torch.full((count,), AZIMUTH), torch.full((count,), ELEVATION)
    return world.orbit(azimuth, elevation, sides.RADIUS, sides.FOV_Y_DEG)


def silhouettes(pictures: Float[Tensor, "b 3 h w"]) -> Bool[Tensor, "b h w"]:
    """Where a picture differs from the colour of its border."""
    background = sides.backgrounds(pictures)[:, :, None, None]
    return (pictures - background).abs().amax(1) > APART


def proportions(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 5"]:
    """Logarithms of the silhouette's height over width (standard deviations of its pixels) and of
    its area, so that spreads are relative, and its mean colour; nan where there is none."""
    mask = silhouettes(pictures).float()
    area = mask.sum((1, 2))
    down, across = (_variance(mask.sum(axis)) for axis in (2, 1))
    color = (pictures * mask[:, None]).sum((2, 3)) / area[:, None]
    return torch.cat([torch.stack([(down / across).log() / 2, area.log()], 1), color], 1)


def _variance(weight: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Of the places 0, 1, ... under these weights; nan where there are none."""
    places = torch.arange(weight.shape[1], device=weight.device)
    share = weight / weight.sum(1, keepdim=True)
    middle = (share * places).sum(1, keepdim=True)
    return (share * (places - middle).square()).sum(1)


def spread(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "3"]:
    """Of the `TRAITS` over the pictures: the middle half's width as a standard deviation, so that
    a picture whose object is lost in its background does not count (colour: root mean square of
    the channels')."""
    rows = proportions(pictures)
    rows = rows[rows.isfinite().all(1)]
    low, high = (rows.quantile(share, 0) for share in (0.25, 0.75))
    deviation = (high - low) / MIDDLE_HALF
    return torch.stack([*deviation[:2], deviation[2:].square().mean().sqrt()])


def photographs(
    kind: str, color: str, views: Views, size: int, seed: int, *, same: bool = False
) -> Float[Tensor, "b 3 s s"]:
    """The world's pictures of a kind in one colour: another object, paint, lamp and background at
    each camera, as in the training.

    Args:
        same: the mean shape each time; paint, lamp and background still differ.
    """
    count, studio = len(views.w2c), Studio()
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    objects = [
        _painted(world.sculpt(kind, color, shape), color, studio.paint, rng)
        for shape in ([None] * count if same else rng.sample(range(2**31), count))
    ]
    return world.trace(
        world.stack(objects),
        views.w2c,
        views.tan_half_fov,
        size,
        size,
        background=world.draw_backgrounds(count, generator, studio),
        light=draw_lights(count, studio, generator),
    ).rgb


def _painted(parts: list[Part], color: str, amount: float, rng: random.Random) -> list[Part]:
    """The parts that wear the main paint in a shade of it."""
    red, green, blue = (min(max(c + amount * rng.uniform(-1, 1), 0), 1) for c in COLORS[color])
    return [
        dataclasses.replace(part, color=(red, green, blue)) if part.color == COLORS[color] else part
        for part in parts
    ]


def azimuths(pictures: Float[Tensor, "b 3 s s"], kind: str, color: str) -> Int[Tensor, " b"]:
    """Index in `sides.AZIMUTHS` of each picture's nearest true view, at any of the elevations."""
    views, size = sides.asked_views(), pictures.shape[-1]
    truth = world.render(
        kind, color, views.w2c, views.tan_half_fov, size, size, background=torch.zeros(1, 3)
    )
    return sides.nearest(pictures, truth.rgb, truth.alpha).argmin(1) % len(sides.AZIMUTHS)


def number_of_views(found: Int[Tensor, " b"]) -> float:
    """How many azimuths these are, counted by their shares: exp of the entropy, 1 where all are
    the same."""
    share = torch.bincount(found, minlength=len(sides.AZIMUTHS)) / len(found)
    return torch.special.entr(share).sum().exp().item()


@dataclasses.dataclass(frozen=True)
class Variety:
    """What one kind's pictures showed, beside photographs of the world."""

    spreads: dict[str, list[float]]
    """Of the `TRAITS` at the one camera: `prior`; `world`; `one_shape`, the floor."""
    views: dict[str, float]
    """`number_of_views`: `prior` without a view; `world` from cameras all around."""

    def row(self) -> dict[str, float]:
        """All numbers by name."""
        return {
            f"{trait}_{whose}": value
            for whose, values in self.spreads.items()
            for trait, value in zip(TRAITS, values, strict=True)
        } | {f"views_{whose}": value for whose, value in self.views.items()}


def examine(
    seen: Float[Tensor, "b 3 s s"],
    free: Float[Tensor, "b 3 s s"],
    kind: str,
    color: str,
    seed: int = 0,
) -> Variety:
    """Compare a prior's pictures with as many of the world.

    Args:
        seen: from `camera`, a noise each.
        free: from a caption without a view, a noise each.
        seed: of the world's objects, lamps and cameras.
    """
    count, size, at = len(seen), seen.shape[-1], camera(len(seen))
    spreads = {
        "prior": spread(seen),
        "world": spread(photographs(kind, color, at, size, seed)),
        "one_shape": spread(photographs(kind, color, at, size, seed, same=True)),
    }
    around = world.draw_views(count, AROUND, torch.Generator().manual_seed(seed))
    taken = photographs(kind, color, around, size, seed)
    views = {
        whose: number_of_views(azimuths(pictures, kind, color))
        for whose, pictures in (("prior", free), ("world", taken))
    }
    return Variety({whose: values.tolist() for whose, values in spreads.items()}, views)
