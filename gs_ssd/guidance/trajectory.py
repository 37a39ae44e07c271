"""How x_t arises from the latents x, and which noise it is credited with.

- `noise`: x_t = alpha x + sigma eps with a fresh eps (SDS, SSD, CSD, NFSD, VSD). Costs no
  evaluation.
- `ism`:   LucidDreamer's DDIM inversion without text; its own reference is `last`.
- `sdi`:   DDIM inversion with the prompt at a negative guidance; its own reference is `found`.

The reference is a choice beside it (`REFERENCES` says which there are on which trajectory, its own
first):

- `drawn`: the noise that was drawn from the generator at the start.
- `last`:  the prediction at the point before x_t, which made the last move.
- `found`: kappa = (x_t - alpha x) / sigma, the noise that x_t holds of x; for plain noise the same
  as `drawn`.
- `critic`: the prediction of VSD's trained copy at x_t (`vsd.py`).

Timesteps are 0..999. LucidDreamer counts scheduler indices, whose index i is timestep i + 1
(`steps_offset` 1). Inversion takes one t for the whole batch: its strides are shared.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.bounds import Bounds, Share, settings
from gs_ssd.maths.diffusion import (
    NUM_TIMESTEPS,
    add_noise,
    alpha_sigma,
    ddim_step,
    eps_from_x0,
    normal,
    x0_from_eps,
)

REFERENCES: dict[str, tuple[str, ...]] = {
    "noise": ("drawn", "found", "critic"),
    "ism": ("last", "drawn", "found", "critic"),
    "sdi": ("found", "last", "critic"),
}
FIRST = 1  # the timestep of LucidDreamer's index 0, from where the inversion starts

Predict = Callable[[Tensor, int], Tensor]
"""(x_u, u) -> the prediction at timestep u, for a whole batch; counts its own cost."""


@settings
class TrajectoryConfig:
    """Numbers of the inversions; unused by plain noise except `offset_noise`."""

    offset_noise: Annotated[float, Bounds(0, 100)] = 0.0
    """Standard deviation of a constant added to each channel of the noise (LucidDreamer: 0.1)."""
    ism_stride: Annotated[int, Bounds(1, NUM_TIMESTEPS)] = 200
    ism_max_steps: Annotated[int, Bounds(0, NUM_TIMESTEPS)] = 5
    ism_interval: Annotated[int, Bounds(0, NUM_TIMESTEPS)] = 80
    """t - s at the end of the warm-up."""
    ism_interval_start: Annotated[int, Bounds(0, NUM_TIMESTEPS)] = 100
    ism_warmup: Share = 0.3
    """Share of the run (LucidDreamer: 1500 of 5000 steps)."""
    ism_reverse_scale: Annotated[float, Bounds(-1000, 1000)] = 1.0
    """Above 1, the inversion predicts eps_inv + k (eps_neg - eps_inv)
    (`denoise_guidance_scale`)."""
    sdi_steps: Annotated[int, Bounds(1, NUM_TIMESTEPS)] = 10
    sdi_cfg_scale: Annotated[float, Bounds(-1000, 1000)] = -7.5
    sdi_eta: Share = 0.3


@dataclass(frozen=True)
class Noised:
    """x_t and the noises that it may be credited with, [B, C, h, w], by their names in
    `REFERENCES`."""

    x_t: Float[Tensor, "b c h w"]
    references: dict[str, Tensor]

    @property
    def eps_ref(self) -> Float[Tensor, "b c h w"]:
        """The trajectory's own reference."""
        return next(iter(self.references.values()))


def draw_noise(
    x: Float[Tensor, "b c h w"], offset: float, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """Standard normal noise, plus `offset` times one normal number a channel, shared by the batch
    (offset noise)."""
    eps = normal(tuple(x.shape), generator, x)
    return eps + offset * normal((1, x.shape[1], 1, 1), generator, x) if offset else eps


def plain(
    x: Float[Tensor, "b c h w"], abar_t: Tensor, offset: float, generator: torch.Generator
) -> Noised:
    """x_t = alpha x + sigma eps; the reference is eps."""
    eps = draw_noise(x, offset, generator)
    return Noised(add_noise(x, eps, abar_t), {"drawn": eps, "found": eps})


def ism_interval(config: TrajectoryConfig, progress: float) -> int:
    """delta_T = t - s at this share of the run: 100 falling to `ism_interval` over the warm-up,
    rounded up."""
    warm = 1 - min(progress / config.ism_warmup, 1) if config.ism_warmup else 0.0
    return config.ism_interval + math.ceil(warm * (config.ism_interval_start - config.ism_interval))


def ism_path(t: int, interval: int, config: TrajectoryConfig) -> list[int]:
    """The timesteps that the inversion visits: FIRST, strides up to s = t - interval (the last one
    cut), then t."""
    s = max(t - interval, FIRST)
    path = [FIRST]
    while path[-1] < s and len(path) <= config.ism_max_steps:
        path.append(min(path[-1] + config.ism_stride, s))
    return [*path, t]


def ism(
    x: Float[Tensor, "b c h w"],
    path: list[int],
    predict: Predict,
    abar: Float[Tensor, " T"],
    offset: float,
    generator: torch.Generator,
) -> Noised:
    """LucidDreamer's trajectory (arXiv 2311.11284, its guidance/sd_utils.py): noise to FIRST,
    invert along `path`.

    The prediction that makes the last move s -> t is the reference that ISM subtracts. `predict` is
    the inversion's
    prediction: null prompt, guidance 1, or the reversed guidance of `ism_reverse_scale`.
    """
    drawn = draw_noise(x, offset, generator)
    x_u = add_noise(x, drawn, abar[path[0]])
    eps = torch.zeros_like(x)
    for u, v in pairwise(path):
        eps = predict(x_u, u)
        x_u = ddim_step(x_u, eps, abar[u], abar[v])
    return Noised(x_u, {"last": eps, "drawn": drawn, "found": eps_from_x0(x_u, x, abar[path[-1]])})


def sdi_path(t: int, steps: int) -> list[int]:
    """0, one stride, two strides, ... and a last move that lands on t, strides being a `steps`-th
    of the range."""
    stride = NUM_TIMESTEPS // steps
    return [*range(0, t, stride), t]


def sdi(
    x: Float[Tensor, "b c h w"],
    path: list[int],
    predict: Predict,
    abar: Float[Tensor, " T"],
    eta: float,
    generator: torch.Generator,
) -> Noised:
    """SDI's trajectory (arXiv 2405.15891): DDIM inversion of the clean x with the prompt at
    guidance -7.5.

    Each move renews a part of the noise: its variance is eta^2 times the DDIM posterior's, its
    marginal unchanged. The authors' code labels x_t with a smaller timestep than its own; here the
    label is the one it landed on.
    """
    x_u, eps = x, torch.zeros_like(x)
    for u, v in pairwise(path):
        eps = predict(x_u, u)
        _, sigma_u = alpha_sigma(abar[u], x)
        alpha_v, sigma_v = alpha_sigma(abar[v], x)
        renewed = eta * sigma_u / sigma_v * (1 - abar[v] / abar[u]).sqrt().to(x)
        kept = (sigma_v**2 - renewed**2).sqrt()
        x_u = (
            alpha_v * x0_from_eps(x_u, eps, abar[u])
            + kept * eps
            + renewed * normal(tuple(x.shape), generator, x)
        )
    return Noised(x_u, {"found": eps_from_x0(x_u, x, abar[path[-1]]), "last": eps})
