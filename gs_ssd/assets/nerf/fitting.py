"""Moving a radiance field until its pictures are those that are given; no prior takes part."""

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.assets.nerf.config import FinishConfig, WarmStartConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import render, step_length
from gs_ssd.scene.camera import Cameras

LOOK_EVERY = 8  #: steps between two looks into the occupancy grid's cells
AT_ONCE = 4  #: views a step


def fit(
    field: Field,
    occupancy: Occupancy,
    cameras: Cameras,
    rgb: Float[Tensor, "v 3 h w"],
    alpha: Float[Tensor, "v 1 h w"],
    config: WarmStartConfig | FinishConfig,
    generator: torch.Generator,
    last_rate: float = 1.0,
) -> float:
    """Returns the mean absolute difference of opacity over the last tenth of the steps.

    Args:
        rgb: on black.
        last_rate: of the last step, as a share of the first's; in between they fall exponentially.
    """
    adam = torch.optim.Adam(field.groups(config), betas=(0.9, 0.99), eps=1e-15)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, last_rate ** (1 / config.steps))
    adam.zero_grad(set_to_none=True)  # of a step of guidance before
    left = []
    for index in range(config.steps):
        some = torch.randperm(len(cameras), generator=generator)[:AT_ONCE]
        color = torch.rand(len(some), 3, generator=generator).to(field.device)
        goal = rgb[some] + color[:, :, None, None] * (1 - alpha[some])
        have = render(field, occupancy, cameras[some], color, generator=generator)
        gap = (have.alpha - alpha[some]).abs().mean()
        ((have.rgb - goal).abs().mean() + gap).backward()
        adam.step()
        schedule.step()
        adam.zero_grad(set_to_none=True)
        if index >= 0.9 * config.steps:
            left.append(float(gap.detach()))
        if index % LOOK_EVERY == LOOK_EVERY - 1:
            step, least = step_length(field), field.config.least_alpha
            occupancy.update(field.density, step, least, generator)
    return sum(left) / max(len(left), 1)
