"""A radiance field that looks as a splat does: where a run begins with a shape."""

import torch

from gs_ssd.assets.nerf import fitting
from gs_ssd.assets.nerf.config import WarmStartConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.to_splats import look_on
from gs_ssd.errors import UserError
from gs_ssd.render import renderer as splat_renderer
from gs_ssd.scene.gaussians import Gaussians

LEAST_OPACITY = 0.05  #: of the brightest pixel of a splat that can be fitted


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
    with torch.no_grad():
        want = splat_renderer.render(
            splats, cameras, torch.zeros(len(cameras), 3, device=field.device)
        )
    if float(want.alpha.max()) < LEAST_OPACITY:
        raise UserError(
            "initialize: nothing of the shape can be seen; is it far outside of nerf.radius="
            f"{field.config.radius:g}, or too faint (initialize.opacity)?"
        )
    return fitting.fit(field, occupancy, cameras, want.rgb, want.alpha, config, generator)
