"""The same in plain torch: any device, any float dtype, twice differentiable by autograd; slow, and
written to be read.

The native backend's tests hold it to this in float64; tensors on other devices than the CPU use it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .grid import HashGrid

PRIMES = (1, 2654435761, 805459861)


def encode(points: Tensor, tables: Tensor, grid: HashGrid, levels_on: int) -> Tensor:
    """points [N,3], tables [E,2] -> features [N,2L]."""
    features = [encode_level(points, tables, grid, level) for level in range(levels_on)]
    masked = points.new_zeros(points.shape[0], 2 * (grid.levels - levels_on))
    return torch.cat([*features, masked], dim=1)


def encode_level(points: Tensor, tables: Tensor, grid: HashGrid, level: int) -> Tensor:
    """[N,2]: the trilinear mix of the eight vertices around each point."""
    resolution = grid.resolutions[level]
    position = points.clamp(0, 1) * resolution
    cell = position.detach().floor().clamp(max=resolution - 1)
    fraction = position - cell
    total = points.new_zeros(points.shape[0], 2)
    for corner in range(8):
        bits = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2], device=points.device)
        weight = torch.where(bits.bool(), fraction, 1 - fraction).prod(dim=1)
        index = grid.offsets[level] + vertex_index(cell.long() + bits, grid, level)
        total = total + weight[:, None] * tables[index]
    return total


def vertex_index(vertex: Tensor, grid: HashGrid, level: int) -> Tensor:
    """Entry within the level of vertices int64 [N,3]."""
    side = grid.resolutions[level] + 1
    if not grid.is_hashed(level):
        return vertex[:, 0] + side * (vertex[:, 1] + side * vertex[:, 2])
    x, y, z = (vertex[:, axis] * prime for axis, prime in enumerate(PRIMES))
    return (x ^ y ^ z) % (grid.offsets[level + 1] - grid.offsets[level])


def mlp(inputs: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    """inputs [N,I], w1 [H,I], w2 [O,H] -> [N,O]."""
    return torch.relu(inputs @ w1.T) @ w2.T


def march(
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor,
    occupied: Tensor,
    low: Tensor,
    high: Tensor,
    step: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """ray [S], t [S], positions [S,3] (0..1 in the box): every step of every ray is looked at."""
    size = high - low
    start, slope = (origins - low) / size, directions / size
    a, b = -start / slope, (1 - start) / slope
    inside = (start >= 0) & (start < 1)
    still = slope == 0
    enter = torch.where(
        still, torch.where(inside, -torch.inf, torch.inf), torch.minimum(a, b)
    ).amax(1)
    leave = torch.where(
        still, torch.where(inside, torch.inf, -torch.inf), torch.maximum(a, b)
    ).amin(1)
    first = enter.clamp_min(0) + jitter * step
    count = torch.where(
        leave.isfinite() & (leave > first), ((leave - first) / step).ceil(), 0
    ).long()
    ray = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    index = torch.arange(len(ray), device=count.device) - (count.cumsum(0) - count)[ray]
    t = first[ray] + index * step
    positions = (start[ray] + t[:, None] * slope[ray]).clamp(0, 1)
    cell = (positions * occupied.shape[0]).long().clamp_max(occupied.shape[0] - 1)
    here = occupied[cell[:, 0], cell[:, 1], cell[:, 2]]
    return ray[here], t[here], positions[here]


def padded(values: Tensor, offsets: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """[S,...] -> [R,M,...], M the most samples of a ray, and a mask [R,M] of what is there."""
    counts = offsets.diff()
    most = int(counts.max()) if len(counts) else 0
    there = torch.arange(most, device=values.device) < counts[:, None]
    out = values.new_full((*there.shape, *values.shape[1:]), fill)
    return (
        out.masked_scatter(
            there.view(*there.shape, *[1] * (values.dim() - 1)).expand_as(out), values
        ),
        there,
    )


def composite(
    offsets: Tensor, sigmas: Tensor, colors: Tensor, t: Tensor, step: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """weights [S], opacity [R], depth [R], rgb [R,3]; colors [S,3]."""
    density, there = padded(sigmas * step, offsets, 0.0)
    passed = density.cumsum(1)
    weights = torch.exp(density - passed) * -torch.expm1(-density)
    depth = (weights * padded(t, offsets, 0.0)[0]).sum(1)
    rgb = (weights[..., None] * padded(colors, offsets, 0.0)[0]).sum(1)
    return weights[there], weights.sum(1), depth, rgb


def visible(
    offsets: Tensor, sigmas: Tensor, step: float, min_alpha: float, min_light: float
) -> Tensor:
    """bool [S]."""
    density, there = padded(sigmas * step, offsets, 0.0)
    alpha = -torch.expm1(-density)
    counted = torch.where(alpha >= min_alpha, density, 0.0)
    light = torch.exp(counted - counted.cumsum(1))
    return ((alpha >= min_alpha) & (light >= min_light))[there]
