"""How well the shape that a prior has in mind fills the true one."""

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from gs_ssd.lab import world
from gs_ssd.lab.world.occupancy import grid, occupied

if TYPE_CHECKING:
    from gs_ssd.prior.volume_prior import VolumePrior

FINE = 2
"""Points along each axis of a cell at which both are asked."""


@torch.no_grad()
def shape_iou(prior: "VolumePrior", kind: str, prompt: str) -> float:
    """Intersection over union in space of the volume of `prompt`, cut at one half, with the kind's
    mean shape."""
    shape = prior.volume.config
    logits = prior.volume_of(prior.embed([prompt])[0]).cpu()
    filled = (
        functional.interpolate(logits[None, :1], scale_factor=float(FINE), mode="trilinear")[0, 0]
        > 0
    )
    points = grid(shape.resolution * FINE, shape.half_extent)
    true = occupied(world.sculpt(kind, "red"), points.reshape(-1, 3)).view_as(filled)
    return ((filled & true).sum() / (filled | true).sum()).item()
