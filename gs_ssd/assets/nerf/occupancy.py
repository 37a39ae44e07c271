"""A coarse grid that remembers where the field is not empty, so that rays leap over the rest."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.assets.nerf.field import PLACES_AT_ONCE

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
        side, parts = self.cells, []
        for cell in torch.arange(side**3).split(PLACES_AT_ONCE):
            corner = torch.stack((cell // side**2, cell // side % side, cell % side), dim=-1)
            places = (corner + torch.rand(len(cell), 3, generator=generator)) / side
            parts.append(density(places.to(self.values.device)))
        seen = torch.cat(parts).view_as(self.values) * step
        self.load(torch.maximum(self.values * DECAY, seen), threshold)

    def load(self, values: Float[Tensor, "g g g"], threshold: float) -> None:
        """Take these values."""
        self.values = values.to(self.values.device)
        self.occupied = self.values > min(threshold, float(self.values.mean()))

    @property
    def share(self) -> float:
        """Of the cells that are occupied."""
        return float(self.occupied.float().mean())
