"""A 2D mixture with exact scores, and descents on it: the ground of the illustrative example.

Everything is float64 and vectorised over starts, draws of (t, eps) and thresholds M.
"""

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.guidance.estimators import ESTIMATORS, variance_reduced
from gs_ssd.maths.diffusion import WEIGHTINGS, add_noise, linear_schedule, scaled_linear_schedule
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.condition import Condition

SCHEDULES = {"linear": linear_schedule, "scaled_linear": scaled_linear_schedule}


@dataclasses.dataclass(frozen=True)
class Mixture:
    """P(x) = w_0 N(singular) + the two conditional components; P(x;y) = the latter alone, half
    each."""

    singular: tuple[float, float]
    left: tuple[float, float]
    right: tuple[float, float]
    variances: tuple[float, float]  # of the singular, of each conditional component
    weight: float  # of the singular component
    start: tuple[float, float]

    @property
    def trap(self) -> tuple[float, float]:
        """Between the conditional modes: where mode-seeking ends, P_t(x_t;y) having one mode at
        large t."""
        return ((self.left[0] + self.right[0]) / 2, (self.left[1] + self.right[1]) / 2)

    def prior(self, schedule: str) -> AnalyticPrior:
        means = torch.tensor([self.singular, self.left, self.right], dtype=torch.float64).reshape(
            3, 2, 1, 1
        )
        single, pair = self.variances
        half = (1 - self.weight) / 2
        return AnalyticPrior(
            means,
            torch.tensor([single, pair, pair], dtype=torch.float64),
            ["singular", "left", "right"],
            torch.tensor([self.weight, half, half], dtype=torch.float64),
            alphas_cumprod=SCHEDULES[schedule](),
        )


@dataclasses.dataclass(frozen=True)
class Descent:
    """How theta = x is optimized: Adam on the gradient averaged over `draws` of (t, eps)."""

    weighting: str = "uniform"
    schedule: str = "linear"
    M: int = 200
    lr: float = 0.012
    steps: int = 600
    draws: int = 128
    t_range: tuple[int, int] = (20, 980)
    t_end: int = 980  # the upper bound of t falls linearly to this over the first 80 % of the steps


OWN = Mixture((0.0, -0.1), (-0.75, 0.0), (0.75, 0.0), (0.2, 0.1), 0.3, (-0.3, -1.0))
RECALLED = Mixture((0.0, 0.0), (1.0, 1.0), (2.0, 1.0), (0.1, 0.05), 0.2, (0.0, 0.0))


def descend(
    mixture: Mixture,
    starts: Float[Tensor, "s 2"],
    how: Descent,
    term: str,
    thresholds: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Float[Tensor, "m steps s 2"]:
    """Paths of theta, the start included, for every threshold M (by default the one of `how`).

    All thresholds see the same (t, eps). `term` is an estimator's name or "ssd_unmatched".
    """
    thresholds = thresholds or (how.M,)
    prior = mixture.prior(how.schedule)
    conditional, unconditional = prior.embed(["left right", ""])
    generator = torch.Generator().manual_seed(seed)
    theta = starts.to(torch.float64).repeat(len(thresholds), 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=how.lr)
    draws = (len(starts), how.draws)
    path = [theta.detach().clone()]
    for step in range(how.steps):
        optimizer.param_groups[0]["lr"] = how.lr * (1 - 0.9 * step / how.steps)
        low, high = how.t_range
        high = round(high + (how.t_end - high) * min(1.0, step / (0.8 * how.steps)))
        t = torch.randint(low, high + 1, draws, generator=generator).flatten()
        eps = torch.randn((*draws, 2), generator=generator, dtype=torch.float64).reshape(
            -1, 2, 1, 1
        )
        t, eps = t.repeat(len(thresholds)), eps.repeat(len(thresholds), 1, 1, 1)
        abar = prior.alphas_cumprod[t]
        x_t = add_noise(
            theta.detach().reshape(-1, 2, 1, 1).repeat_interleave(how.draws, dim=0), eps, abar
        )
        eps_pos = prior.predict_noise(x_t, t, Condition(conditional.expand(len(t), 1, 3)))
        h = eps_pos - prior.predict_noise(x_t, t, Condition(unconditional.expand(len(t), 1, 3)))
        parts = zip(
            thresholds, *(v.chunk(len(thresholds)) for v in (eps_pos, h, eps, t)), strict=True
        )
        direction = torch.cat([_direction(term, *part) for part in parts])[:, :, 0, 0]
        weight = WEIGHTINGS[how.weighting](abar)[:, None]
        theta.grad = (weight * direction).reshape(*theta.shape[:2], how.draws, 2).mean(dim=2)
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path, dim=1)


def relative_density(mixture: Mixture, points: Tensor, *, conditional: bool = True) -> Tensor:
    """P(x;y) or P(x) at `points` [..., 2], divided by its value at the conditional modes' best."""
    peak = torch.tensor([mixture.left, mixture.right], dtype=torch.float64)
    return (
        density(mixture, points, 1.0, conditional) / density(mixture, peak, 1.0, conditional).max()
    )


def transient_mode(mixture: Mixture, schedule: str, t: int = 350) -> tuple[float, int]:
    """P_t(x_t;y) at alpha times the trap over that at alpha times a mode, and the first t with a
    single mode.

    Two equal Gaussians at distance L are one mode iff sigma^2 / alpha^2 >= L^2 / 4 - v.
    """
    abar = SCHEDULES[schedule]()
    points = torch.tensor([mixture.trap, mixture.left], dtype=torch.float64) * abar[t].sqrt()
    at_trap, at_mode = density(mixture, points, float(abar[t]), True)
    reach = (
        sum((a - b) ** 2 for a, b in zip(mixture.left, mixture.right, strict=True)) / 4
        - mixture.variances[1]
    )
    return float(at_trap / at_mode), int((((1 - abar) / abar) >= reach).nonzero()[0])


def rule_starts(mixture: Mixture, ring: int) -> Tensor:
    """theta_0, the trapping point (a hair off, to break the symmetry), and `ring` points on a unit
    circle around it."""
    angles = torch.arange(ring, dtype=torch.float64) * (2 * math.pi / max(ring, 1)) + 0.13
    trap = torch.tensor(mixture.trap, dtype=torch.float64)
    circle = trap + torch.stack([angles.cos(), angles.sin()], dim=1)
    return torch.cat(
        [torch.tensor([mixture.start], dtype=torch.float64), trap[None] + 0.01, circle]
    )


def _direction(term: str, M: int, eps_pos: Tensor, h: Tensor, eps_ref: Tensor, t: Tensor) -> Tensor:
    if term == "ssd_unmatched":
        return torch.where((t > M).reshape(-1, 1, 1, 1), h, variance_reduced(eps_pos, eps_ref))
    return ESTIMATORS[term](eps_pos=eps_pos, h=h, eps_ref=eps_ref, t=t, M=M)


def density(mixture: Mixture, points: Tensor, abar: float, conditional: bool) -> Tensor:
    """P_t at `points` [..., 2], up to 1 / 2 pi."""
    prior = mixture.prior("linear")
    weights = prior.embed(["left right" if conditional else ""])[0, 0]
    variance = abar * prior.variances + 1 - abar
    gap = (points[..., None, :] - math.sqrt(abar) * prior.means[:, :, 0, 0]).square().sum(dim=-1)
    return (weights / variance * (-0.5 * gap / variance).exp()).sum(dim=-1)
