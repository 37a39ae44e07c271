"""The variance-preserving diffusion that every prior shares.

Letters of the paper: `abar_t` is the cumulative alpha, `alpha_t = sqrt(abar_t)`, `sigma_t = sqrt(1
- abar_t)` and `x_t = alpha_t x + sigma_t eps`. Functions take `abar`, one value a sample (shape
[B]) or one for all (shape []), and broadcast it over the remaining axes. Timesteps are 0..999, as
in Stable Diffusion.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.devices import to_device

NUM_TIMESTEPS = 1000


def scaled_linear_schedule(
    beta_start: float = 0.00085, beta_end: float = 0.012
) -> Float[Tensor, " T"]:
    """Stable Diffusion's abar [1000] ("scaled linear": sqrt(beta) is linear in t), float64."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def linear_schedule(beta_start: float = 1e-4, beta_end: float = 0.02) -> Float[Tensor, " T"]:
    """The abar [1000] of Ho et al. 2020 (beta is linear in t), float64."""
    return torch.cumprod(
        1 - torch.linspace(beta_start, beta_end, NUM_TIMESTEPS, dtype=torch.float64), dim=0
    )


def alpha_sigma(abar: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma in the dtype of `like`, shaped to broadcast over its trailing axes."""
    abar = abar.reshape(abar.shape + (1,) * (like.ndim - abar.ndim)) if abar.ndim else abar
    return abar.sqrt().to(like), (1 - abar).sqrt().to(like)


def add_noise(
    x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], abar: Tensor
) -> Float[Tensor, "b ..."]:
    """x_t = alpha x0 + sigma eps."""
    alpha, sigma = alpha_sigma(abar, x0)
    return alpha * x0 + sigma * eps


def x0_from_eps(
    x_t: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], abar: Tensor
) -> Float[Tensor, "b ..."]:
    """x0 = (x_t - sigma eps) / alpha.

    Undefined at abar = 0 (a schedule with zero terminal signal)."""
    alpha, sigma = alpha_sigma(abar, x_t)
    return (x_t - sigma * eps) / alpha


def eps_from_x0(
    x_t: Float[Tensor, "b ..."], x0: Float[Tensor, "b ..."], abar: Tensor
) -> Float[Tensor, "b ..."]:
    """eps = (x_t - alpha x0) / sigma: the noise that x_t is credited with, given x0.

    Undefined at abar = 1."""
    alpha, sigma = alpha_sigma(abar, x_t)
    return (x_t - alpha * x0) / sigma


def eps_from_v(
    x_t: Float[Tensor, "b ..."], v: Float[Tensor, "b ..."], abar: Tensor
) -> Float[Tensor, "b ..."]:
    """eps = alpha v + sigma x_t, for v = alpha eps - sigma x0 (Salimans and Ho 2022, arXiv
    2202.00512)."""
    alpha, sigma = alpha_sigma(abar, x_t)
    return alpha * v + sigma * x_t


def v_from_eps(
    x_t: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], abar: Tensor
) -> Float[Tensor, "b ..."]:
    """v = (eps - sigma x_t) / alpha, the inverse of `eps_from_v`."""
    alpha, sigma = alpha_sigma(abar, x_t)
    return (eps - sigma * x_t) / alpha


def ddim_step(
    x_u: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], abar_u: Tensor, abar_v: Tensor
) -> Tensor:
    """One deterministic DDIM move from noise level u to v, in either direction (Song et al., arXiv
    2010.02502).

    Downwards (v < u) it samples; upwards (v > u) it inverts, with the error of one Euler step.
    """
    return add_noise(x0_from_eps(x_u, eps, abar_u), eps, abar_v)


def normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers from `generator`, in the dtype and on the device of `like`.

    The draw happens in float32 on the generator's own device: a CPU generator gives the same
    numbers everywhere.
    """
    return to_device(
        torch.randn(shape, generator=generator, device=generator.device), like.device, like.dtype
    )


WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigma2": lambda abar: 1 - abar,  # DreamFusion, and the default of the SSD paper's host code
    "lucid": (
        lambda abar: ((1 - abar) / abar).sqrt()
    ),  # LucidDreamer; equals sigma / alpha, as in SDI
    "uniform": torch.ones_like,
    "sigma": lambda abar: (1 - abar).sqrt(),
    "alpha_sigma2": lambda abar: abar.sqrt() * (1 - abar),  # threestudio's "fantasia3d"
}
"""w(t) as a function of abar_t; multiplies the direction E of an estimator."""
