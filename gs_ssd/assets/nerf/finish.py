"""The last touch on a radiance field: fog becomes a surface where its pictures show one, and specks
that float around it are swept up.

A prior of 64 pixels cannot tell an outline that fades over a pixel of its own from a sharp one.
As with splats, the field as guidance left it is the model: the new one's pictures are to be the
same with every alpha driven to 0 or 1. They are finer than the prior's, for an outline cannot be
sharper than their pixels; most rays go where there is something to sharpen, so they cost no more.
"""

import logging

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from gs_ssd.assets.nerf import fitting
from gs_ssd.assets.nerf.config import FinishConfig
from gs_ssd.assets.nerf.field import PLACES_AT_ONCE, Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import render_large, step_length
from gs_ssd.assets.nerf.to_splats import look_on
from gs_ssd.render.output import hard_edges
from gs_ssd.scene.camera import Cameras

log = logging.getLogger(__name__)

LAST_RATE = 0.2  #: of the first
NEAR_SHARE = 0.7  #: of the rays go to outlines and fog
FOG = 0.02  #: alpha; what has more, and less than 1 - FOG, is neither empty nor solid
LEAST_SHARE = 3e-4  #: of the largest connected part's opacity; parts with less are specks
PLACES = 4  #: a side, where a cell's opacity is looked up


def harden(
    field: Field, occupancy: Occupancy, config: FinishConfig, generator: torch.Generator
) -> None:
    """Fit the field to its own pictures with hard outlines, in place; fog that is solid from
    nowhere is left as it is, with a warning."""
    cameras = look_on(field, config.views, config.image_size).to(field.device)
    goal, outline = goal_of(field, occupancy, cameras, config)
    if float(goal.alpha.max()) == 0:
        log.warning("no view of the field is solid anywhere: it was left as it is, not finished")
        return

    def choose(generator: torch.Generator) -> Tensor:
        near = round(config.rays * NEAR_SHARE) if len(outline) else 0
        anywhere = torch.randint(goal.alpha.numel(), (config.rays - near,), generator=generator)
        if near == 0:
            return anywhere
        chosen = torch.randint(len(outline), (near,), generator=generator)
        return torch.cat([outline[chosen], anywhere])

    fitting.fit(field, occupancy, goal, choose, config, generator, LAST_RATE)


def goal_of(
    field: Field, occupancy: Occupancy, cameras: Cameras, config: FinishConfig
) -> tuple[fitting.Goal, Int[Tensor, " k"]]:
    """The field's own pictures with hard outlines, and the pixels that `near_outlines` finds in
    them.

    Made a view at a time, so that what they are made of never takes more memory than one view's.
    """
    size, black = (cameras.height, cameras.width), torch.zeros(1, 3, device=field.device)
    rgb = torch.empty(len(cameras), 3, *size, device=field.device)
    hard, outlines = torch.empty_like(rgb[:, :1]), []
    for view in range(len(cameras)):
        one = slice(view, view + 1)
        seen, alpha, _ = render_large(field, occupancy, cameras[one], black)
        colors, hard[one] = hard_edges(seen, alpha, config.edge)
        rgb[one] = colors * hard[one]
        outlines.append(near_outlines(alpha, hard[one]) + view * alpha.numel())
    return fitting.Goal(cameras, rgb, hard), torch.cat(outlines)


def near_outlines(
    alpha: Float[Tensor, "v 1 h w"], hard: Float[Tensor, "v 1 h w"]
) -> Int[Tensor, " k"]:
    """Pixels that lie within two of an outline, or beside one that is neither empty nor solid;
    numbers into all of them, on the CPU."""
    across = functional.max_pool2d(hard, 5, 1, 2) + functional.max_pool2d(-hard, 5, 1, 2)
    fog = ((alpha > FOG) & (alpha < 1 - FOG)).float()
    near = (across > FOG) | (functional.max_pool2d(fog, 3, 1, 1) > 0)
    return near.reshape(-1).nonzero().squeeze(1).cpu()


@torch.no_grad()
def sweep(field: Field, occupancy: Occupancy) -> int:
    """Forget the cells of connected parts that hold hardly any opacity; how many they were.

    Such a part is less than a pixel of the pictures that the field is trained with, so nothing else
    takes it away; larger ones show it as a faint speck. (A field of 32^3 cells, such as the
    quickstart's, is some 1500 solid cells; a part of less than half of one is a speck.)
    """
    cells, inside = occupancy.cells, (torch.arange(PLACES) + 0.5) / PLACES
    within = torch.stack(torch.meshgrid(inside, inside, inside, indexing="ij"), -1).reshape(-1, 3)
    found = occupancy.occupied.nonzero().cpu()
    opacity = np.zeros((cells,) * 3)
    for some in found.split(PLACES_AT_ONCE // len(within)):
        places = ((some[:, None] + within) / cells).reshape(-1, 3).to(field.device)
        alpha = 1 - torch.exp(-field.density(places) * step_length(field))
        opacity[tuple(some.T.numpy())] = alpha.view(len(some), -1).mean(1).cpu().double().numpy()
    parts, count = ndimage.label(occupancy.occupied.cpu().numpy(), np.ones((3, 3, 3)))
    held = np.bincount(parts.ravel(), opacity.ravel(), count + 1)
    specks = torch.from_numpy((held < LEAST_SHARE * held.max())[parts] & (parts > 0))
    values = occupancy.values.masked_fill(specks.to(occupancy.values.device), 0.0)
    occupancy.load(values, field.config.least_alpha)
    return int(specks.sum())
