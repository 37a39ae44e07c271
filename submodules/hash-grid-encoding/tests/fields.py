"""Random grids, perceptrons, rays; and a whole radiance field with the orientation loss, on either
backend."""

from typing import NamedTuple

import torch
from hash_grid_encoding import Box, HashGrid, Samples, composite, encode, march, mlps
from torch import Tensor

# Without and with a hash, whole numbers of cells or not.
GRID = HashGrid(levels=8, log2_entries=12, base_resolution=4, scale=1.5)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_points(count: int, seed: int) -> Tensor:
    """[N,3] in and around the unit cube, of 11 binary digits: float32 holds their places in every
    cell exactly."""
    return torch.randint(-50, 2100, (count, 3), generator=generator(seed)) / 2048


def some_tables(grid: HashGrid, seed: int) -> Tensor:
    return torch.randn(grid.num_entries, 2, generator=generator(seed))


def some_weights(inputs: int, hidden: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = generator(seed)
    return (
        torch.randn(hidden, inputs, generator=rng) / 4,
        torch.randn(outputs, hidden, generator=rng) / 4,
    )


def some_samples(counts: list[int], seed: int) -> Samples:
    """As many on each ray; positions do not matter."""
    offsets = torch.tensor([0, *counts]).cumsum(0)
    ray = torch.repeat_interleave(torch.arange(len(counts)), offsets.diff())
    t = torch.rand(len(ray), generator=generator(seed))
    return Samples(offsets, ray, t, torch.zeros(len(ray), 3))


def relative(have: Tensor, want: Tensor) -> float:
    """L2 norm of the difference over that of `want`."""
    have, want = have.detach().double(), want.detach().double()
    return float((have - want).norm() / want.norm().clamp_min(1e-30))


class Field(NamedTuple):
    """Parameters of a radiance field over GRID."""

    tables: Tensor
    density1: Tensor
    density2: Tensor
    color1: Tensor
    color2: Tensor

    def to(self, dtype: torch.dtype) -> "Field":
        return Field(*(tensor.detach().to(dtype).requires_grad_() for tensor in self))


def some_field(seed: int) -> Field:
    size = GRID.num_features
    return Field(
        some_tables(GRID, seed),
        *some_weights(size, 32, 1, seed),
        *some_weights(size, 32, 3, seed + 1),
    )


def some_rays(seed: int, count: int = 40, dtype: torch.dtype = torch.float32) -> Samples:
    """Samples of rays that look at the box [-1, 1]^3 from around it, in a third of its cells."""
    rng = generator(seed)
    origins = 2.5 * torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=1)
    directions = torch.nn.functional.normalize(
        torch.rand(count, 3, generator=rng) - 0.5 - origins, dim=1
    )
    occupied = torch.rand(6, 6, 6, generator=rng) < 0.3
    jitter = torch.rand(count, generator=rng)
    box = Box((-1.0,) * 3, (1.0,) * 3)
    return march(origins.to(dtype), directions.to(dtype), occupied, box, 0.05, jitter.to(dtype))


def losses(field: Field, samples: Samples, backend: str | None) -> tuple[Tensor, Tensor]:
    """A photometric loss, and the orientation loss on analytic normals with their graph."""
    positions = samples.positions.detach().to(field.tables.dtype).requires_grad_()
    t = samples.t.to(field.tables.dtype)
    samples = samples._replace(t=t)
    features = encode(positions, field.tables, GRID, backend=backend)
    heads = ((field.density1, field.density2), (field.color1, field.color2))
    raw, color = mlps(features, heads, backend=backend)
    sigma, color = torch.nn.functional.softplus(raw[:, 0] + 1), color.sigmoid()
    out = composite(samples, sigma, color, 0.05, backend=backend)
    picture = (out.rgb - 0.3).square().sum() + (out.depth * out.opacity).sum()
    (slope,) = torch.autograd.grad(sigma.sum(), positions, create_graph=True)
    normals = -torch.nn.functional.normalize(slope, dim=1)
    towards = torch.tensor([0.36, 0.48, 0.8], dtype=normals.dtype)
    orientation = (out.weights.detach() * (normals @ towards).clamp_min(0).square()).sum()
    return picture, orientation
