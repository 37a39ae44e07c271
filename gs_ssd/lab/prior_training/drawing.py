"""2D pictures by a prior, through its own door: DDIM, told what the pipeline tells it of each
view."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.guidance.prompts import PromptConfig, ViewPrompts
from gs_ssd.lab.world.views import Views
from gs_ssd.maths.diffusion import NUM_TIMESTEPS, ddim_step
from gs_ssd.prior.base import DiffusionPrior, VariesProportions
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.proportions import of_noise
from gs_ssd.scene.camera import Cameras


@torch.no_grad()
def draw(
    prior: DiffusionPrior,
    prompts: Sequence[str],
    views: Views | None,
    seed: int,
    *,
    one_noise: bool = True,
    steps: int = 25,
    scale: float = 4.0,
    batch: int = 32,
    variety: float = 0.0,
) -> Float[Tensor, "b 3 s s"]:
    """A picture a prompt, from its camera (`None`: the text alone decides), in 0..1.

    Args:
        one_noise: every picture starts from the same noise; false: each from its own.
        scale: guidance `eps_uncond + scale (eps_cond - eps_uncond)`.
        variety: how far each object's proportions, which its first noise gives, are from the mean
            of its kind (`prior.variety`); without a camera there is no shape to vary.

    Raises:
        UserError: variety of a prior that has no shape in mind.
    """
    if variety and not isinstance(prior, VariesProportions):
        raise UserError(
            "this prior has no shape of its own in mind whose proportions could vary; set the"
            " variety to 0"
        )
    told, null = _conditions(prior, prompts, views)
    shape = prior.encode(
        torch.zeros(1, 3, prior.image_size, prior.image_size, device=prior.device)
    ).shape[1:]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1 if one_noise else len(prompts), *shape, generator=generator)
    noise = noise.expand(len(prompts), *shape) if one_noise else noise
    parts = []
    for at in range(0, len(prompts), batch):
        some = slice(at, at + batch)
        parts.append(_denoise(prior, noise[some], told[some], null, steps, scale, variety))
    return torch.cat(parts)


def _denoise(
    prior: DiffusionPrior,
    noise: Tensor,
    told: Condition,
    null: Tensor,
    steps: int,
    scale: float,
    variety: float,
) -> Tensor:
    """Pictures by the prior itself or, with variety, each by one with the proportions in mind that
    its noise gives."""
    if not variety or told.cameras is None or not isinstance(prior, VariesProportions):
        return denoise(prior, noise.to(prior.device), told, null, steps, scale)
    return torch.cat(
        [
            denoise(
                prior.with_proportions(variety * of_noise(noise[row])),
                noise[row : row + 1].to(prior.device),
                told[row : row + 1],
                null,
                steps,
                scale,
            )
            for row in range(len(noise))
        ]
    )


def _conditions(
    prior: DiffusionPrior, prompts: Sequence[str], views: Views | None
) -> tuple[Condition, Tensor]:
    """What the pipeline tells the prior of each prompt and view, and the empty prompt's
    embedding."""
    if views is None:
        return Condition(prior.embed(list(prompts))), prior.embed([""])[0]
    made = {prompt: ViewPrompts(prior, prompt, PromptConfig()) for prompt in dict.fromkeys(prompts)}
    cameras = _cameras(views)
    rows = [made[prompt].at(cameras[row : row + 1]).main for row, prompt in enumerate(prompts)]
    return Condition.cat(rows), next(iter(made.values())).null


def _cameras(views: Views) -> Cameras:
    """As a prior is told them; only the matrices matter to it."""
    polar = (90 - views.elevation_deg).deg2rad()
    radius = views.w2c[:, :3, 3].norm(dim=1)
    return Cameras(
        views.w2c,
        views.tan_half_fov,
        64,
        64,
        views.azimuth_deg.deg2rad(),
        polar,
        radius,
        views.closeup,
    )


def denoise(
    prior: DiffusionPrior, x: Tensor, told: Condition, null: Tensor, steps: int, scale: float
) -> Tensor:
    """Pictures (0..1) out of the noise `x`, one of each condition."""
    count, abar = len(x), prior.alphas_cumprod
    both = Condition.cat([told, told.with_text(null)])
    times = [round(NUM_TIMESTEPS * (1 - step / steps)) - 1 for step in range(steps)]
    for t, after in zip(times, [*times[1:], 0], strict=True):
        label = torch.full((2 * count,), t, device=x.device)
        eps, free = prior.predict_noise(torch.cat([x, x]), label, both).chunk(2)
        x = ddim_step(x, free + scale * (eps - free), abar[t], abar[after])
    return prior.decode(x)
