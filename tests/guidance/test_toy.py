"""The paper's claims (its Fig. 3) on a plane, with exact scores: where each term of the estimator
ends up.

Two conditional components beside a broad singular one that sits almost on their mean. Seeking alone
is trapped between the two modes, disengaging alone leaves the trap and runs off to where there is
no data, SSD reaches a mode. The parameters are this project's own, as those of the figure are not
published: a regression test of the algorithm.
"""

import functools

import pytest
import torch

from gs_ssd.guidance.estimators import csd, seek, ssd
from gs_ssd.maths.diffusion import add_noise, linear_schedule
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.condition import Condition

DRAWS, STEPS = 128, 300
TRAP = torch.tensor([0.0, 0.0])


def _prior() -> AnalyticPrior:
    means = torch.tensor([[0.0, -0.1], [-0.75, 0.0], [0.75, 0.0]]).reshape(3, 2, 1, 1)
    weights = torch.tensor([0.3, 0.35, 0.35])
    names = ["singular", "mode", "mode"]
    return AnalyticPrior(
        means, torch.tensor([0.2, 0.1, 0.1]), names, weights, alphas_cumprod=linear_schedule()
    )


def _density(prior: AnalyticPrior, x: torch.Tensor) -> torch.Tensor:
    squared = (x[:, None] - prior.means[1:, :, 0, 0]).square().sum(-1)
    return torch.exp(-squared / (2 * 0.1)).sum(1)


@functools.cache
def _run(name: str, seed: int = 0) -> torch.Tensor:
    """Ends of four descents: two from the paper's kind of start (beside everything), two from
    beside the trap."""
    prior, estimator = _prior(), {"seek": seek, "csd": csd, "ssd": ssd}[name]
    theta = torch.tensor([(-0.3, -1.0), (0.3, -1.0), (0.01, 0.02), (-0.01, 0.02)]).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=0.02)
    generator = torch.Generator().manual_seed(seed)
    conditional, null = prior.embed(["mode", ""])
    n = len(theta) * DRAWS
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / STEPS)
        t = torch.randint(20, 981, (n,), generator=generator)
        eps = torch.randn(n, 2, 1, 1, generator=generator)
        x = theta.detach().repeat_interleave(DRAWS, dim=0).reshape(n, 2, 1, 1)
        x_t = add_noise(x, eps, prior.alphas_cumprod[t])
        eps_pos = prior.predict_noise(x_t, t, Condition(conditional.expand(n, 1, -1)))
        h = eps_pos - prior.predict_noise(x_t, t, Condition(null.expand(n, 1, -1)))
        direction = estimator(eps_pos=eps_pos, h=h, eps_ref=eps, t=t, M=200)
        theta.grad = direction.reshape(len(theta), DRAWS, 2).mean(dim=1)
        optimizer.step()
    return theta.detach()


def _relative(x: torch.Tensor) -> torch.Tensor:
    prior = _prior()
    return _density(prior, x) / _density(prior, prior.means[1:2, :, 0, 0])


def test_seeking_is_trapped_between_the_modes():
    end = _run("seek")
    assert (end - TRAP).norm(dim=1).median() < 0.06
    assert _relative(end).max() < 0.2


def test_disengaging_leaves_the_trap_and_the_data():
    assert _relative(_run("csd")).max() < 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_ssd_reaches_a_mode_from_outside_and_from_the_trap(seed):
    end = _run("ssd", seed)
    assert _relative(end).min() > 0.95
    distance = (end[:, None] - _prior().means[1:, :, 0, 0]).norm(dim=-1).min(dim=1).values
    assert distance.max() < 0.1
