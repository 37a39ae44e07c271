"""A ray tracer for stacks of objects: nearest hit, smooth light, exact coverage by supersampling;
any torch device."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from gs_ssd.lab.world.sculptor import Form, Part
from gs_ssd.lab.world.solids import hit_distance, normal_at


@dataclasses.dataclass(frozen=True)
class Light:
    """A lamp that is fixed in the world plus a weak one at the camera.

    Brightness 1 shows a surface's own colour."""

    direction: tuple[float, float, float] = (-0.35, 0.50, 0.79)
    key: float = 0.44
    head: float = 0.20
    ambient: float = 0.40

    def tensors(self, views: int, device: torch.device | str | None) -> tuple[Tensor, Tensor]:
        """Directions `[V,3]` (unit) and strengths `[V,3]` (key, head, ambient)."""
        direction = torch.nn.functional.normalize(
            torch.tensor([self.direction], device=device), dim=1
        )
        strength = torch.tensor([[self.key, self.head, self.ambient]], device=device)
        return direction.expand(views, 3), strength.expand(views, 3)


class Layer(NamedTuple):
    """The same part of all objects of a stack.

    B is 1 (one object, many views) or the number of views."""

    form: Form
    to_local: Tensor  # [B,3,3]
    center: Tensor  # [B,3]
    color: Tensor  # [B,3]
    params: Tensor  # [B,3]


class Picture(NamedTuple):
    rgb: Tensor  # [V,3,H,W], 0..1, on the background
    alpha: Tensor  # [V,1,H,W], covered share of the pixel
    depth: Tensor  # [V,1,H,W], alpha times the mean z of what covers the pixel


def stack(objects: list[list[Part]], device: torch.device | str | None = None) -> list[Layer]:
    """Layers of objects of one kind (the same parts in the same order)."""
    layers = []
    for parts in zip(*objects, strict=True):
        frames = torch.tensor([part.frame.tolist() for part in parts], dtype=torch.float64)
        rows = [[*part.center, *part.color, *part.params] for part in parts]
        center, color, params = torch.tensor(rows, dtype=torch.float32, device=device).split(
            3, dim=1
        )
        to_local = torch.linalg.inv(frames).to(device=device, dtype=torch.float32)
        layers.append(Layer(parts[0].form, to_local, center, color, params))
    return layers


def trace(
    layers: list[Layer],
    w2c: Tensor,
    tan_half_fov: Tensor,
    width: int,
    height: int,
    *,
    background: Tensor | None = None,
    light: tuple[Tensor, Tensor] | None = None,
    supersample: int = 2,
) -> Picture:
    """Pictures of a stack seen by OpenCV cameras.

    Args:
        layers: from `stack`, for one object or one per view.
        w2c: `[V,4,4]`, world to camera.
        tan_half_fov: `[V,2]` (x, y).
        background: `[V,3]` or `[1,3]`, white by default.
        light: directions `[V,3]` and strengths `[V,3]`, see `Light.tensors`.
        supersample: rays per pixel along each axis.
    """
    views, device = len(w2c), w2c.device
    lamp = light if light is not None else Light().tensors(views, device)
    c2w = w2c[:, :3, :3].transpose(1, 2)
    eye = -(c2w @ w2c[:, :3, 3:])
    rays = c2w @ pixel_rays(tan_half_fov, width * supersample, height * supersample)
    shade, nearest, winner = cast(layers, eye, rays, lamp)

    hit = (winner >= 0).unsqueeze(1).to(rays.dtype)
    depth = torch.where(hit > 0, nearest.unsqueeze(1), 0.0)  # camera rays have z = 1, so t is depth
    shade, alpha, depth = (_pool(x, width, height, supersample) for x in (shade, hit, depth))
    backdrop = torch.ones(1, 3, device=device) if background is None else background
    return Picture((shade + (1 - alpha) * backdrop[:, :, None, None]).clamp(0, 1), alpha, depth)


def cast(
    layers: list[Layer], eye: Tensor, rays: Tensor, light: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What rays `[V,3,R]` from eyes `[V,3,1]` meet first.

    Returns:
        Lit colours `[V,3,R]` (black at a miss), ray parameters `[V,R]` (infinite at a miss) and the
            number of the layer `[V,R]` (-1 at a miss).
    """
    toward, strength = light
    nearest = torch.full_like(rays[:, 0], torch.inf)
    winner = torch.full_like(nearest, -1, dtype=torch.int16)
    for index, layer in enumerate(layers):
        origin = layer.to_local @ (eye - layer.center[:, :, None])
        t = hit_distance(layer.form, origin, layer.to_local @ rays, layer.params)
        closer = t < nearest
        nearest = torch.where(closer, t, nearest)
        winner.masked_fill_(closer, index)

    shade = torch.zeros_like(rays)
    for index, layer in enumerate(layers):
        view, ray = (winner == index).nonzero(as_tuple=True)
        which = view if len(layer.center) > 1 else torch.zeros_like(view)
        direction = rays[view, :, ray]
        point = eye[view, :, 0] + nearest[view, ray, None] * direction - layer.center[which]
        local = torch.einsum("mij,mj->mi", layer.to_local[which], point)
        normal = torch.einsum(
            "mji,mj->mi", layer.to_local[which], normal_at(layer.form, local, layer.params[which])
        )
        shade[view, :, ray] = _lit(
            layer.color[which], normal, direction, toward[view], strength[view]
        )
    return shade, nearest, winner


def pixel_rays(tan_half_fov: Tensor, width: int, height: int) -> Tensor:
    """Directions through the pixel centres in camera coordinates, z = 1, `[V,3,H*W]`."""
    x = (torch.arange(width, device=tan_half_fov.device) + 0.5) / width * 2 - 1
    y = (torch.arange(height, device=tan_half_fov.device) + 0.5) / height * 2 - 1
    grid = torch.stack(
        [x.expand(height, width).reshape(-1), y[:, None].expand(height, width).reshape(-1)]
    )
    xy = tan_half_fov[:, :, None] * grid
    return torch.cat([xy, torch.ones_like(xy[:, :1])], 1)


def _lit(
    color: Tensor, normal: Tensor, direction: Tensor, toward: Tensor, strength: Tensor
) -> Tensor:
    """Half-Lambert key light (wraps round, so no part is lost in black), headlight and ambient,
    `[M,3]`."""
    normal = torch.nn.functional.normalize(normal, dim=1)
    facing = -(normal * torch.nn.functional.normalize(direction, dim=1)).sum(1)
    inside = (
        facing < 0
    )  # the inner wall of a hollow part: shaded as seen, and darker, for little light gets there
    normal = torch.where(inside[:, None], -normal, normal)
    wrapped = (0.5 + 0.5 * (normal * toward).sum(1)) ** 1.5
    brightness = (strength * torch.stack([wrapped, facing.abs(), torch.ones_like(wrapped)], 1)).sum(
        1
    )
    return (color * (brightness * torch.where(inside, 0.6, 1.0))[:, None]).clamp(0, 1)


def _pool(x: Tensor, width: int, height: int, supersample: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(
        x.unflatten(-1, (height * supersample, width * supersample)), supersample
    )
