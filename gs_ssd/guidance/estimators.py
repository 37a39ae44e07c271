"""The estimators, one pure function a paper, to be read beside it.

Every function returns the direction E of

    grad_theta = sum over views of  w(t) * E * dg/dtheta

for one batch of noised latents. All tensors are [B, C, h, w]; norms and inner products run over one
sample, never over the batch. Inputs, all keyword-only (a function names those that it needs;
`distill` computes no others):

    eps_pos     eps(x_t, t, y), the prediction for the main (view) prompt
    eps_uncond  the prediction in the unconditional slot: the negative prompt where there is one,
                else the null prompt
    h           what disengages: eps_pos - eps_uncond, or its Perp-Neg form (`perp_neg.combine`)
    eps_ref     the noise that x_t is credited with: the drawn noise; for ISM, SDI and VSD see there
                (a choice of its own, `guidance.reference`)
    eps_neg     the prediction for the negative prompt, for an estimator that wants it beside the
                null prompt (NFSD)
    t           timesteps [B], 0..999

The convention of classifier-free guidance is stated here and nowhere else: eps_g = eps_uncond + g h
(`guided`). The SSD paper counts omega = g - 1 ("text + omega * (text - uncond)"); LucidDreamer,
Perp-Neg and SDI count g.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Latents: TypeAlias = Float[Tensor, "b c h w"]
Timesteps: TypeAlias = Int[Tensor, " b"]
Estimator: TypeAlias = Callable[..., Tensor]

TINY = 1e-12  # guards quotients of norms; far below any norm that a prediction can have


def inner(a: Latents, b: Latents) -> Float[Tensor, "b 1 1 1"]:
    """Inner product per sample, accumulated in float32 at least."""
    a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


def norm(a: Latents) -> Float[Tensor, "b 1 1 1"]:
    """Euclidean norm per sample, accumulated in float32 at least."""
    return inner(a, a).sqrt()


def guided(eps_uncond: Latents, h: Latents, cfg_scale: float) -> Latents:
    """Classifier-free guidance: eps_g = eps_uncond + g h. g = 1 is the plain conditional
    prediction."""
    return eps_uncond + cfg_scale * h


def variance_reduced(eps_pos: Latents, eps_ref: Latents) -> Latents:
    """z = eps_pos - r eps with r = <eps_pos, eps> / ||eps||^2.

    SSD eq. (8) and (9), arXiv 2312.09305.

    r is the least-squares estimate, from the one sample at hand, of the coefficient c of eq. (6)
    that minimises the variance; z is orthogonal to eps. The denominator is squared (some public
    code divides by ||eps||).
    """
    r = inner(eps_pos, eps_ref) / inner(eps_ref, eps_ref).clamp_min(TINY)
    return eps_pos - r.to(eps_pos.dtype) * eps_ref


def ssd(
    *, eps_pos: Latents, h: Latents, eps_ref: Latents, t: Timesteps, M: int, **_: object
) -> Latents:
    """Stable Score Distillation, Algorithm 1 of arXiv 2312.09305 (Tang et al. 2023).

        t > M:   E = h                       mode-disengaging: geometry, leaves over-smooth traps
        t <= M:  E = (||h|| / ||z||) z       mode-seeking, at the size of h: plausible colour
                 z = eps_pos - r eps         eq. (9), the noise projected out

    Per sample, so one batch may hold both branches. No guidance scale enters, and no "- eps". M
    counts timesteps of 1000; M = 0 is CSD for every t > 0. Perp-Neg and the negative prompt act
    through h alone.
    """
    z = variance_reduced(eps_pos, eps_ref)
    seeking = (norm(h) / norm(z).clamp_min(TINY)).to(h.dtype) * z
    return torch.where((t > M).reshape(-1, 1, 1, 1), h, seeking)


def sds(
    *, eps_uncond: Latents, h: Latents, eps_ref: Latents, cfg_scale: float, **_: object
) -> Latents:
    """Score Distillation Sampling, DreamFusion (Poole et al. 2022, arXiv 2209.14988): E = eps_g -
    eps."""
    return guided(eps_uncond, h, cfg_scale) - eps_ref


def sds_reduced(
    *,
    eps_pos: Latents,
    eps_uncond: Latents,
    h: Latents,
    eps_ref: Latents,
    cfg_scale: float,
    **_: object,
) -> Latents:
    """SDS with adaptive variance reduction, SSD paper section 4.4: E = eps_g - r eps, with r of
    eq. (8)."""
    return guided(eps_uncond, h, cfg_scale) - eps_pos + variance_reduced(eps_pos, eps_ref)


def csd(*, h: Latents, **_: object) -> Latents:
    """Classifier Score Distillation (Yu et al. 2023, arXiv 2310.19415): E = h, the disengaging term
    alone."""
    return h


def nfsd(
    *,
    eps_uncond: Latents,
    eps_neg: Latents,
    h: Latents,
    t: Timesteps,
    cfg_scale: float,
    **_: object,
) -> Latents:
    """Noise-Free Score Distillation (Katzir et al. 2023, arXiv 2310.17590): E = s h + delta_D.

        delta_D = eps_null              t < 200 (the denoiser's answer is mostly off-manifold)
                = eps_null - eps_neg    else

    Here the unconditional slot holds the null prompt, so s is the plain factor on h (7.5 in the
    paper).
    """
    delta = torch.where((t < 200).reshape(-1, 1, 1, 1), eps_uncond, eps_uncond - eps_neg)
    return cfg_scale * h + delta


def ism(
    *, eps_uncond: Latents, h: Latents, eps_ref: Latents, cfg_scale: float, **_: object
) -> Latents:
    """Interval Score Matching, LucidDreamer (Liang et al. 2023, arXiv 2311.11284): E = eps_g(x_t) -
    eps(x_s, s, null).

    x_t lies on the DDIM inversion path through x_s; `eps_ref` is the prediction made there
    (`trajectory.ism`).
    """
    return guided(eps_uncond, h, cfg_scale) - eps_ref


def sdi(
    *, eps_uncond: Latents, h: Latents, eps_ref: Latents, cfg_scale: float, **_: object
) -> Latents:
    """Score Distillation via Inversion (Lukoianov et al. 2024, arXiv 2405.15891): E = eps_g(x_t) -
    kappa.

    `eps_ref` = kappa = (x_t - alpha_t x) / sigma_t, the noise that inversion found
    (`trajectory.sdi`).
    """
    return guided(eps_uncond, h, cfg_scale) - eps_ref


def vsd(
    *, eps_uncond: Latents, h: Latents, eps_ref: Latents, cfg_scale: float, **_: object
) -> Latents:
    """Variational Score Distillation, ProlificDreamer (Wang et al. 2023, arXiv 2305.16213): E =
    eps_g - eps_lora.

    `eps_ref` is the prediction of a LoRA copy of the prior that learns the renderings while they
    form (`vsd.py`).
    """
    return guided(eps_uncond, h, cfg_scale) - eps_ref


def seek(*, eps_pos: Latents, **_: object) -> Latents:
    """Pure mode-seeking, SSD paper section 4.3: E = eps_pos."""
    return eps_pos


def seek_minus_eps(*, eps_pos: Latents, eps_ref: Latents, **_: object) -> Latents:
    """Mode-seeking with SDS's own variance reduction, SSD section 4.4.1: E = eps_pos - eps, i.e.
    SDS at g = 1."""
    return eps_pos - eps_ref


def seek_reduced(*, eps_pos: Latents, eps_ref: Latents, **_: object) -> Latents:
    """Mode-seeking with adaptive variance reduction, SSD eq. (9): E = eps_pos - r eps."""
    return variance_reduced(eps_pos, eps_ref)


ESTIMATORS: dict[str, Estimator] = {
    "ssd": ssd,
    "sds": sds,
    "sds_reduced": sds_reduced,
    "csd": csd,
    "nfsd": nfsd,
    "ism": ism,
    "sdi": sdi,
    "vsd": vsd,
    "seek": seek,
    "seek_minus_eps": seek_minus_eps,
    "seek_reduced": seek_reduced,
}


@dataclass(frozen=True)
class Setting:
    """What an estimator's authors run it with; a config may choose each part differently."""

    trajectory: Literal["noise", "ism", "sdi"] = "noise"
    reference: str | None = None
    """Where `eps_ref` comes from, where it is not the trajectory's own (a name in
    `trajectory.REFERENCES`)."""
    weighting: str = "sigma2"
    cfg_scale: float = 7.5


SETTINGS: dict[str, Setting] = {
    "sds": Setting(cfg_scale=101.0),  # omega = 100
    "sds_reduced": Setting(cfg_scale=101.0),
    "ism": Setting(trajectory="ism", weighting="lucid"),
    "sdi": Setting(trajectory="sdi", weighting="lucid"),
    "vsd": Setting(reference="critic"),
}
"""Estimators that are absent here, and an estimator of your own, use `Setting()`."""


def optimal_coefficient(
    eps_pos: Float[Tensor, "s b c h w"], eps: Float[Tensor, "s b c h w"]
) -> Float[Tensor, " b"]:
    """c(x, t) = tr Cov(eps_pos, eps) / d, SSD eq. (7), by Monte Carlo
    over the S draws of the first axis (unbiased)."""
    centred = eps_pos - eps_pos.mean(dim=0)
    covariance = (centred * (eps - eps.mean(dim=0))).sum(dim=(0, 2, 3, 4)) / (eps.shape[0] - 1)
    return covariance / eps[0, 0].numel()
