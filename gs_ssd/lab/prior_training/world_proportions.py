"""How much the world's objects of a kind differ by the numbers of `gs_ssd.prior.proportions`, read
off their volumes."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gs_ssd.lab import world
from gs_ssd.lab.world.occupancy import grid, occupied
from gs_ssd.prior.proportions import filled_cells

RESOLUTION, HALF_EXTENT = 40, 0.875
SLICES = 8
"""Of the height, in which a radius is read."""


def spreads(kinds: Sequence[str], seeds: Sequence[int]) -> Float[Tensor, "k 4"]:
    """Standard deviations of `proportions` over the seeds, a row a kind: `SPREADS` is the root mean
    square of all kinds'."""
    rows = []
    for kind in kinds:
        mean = _cells(kind, None)
        rows.append(torch.stack([proportions(_cells(kind, seed), mean) for seed in seeds]).std(0))
    return torch.stack(rows)


def _cells(kind: str, seed: int | None) -> Float[Tensor, "n 3"]:
    points = grid(RESOLUTION, HALF_EXTENT)
    inside: Bool[Tensor, "r r r"] = occupied(
        world.sculpt(kind, "red", seed), points.reshape(-1, 3)
    ).view(points.shape[:3])
    return filled_cells(inside, HALF_EXTENT)


def proportions(filled: Float[Tensor, "n 3"], mean: Float[Tensor, "m 3"]) -> Float[Tensor, "4"]:
    """The four numbers, not yet divided by `SPREADS`, that turn a mean shape into one that fills
    these points."""
    change = filled.std(0).log() - mean.std(0).log()
    (radius, count), (mean_radius, mean_count) = _profile(filled), _profile(mean)
    height = (torch.arange(SLICES) + 0.5) / SLICES * 2 - 1
    basis = torch.stack([torch.ones(SLICES), height, 1.5 * height.square() - 0.5], 1)
    weight = ((count > 0) * mean_count.sqrt())[:, None]
    difference = (radius - mean_radius)[:, None]
    found = torch.linalg.lstsq(weight * basis, weight * difference).solution[1:, 0]
    tall, wide = change[2] - (change[0] + change[1]) / 2, change[0] - change[1]
    return torch.stack([tall, wide, *found])


def _profile(filled: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " s"], Int[Tensor, " s"]]:
    """Log root mean square distance from the axis, and how many cells, in every slice."""
    low, high = filled[:, 2].aminmax()
    slices = ((filled[:, 2] - low) / (high - low) * SLICES).long().clamp(0, SLICES - 1)
    away = (filled[:, :2] - filled[:, :2].mean(0)).square().sum(1)
    count = torch.bincount(slices, minlength=SLICES)
    square = torch.zeros(SLICES).index_add_(0, slices, away) / count.clamp(min=1)
    return square.clamp(min=1e-6).log() / 2, count
