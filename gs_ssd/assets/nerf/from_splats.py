"""A radiance field that looks as a splat does: where a run begins with a shape."""

import torch

from gs_ssd.assets.nerf.config import WarmStartConfig
from gs_ssd.assets.nerf.field import NETWORKS, TABLES, Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import render, step_length
from gs_ssd.assets.nerf.to_splats import look_on
from gs_ssd.errors import UserError
from gs_ssd.render import renderer as splat_renderer
from gs_ssd.scene.gaussians import Gaussians

LOOK_EVERY = 8  #: steps between two looks into the occupancy grid's cells
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
    cameras = look_on(field, config).to(field.device)
    with torch.no_grad():
        want = splat_renderer.render(
            splats, cameras, torch.zeros(len(cameras), 3, device=field.device)
        )
    if float(want.alpha.max()) < LEAST_OPACITY:
        raise UserError(
            "initialize: nothing of the shape can be seen; is it far outside of nerf.radius="
            f"{field.config.radius:g}, or too faint (initialize.opacity)?"
        )
    parameters = field.parameters
    adam = torch.optim.Adam(
        [
            {"params": [parameters[TABLES]], "lr": config.table_rate},
            {"params": [parameters[name] for name in NETWORKS], "lr": config.network_rate},
        ],
        betas=(0.9, 0.99),
        eps=1e-15,
    )
    left = []
    for index in range(config.steps):
        some = torch.randperm(len(cameras), generator=generator)[:4]
        color = torch.rand(len(some), 3, generator=generator).to(field.device)
        goal = want.rgb[some] + color[:, :, None, None] * (1 - want.alpha[some])
        have = render(field, occupancy, cameras[some], color, generator=generator)
        gap = (have.alpha - want.alpha[some]).abs().mean()
        ((have.rgb - goal).abs().mean() + gap).backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        if index >= 0.9 * config.steps:
            left.append(float(gap.detach()))
        if index % LOOK_EVERY == LOOK_EVERY - 1:
            step, least = step_length(field), field.config.least_alpha
            occupancy.update(field.density, step, least, generator)
    return sum(left) / max(len(left), 1)
