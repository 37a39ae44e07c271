"""Moving a radiance field until its pictures are those that are given; no prior takes part."""

import dataclasses
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.assets.nerf.config import FinishConfig, WarmStartConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import rays_through, step_length, trace
from gs_ssd.scene.camera import Cameras

LOOK_EVERY = 8  #: steps between two looks into the occupancy grid's cells

Choice = Callable[[torch.Generator], Int[Tensor, " k"]]
"""Which pixels the next step looks at: numbers into all views' pixels, row by row."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """Pictures of V views, `rgb` on black."""

    cameras: Cameras
    rgb: Float[Tensor, "v 3 h w"]
    alpha: Float[Tensor, "v 1 h w"]


def whole_views(goal: Goal, at_once: int) -> Choice:
    """So many views a step, all of their pixels."""
    views, pixels = len(goal.cameras), goal.alpha[0].numel()

    def choose(generator: torch.Generator) -> Tensor:
        some = torch.randperm(views, generator=generator)[:at_once]
        return (some[:, None] * pixels + torch.arange(pixels)).reshape(-1)

    return choose


def fit(
    field: Field,
    occupancy: Occupancy,
    goal: Goal,
    choose: Choice,
    config: WarmStartConfig | FinishConfig,
    generator: torch.Generator,
    last_rate: float = 1.0,
) -> float:
    """Returns the mean absolute difference of opacity over the last tenth of the steps.

    Args:
        last_rate: of the last step, as a share of the first's; in between they fall exponentially.
    """
    adam = torch.optim.Adam(field.groups(config), betas=(0.9, 0.99), eps=1e-15)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, last_rate ** (1 / config.steps))
    adam.zero_grad(set_to_none=True)  # of a step of guidance before
    colors, alphas = goal.rgb.flatten(2), goal.alpha.reshape(-1)
    per_view = goal.alpha[0].numel()
    left = []
    for index in range(config.steps):
        some = choose(generator).to(field.device)
        color = torch.rand(len(some), 3, generator=generator).to(field.device)
        alpha = alphas[some]
        want = colors[some // per_view, :, some % per_view] + color * (1 - alpha[:, None])
        # Of these pixels alone: the rays of 24 pictures of 256 pixels would take 36 MiB.
        origins, directions = rays_through(goal.cameras, some)
        have = trace(field, occupancy, origins, directions, generator=generator)
        gap = (have.opacity - alpha).abs().mean()
        ((have.rgb + color * (1 - have.opacity[:, None]) - want).abs().mean() + gap).backward()
        adam.step()
        schedule.step()
        adam.zero_grad(set_to_none=True)
        if index >= 0.9 * config.steps:
            left.append(float(gap.detach()))
        if index % LOOK_EVERY == LOOK_EVERY - 1:
            step, least = step_length(field), field.config.least_alpha
            occupancy.update(field.density, step, least, generator)
    return sum(left) / max(len(left), 1)
