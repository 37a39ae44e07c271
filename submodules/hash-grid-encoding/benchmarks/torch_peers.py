"""The hash grid as one would write it in plain torch on a CPU, with care: the peers of the
benchmark.

Tables are split by level, for the gradient of a slice would be as large as the whole; indices of
what fits are int32.
"""

from __future__ import annotations

import torch
from hash_grid_encoding import HashGrid
from torch import Tensor
from torch.nn import functional


def corners(points: Tensor, grid: HashGrid, level: int) -> tuple[Tensor, Tensor]:
    """int64 entries [N,8] of a level and their weights [N,8]."""
    resolution = grid.resolutions[level]
    position = points * resolution
    cell = position.long().clamp_max(resolution - 1)
    fraction = position - cell
    rest = 1 - fraction
    x, y, z = (torch.stack([rest[:, axis], fraction[:, axis]], 1) for axis in range(3))
    weights = (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]).view(-1, 8)
    strides = (
        (1, 2654435761, 805459861)
        if grid.is_hashed(level)
        else (1, resolution + 1, (resolution + 1) ** 2)
    )
    i, j, k = (
        torch.stack([cell[:, axis], cell[:, axis] + 1], 1) * stride
        for axis, stride in enumerate(strides)
    )
    if grid.is_hashed(level):
        index = k[:, :, None, None] ^ j[:, None, :, None] ^ i[:, None, None, :]
        index = index & ((1 << grid.log2_entries) - 1)
    else:
        index = k[:, :, None, None] + j[:, None, :, None] + i[:, None, None, :]
    return index.view(-1, 8), weights


def split(tables: Tensor, grid: HashGrid) -> tuple[Tensor, ...]:
    return tables.split([b - a for a, b in zip(grid.offsets, grid.offsets[1:], strict=False)])


def by_index_select(points: Tensor, tables: Tensor, grid: HashGrid) -> Tensor:
    """[N,2L]; eight rows a point gathered, weighed, added."""
    features = []
    for level, table in enumerate(split(tables, grid)):
        index, weights = corners(points, grid, level)
        rows = table.index_select(0, index.view(-1)).view(-1, 8, 2)
        features.append((rows * weights[..., None]).sum(1))
    return torch.cat(features, 1)


def by_embedding_bag(points: Tensor, tables: Tensor, grid: HashGrid) -> Tensor:
    """[N,2L]; torch's own fused weighted sum of rows."""
    features = []
    for level, table in enumerate(split(tables, grid)):
        index, weights = corners(points, grid, level)
        features.append(
            functional.embedding_bag(index, table, per_sample_weights=weights, mode="sum")
        )
    return torch.cat(features, 1)


def perceptrons(inputs: Tensor, heads: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [functional.linear(functional.linear(inputs, w1).relu(), w2) for w1, w2 in heads]
