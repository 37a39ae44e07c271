"""A radiance field that looks as a splat does: where a run begins with a shape."""

import dataclasses

import torch
from torch import Tensor

from gs_ssd.assets.nerf import fitting
from gs_ssd.assets.nerf.config import WarmStartConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.to_splats import look_on
from gs_ssd.errors import UserError
from gs_ssd.render import renderer as splat_renderer
from gs_ssd.render.output import shrink
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians

LEAST_OPACITY = 0.05  #: of the brightest pixel of a splat that can be fitted
AT_ONCE = 4  #: views a step
FINER = 4
"""Times finer than the field's pictures those of the splat are drawn. A rasterizer of splats blurs
by half a pixel, so that at their own size every outline would lie half a pixel too far out."""


@torch.no_grad()
def pictures(splats: Gaussians, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """The splat on black and its alpha, [V,3,H,W] and [V,1,H,W]: averages over each pixel."""
    width, height = FINER * cameras.width, FINER * cameras.height
    black = torch.zeros(1, 3, device=splats.device)
    seen = []
    for view in range(len(cameras)):
        camera = dataclasses.replace(cameras[view : view + 1], width=width, height=height)
        drawn = splat_renderer.render(splats, camera, black)
        seen.append(shrink(torch.cat([drawn.rgb, drawn.alpha], dim=1), cameras.width))
    rgb, alpha = torch.cat(seen).split((3, 1), dim=1)
    return rgb, alpha


def fit(
    field: Field,
    occupancy: Occupancy,
    splats: Gaussians,
    config: WarmStartConfig,
    generator: torch.Generator,
) -> float:
    """Move the field until its pictures are the splat's; returns the mean absolute difference of
    opacity over the last tenth of the steps.

    Args:
        splats: on the field's device, world units.

    Raises:
        UserError: nothing of the splat is to be seen within the field's box.
    """
    cameras = look_on(field, config.views, config.image_size).to(field.device)
    rgb, alpha = pictures(splats, cameras)
    if float(alpha.max()) < LEAST_OPACITY:
        raise UserError(
            "initialize: nothing of the shape can be seen; is it far outside of nerf.radius="
            f"{field.config.radius:g}, or too faint (initialize.opacity)?"
        )
    goal = fitting.Goal(cameras, rgb, alpha)
    choose = fitting.whole_views(goal, AT_ONCE)
    return fitting.fit(field, occupancy, goal, choose, config, generator)
