"""Which points of space lie inside an object, and what colour its surface has there: the world as a
volume."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.lab.world.colors import Rgb
from gs_ssd.lab.world.kinds import sculpt
from gs_ssd.lab.world.sculptor import Part
from gs_ssd.lab.world.solids import contains
from gs_ssd.lab.world.tracer import stack, trace
from gs_ssd.lab.world.views import orbit

WALL = 0.05
"""Thickness of a hollow part's wall and floor, world units; the tracer's have none."""
_ELEVATIONS = (-60.0, -30.0, -10.0, 0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 5.0)
_GOLDEN_DEG = 137.5  # spreads any number of azimuths evenly


def occupied(parts: list[Part], points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Whether points in world coordinates lie inside the union of an object's parts."""
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for part in parts:
        to_local = torch.as_tensor(np.linalg.inv(part.frame)).to(points)
        local = (points - torch.as_tensor(part.center).to(points)) @ to_local.T
        width, length = (float(np.linalg.norm(part.frame[:, axis])) for axis in (0, 2))
        inside |= contains(part.form, local, part.params, wall=(WALL / width, WALL / length))
    return inside


def grid(resolution: int, half_extent: float) -> Float[Tensor, "r r r 3"]:
    """Centres of the cells of a cube around the origin; the axes are (z, y, x), the points (x, y,
    z)."""
    line = ((torch.arange(resolution) + 0.5) / resolution * 2 - 1) * half_extent
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], dim=-1)


def occupancy(
    parts: list[Part], resolution: int, half_extent: float, fine: int = 3
) -> Float[Tensor, "r r r"]:
    """The filled share of every cell, from `fine` points along each of its axes."""
    points = grid(resolution * fine, half_extent)
    inside = occupied(parts, points.reshape(-1, 3)).float().view(1, 1, *points.shape[:3])
    return torch.nn.functional.avg_pool3d(inside, fine)[0, 0]


def surface_colors(
    kind: str,
    color: str | Rgb,
    resolution: int,
    half_extent: float,
    views: int = 20,
    size: int = 72,
) -> tuple[Float[Tensor, "3 r r r"], Bool[Tensor, "r r r"]]:
    """The lit colour of the mean shape's surface, and in which cells it is known: those of it and
    two around them."""
    number = torch.arange(views)
    elevation = torch.tensor(_ELEVATIONS)[number % len(_ELEVATIONS)]
    cameras = orbit(number * _GOLDEN_DEG, elevation, 3.35, 32.0)
    layers = stack([sculpt(kind, color)])
    dark = torch.zeros(1, 3)
    seen = trace(
        layers, cameras.w2c, cameras.tan_half_fov, size, size, background=dark, supersample=1
    )
    points = _hit_points(cameras.w2c, cameras.tan_half_fov, seen.depth)
    hit = seen.alpha.flatten(1) > 0.5
    cell = ((points[hit] / half_extent + 1) / 2 * resolution).long().clamp(0, resolution - 1)
    flat = (cell[:, 2] * resolution + cell[:, 1]) * resolution + cell[:, 0]
    rows = torch.cat([seen.rgb.flatten(2).movedim(1, -1)[hit], torch.ones(len(flat), 1)], dim=1)
    total = (
        torch.zeros(resolution**3, 4).index_add_(0, flat, rows).T.reshape(1, 4, *[resolution] * 3)
    )
    known, mean = total[:, 3:] > 0, total[:, :3] / total[:, 3:].clamp(min=1)
    for _ in range(2):
        around = torch.nn.functional.avg_pool3d(
            torch.cat([mean * known, known.float()], 1), 3, 1, 1
        )
        reached = ~known & (around[:, 3:] > 0)
        mean = torch.where(reached, around[:, :3] / around[:, 3:].clamp(min=1e-6), mean)
        known = known | reached
    return mean[0], known[0, 0]


def _hit_points(w2c: Tensor, tan_half_fov: Tensor, depth: Tensor) -> Float[Tensor, "v n 3"]:
    """World points at a depth picture's pixels."""
    height, width = depth.shape[-2:]
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height * 2 - 1,
        (torch.arange(width) + 0.5) / width * 2 - 1,
        indexing="ij",
    )
    flat = torch.stack([x.flatten(), y.flatten()], -1) * tan_half_fov[:, None]
    in_camera = torch.cat([flat, torch.ones_like(flat[..., :1])], -1) * depth.flatten(1)[..., None]
    return (in_camera - w2c[:, None, :3, 3]) @ w2c[:, :3, :3]
