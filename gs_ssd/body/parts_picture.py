"""The picture of a body's regions: which of skin, hair, shirt, ... a camera sees where.

A person's prior is told the pose by it: geometry and occlusion are the body's own, colours are left
to the sentence.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from gs_ssd.body.body import Transforms
from gs_ssd.body.skinning import skin_points
from gs_ssd.body.surface import Surface
from gs_ssd.body.visibility import project
from gs_ssd.prior.outfit import REGIONS
from gs_ssd.scene.camera import Cameras

FINE = 2
"""Depth is compared on a grid so many times finer than the picture, along each side."""
DEPTH_STEP = 1e-4
"""World units to which depths are rounded where they are compared."""


def draw(
    surface: Surface, transforms: Transforms, cameras: Cameras, size: int
) -> Float[Tensor, "v c h w"]:
    """Share of each pixel that each of `REGIONS` covers; what is left is background.

    A fine cell counts as covered where any point of the surface falls into it, so that bodies are
    about a quarter of a pixel wider all round.

    Args:
        size: pixels a side, whatever the cameras' own size.
    """
    points = skin_points(surface.points, surface.weights, transforms)
    at, depth = project(points, cameras)
    grid = size * FINE
    scale = torch.tensor([grid / cameras.width, grid / cameras.height])
    cell = (at * scale).floor().long()
    inside = ((cell >= 0) & (cell < grid)).all(dim=-1) & (depth > 0)
    flat = (cell[..., 1] * grid + cell[..., 0]).clamp(0, grid * grid - 1)
    nearest = _nearest(flat, depth, inside, grid * grid)
    seen = torch.where(nearest < 0, len(REGIONS), surface.regions[nearest.clamp_min(0)])
    seen = _without_pinholes(seen.reshape(-1, 1, grid, grid))
    one_hot = torch.nn.functional.one_hot(seen[:, 0], len(REGIONS) + 1)[..., :-1]
    return avg_pool2d(one_hot.movedim(-1, 1).float(), FINE)


def _nearest(
    flat: Int[Tensor, "v n"], depth: Float[Tensor, "v n"], inside: Tensor, cells: int
) -> Int[Tensor, "v cells"]:
    """The nearest point in each cell, -1 where there is none; of equally near ones the first."""
    count = flat.shape[1]
    order = (depth / DEPTH_STEP).long() * count + torch.arange(count)
    order = torch.where(inside, order, torch.iinfo(torch.long).max)
    least = torch.full((len(flat), cells), torch.iinfo(torch.long).max)
    least = least.scatter_reduce(1, flat, order, "amin")
    return torch.where(least == torch.iinfo(torch.long).max, -1, least % count)


def _without_pinholes(seen: Int[Tensor, "v 1 h w"]) -> Int[Tensor, "v 1 h w"]:
    """Single empty cells between the points of a surface take a neighbour's region."""
    empty = (seen == len(REGIONS)).float()
    # Closing: what dilation and then erosion of the filled cells covers.
    grown = max_pool2d(1 - empty, 3, 1, 1)
    closed = 1 - max_pool2d(1 - grown, 3, 1, 1)
    around = torch.where(seen == len(REGIONS), -1, seen).float()
    neighbour = max_pool2d(around, 3, 1, 1).long()
    hole = (empty > 0) & (closed > 0) & (neighbour >= 0)
    return torch.where(hole, neighbour, seen)
