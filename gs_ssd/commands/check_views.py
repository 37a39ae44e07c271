"""What `gs-ssd check-model` asks a prior that predicts several views together, beside the rest."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gs_ssd.bounds import Bounds
from gs_ssd.commands.check import Check, within
from gs_ssd.maths.diffusion import add_noise, ddim_step
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

NOISY = (500, 700, 900)
"""Timesteps at which a view says little of itself, and the others much."""
LEAST_SEEN = 1e-3
LEAST_GAIN = 1e-3
"""By what share a group's error must be smaller than that of mixed groups. To a prior that is blind
to the other views they are the same, and rounding would decide."""
ROUNDING = {torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""What another order of the tokens may change, as a share of the prediction."""


def see_one_another(
    prior: DiffusionPrior, text: Tensor, group: int, measured: dict[str, Any]
) -> Iterator[Check]:
    """Whether a view's prediction depends on the other views, and on their order not at all.

    True of any weights that are read rightly, random ones too.
    """
    x = _noise(prior, group, seed=0)
    other = torch.cat([x[:1], _noise(prior, group, seed=1)[1:]])
    t = torch.full((group,), 500, device=prior.device)
    told = _around(prior, text, group)
    alone, among_others = (prior.predict_noise(z, t, told) for z in (x, other))
    seen = _share(among_others[:1] - alone[:1], alone[:1])
    measured["change_by_the_other_views"] = seen
    yield within(
        "views see one another",
        seen,
        Bounds(low=LEAST_SEEN),
        f"other neighbours change a view's prediction by {seen:.2g} of its size",
    )
    order = torch.arange(group - 1, -1, -1, device=prior.device)
    reordered = prior.predict_noise(x[order], t, told[order])
    change = _share(reordered - alone[order], alone)
    measured["change_by_the_order_of_the_views"] = change
    yield within(
        "order of the views",
        change,
        Bounds(high=ROUNDING.get(prior.dtype, 1e-3)),
        f"another order changes the predictions by {change:.2g} of their size",
    )


def belong_together(
    prior: DiffusionPrior, text: Tensor, null: Tensor, group: int, measured: dict[str, Any]
) -> Check:
    """Whether views of one object predict one another better than views of two: a question to
    trained weights.

    Two groups are sampled; then every second view changes places with the other group's.
    """
    first, second = (_sample_group(prior, text, null, group, seed) for seed in (0, 1))
    odd = (torch.arange(group, device=prior.device) % 2 == 1).view(-1, 1, 1, 1)
    mixed = torch.where(odd, second, first), torch.where(odd, first, second)
    together = _error(prior, text, first) + _error(prior, text, second)
    apart = sum(_error(prior, text, views) for views in mixed)
    ratio = together / apart
    measured["noise_error_of_a_group_over_mixed_groups"] = ratio
    return within(
        "views belong together",
        ratio,
        Bounds(high=1 - LEAST_GAIN),
        f"{ratio:.3f} x the error of views of two objects",
    )


def _around(prior: DiffusionPrior, text: Tensor, group: int) -> Condition:
    """One sentence seen from evenly around, 15 degrees up."""
    azimuths = [2 * math.pi * view / group for view in range(group)]
    cameras = at_angles(
        azimuths,
        [math.radians(75)] * group,
        radius=3.75,
        fov_y_rad=math.radians(30),
        size=prior.image_size,
    )
    return Condition(text.expand(group, -1, -1), cameras.to(prior.device))


def _noise(prior: DiffusionPrior, count: int, seed: int) -> Tensor:
    picture = torch.zeros(1, 3, prior.image_size, prior.image_size, device=prior.device)
    shape = prior.encode(picture).shape[1:]
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).to(
        prior.device
    )


def _share(difference: Tensor, whole: Tensor) -> float:
    return (difference.norm() / whole.norm()).item()


def _sample_group(
    prior: DiffusionPrior,
    text: Tensor,
    null: Tensor,
    group: int,
    seed: int,
    steps: int = 25,
    cfg_scale: float = 5.0,
) -> Tensor:
    """The latents of one object from all sides, by DDIM with guidance."""
    x = _noise(prior, group, seed)
    told = _around(prior, text, group)
    both = Condition.cat([told, told.with_text(null)])
    for u, v in pairwise(torch.linspace(980, 0, steps + 1).long().tolist()):
        t = torch.full((2 * group,), u, device=prior.device)
        positive, negative = prior.predict_noise(torch.cat([x, x]), t, both).chunk(2)
        eps = negative + cfg_scale * (positive - negative)
        x = ddim_step(x, eps, prior.alphas_cumprod[u], prior.alphas_cumprod[v])
    return x


def _error(prior: DiffusionPrior, text: Tensor, latents: Tensor) -> float:
    """Mean squared error of the noise prediction over `NOISY`, the same noise for any latents."""
    told, total = _around(prior, text, len(latents)), 0.0
    for t in NOISY:
        eps = torch.randn(latents.shape, generator=torch.Generator().manual_seed(t)).to(latents)
        x_t = add_noise(latents, eps, prior.alphas_cumprod[t])
        labels = torch.full((len(latents),), t, device=prior.device)
        total += (prior.predict_noise(x_t, labels, told) - eps).square().mean().item()
    return total
