"""The last touch on a radiance field: fog becomes a surface where its pictures show one.

A prior of 64 pixels cannot tell an outline that fades over a pixel of its own from a sharp one.
As with splats, the field as guidance left it is the model: the new one's pictures are to be the
same with every alpha driven to 0 or 1.
"""

import logging

import torch

from gs_ssd.assets.nerf import fitting
from gs_ssd.assets.nerf.config import FinishConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import render_large
from gs_ssd.assets.nerf.to_splats import look_on
from gs_ssd.render.output import hard_edges

log = logging.getLogger(__name__)

LAST_RATE = 0.2  #: of the first


def harden(
    field: Field, occupancy: Occupancy, config: FinishConfig, generator: torch.Generator
) -> None:
    """Fit the field to its own pictures with hard outlines, in place; fog that is solid from
    nowhere is left as it is, with a warning."""
    cameras = look_on(field, config.views, config.image_size).to(field.device)
    black = torch.zeros(len(cameras), 3, device=field.device)
    rgb, alpha, _ = render_large(field, occupancy, cameras, black)
    colors, hard = hard_edges(rgb, alpha, config.edge)
    if not bool((hard > 0).any()):
        log.warning("no view of the field is solid anywhere: it was left as it is, not finished")
        return
    fitting.fit(field, occupancy, cameras, colors * hard, hard, config, generator, LAST_RATE)
