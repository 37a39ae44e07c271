"""A coarse grid that remembers where the field is not empty, so that rays leap over the rest."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Density = Callable[[Float[Tensor, "s 3"]], Float[Tensor, " s"]]

DECAY = 0.95  #: of what a cell remembers, an update (instant-NGP)


class Occupancy:
    """G^3 cells by x, y, z.

    `values` is the largest optical depth of a step seen in each cell, slowly forgotten.

    A cell counts as occupied where that is above the threshold, or above the mean over all cells
    where this is less: a field that is thin all over is not lost.
    """

    def __init__(self, cells: int, device: torch.device) -> None:
        self.cells, self.values = cells, torch.zeros(cells, cells, cells, device=device)
        self.occupied: Bool[Tensor, "g g g"] = torch.ones_like(self.values, dtype=torch.bool)

    @torch.no_grad()
    def update(
        self, density: Density, step: float, threshold: float, generator: torch.Generator
    ) -> None:
        """Look at one random place in every cell.

        Args:
            density: of places in 0..1.
            step: length of a step, in the density's units.
            threshold: least optical depth of a step that counts.
        """
        side = torch.arange(self.cells)
        corner = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1).reshape(-1, 3)
        places = (corner + torch.rand(len(corner), 3, generator=generator)) / self.cells
        seen = density(places.to(self.values.device)).view_as(self.values) * step
        self.load(torch.maximum(self.values * DECAY, seen), threshold)

    def load(self, values: Float[Tensor, "g g g"], threshold: float) -> None:
        """Take these values."""
        self.values = values.to(self.values.device)
        self.occupied = self.values > min(threshold, float(self.values.mean()))

    @property
    def share(self) -> float:
        """Of the cells that are occupied."""
        return float(self.occupied.float().mean())
