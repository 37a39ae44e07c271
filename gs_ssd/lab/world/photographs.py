"""Random pictures of the world, with what a caption needs to know about them."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from gs_ssd.lab.world.colors import COLORS, Rgb
from gs_ssd.lab.world.kinds import kinds, sculpt
from gs_ssd.lab.world.tracer import Layer, Light, stack, trace
from gs_ssd.lab.world.views import CameraLaw, Views, draw_views
from gs_ssd.maths.color import quantize


@dataclasses.dataclass(frozen=True)
class Studio:
    """How much light and background differ from picture to picture."""

    light_turn: float = 0.25  # spread added to the lamp's unit direction
    light_strength: float = 0.12  # relative
    paint: float = 0.05  # spread of each channel of an object's colour
    white_share: float = 0.20
    black_share: float = 0.07
    gray_share: float = 0.35  # the rest is any colour


class Photographs(NamedTuple):
    rgb: Tensor  # [B,3,S,S] uint8
    alpha: Tensor  # [B,1,S,S] uint8
    kind: Tensor  # [B], index into kinds()
    color: Tensor  # [B], index into colors()
    views: Views


def photograph(
    kind: str,
    count: int,
    size: int,
    generator: torch.Generator,
    *,
    law: CameraLaw | None = None,
    studio: Studio | None = None,
    views: Views | None = None,
    background: Tensor | None = None,
    supersample: int = 2,
) -> Photographs:
    """Pictures of `count` different objects of one kind, all random but `views` and `background
    [1,3]`, if given.

    Every draw comes from `generator`, and the pictures are made on its device.
    """
    studio, device = studio or Studio(), generator.device
    views = views or draw_views(count, law or CameraLaw(), generator)
    seeds = torch.randint(2**31, (count,), generator=generator, device=device).tolist()
    color = torch.randint(len(COLORS), (count,), generator=generator, device=device)
    paints = list(COLORS.values())
    objects = [
        sculpt(kind, paints[index], seed) for index, seed in zip(color.tolist(), seeds, strict=True)
    ]
    layers = stack(objects, device)
    _repaint(layers, [paints[index] for index in color.tolist()], studio.paint, generator)
    background = draw_backgrounds(count, generator, studio) if background is None else background
    light = draw_lights(count, studio, generator)
    picture = trace(
        layers,
        views.w2c,
        views.tan_half_fov,
        size,
        size,
        background=background,
        light=light,
        supersample=supersample,
    )
    rgb, alpha = (quantize(x) for x in (picture.rgb, picture.alpha))
    return Photographs(rgb, alpha, torch.full_like(color, kinds().index(kind)), color, views)


def _repaint(
    layers: list[Layer], paints: list[Rgb], spread: float, generator: torch.Generator
) -> None:
    """Shift the colour of each object, the same for all parts that wear its main paint."""
    main = torch.tensor(paints, device=generator.device)
    shift = spread * (2 * torch.rand(main.shape, generator=generator, device=main.device) - 1)
    for layer in layers:
        worn = ((layer.color - main).abs() < 1e-6).all(1, keepdim=True)
        layer.color.copy_(torch.where(worn, (main + shift).clamp(0, 1), layer.color))


def draw_backgrounds(
    count: int, generator: torch.Generator, studio: Studio | None = None
) -> Tensor:
    """Plain colours `[B,3]` by the studio's shares."""
    studio, device = studio or Studio(), generator.device
    pick = torch.rand(count, 1, generator=generator, device=device)
    any_color = torch.rand(count, 3, generator=generator, device=device)
    gray = any_color[:, :1].expand(-1, 3)
    white, black = studio.white_share, studio.white_share + studio.black_share
    out = torch.where(pick < black + studio.gray_share, gray, any_color)
    out = torch.where(pick < black, torch.zeros_like(gray), out)
    return torch.where(pick < white, torch.ones_like(gray), out)


def draw_lights(count: int, studio: Studio, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lamps: directions `[B,3]` and strengths `[B,3]`, as `trace` takes them."""
    toward, strength = Light().tensors(count, generator.device)
    turn = studio.light_turn * torch.randn(count, 3, generator=generator, device=generator.device)
    factor = 1 + studio.light_strength * (
        2 * torch.rand(count, 3, generator=generator, device=generator.device) - 1
    )
    return torch.nn.functional.normalize(toward + turn, dim=1), strength * factor
