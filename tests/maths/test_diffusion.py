"""The variance-preserving diffusion: known values, inverses, and DDIM on a flow that has a closed
form."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gs_ssd.maths import diffusion as d

SD = {
    20: 0.9813,
    80: 0.9183,
    100: 0.8942,
    200: 0.7537,
    500: 0.2763,
    700: 0.0825,
    980: 0.0058,
    999: 0.0047,
}


def test_schedule_is_stable_diffusions():
    abar = d.scaled_linear_schedule()
    for t, value in SD.items():
        assert abar[t].item() == pytest.approx(value, abs=5e-5)
    assert (abar.diff() < 0).all()


def test_schedule_equals_the_schedulers_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    torch.testing.assert_close(
        d.scaled_linear_schedule().float(), theirs.alphas_cumprod, rtol=2e-5, atol=0
    )
    linear = diffusers.DDIMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    torch.testing.assert_close(
        d.linear_schedule().float(), linear.alphas_cumprod, rtol=2e-5, atol=1e-8
    )


@given(t=st.lists(st.integers(0, 999), min_size=1, max_size=4))
def test_conversions_invert_each_other(t):
    generator = torch.Generator().manual_seed(len(t))
    x0, eps = (
        torch.randn(len(t), 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    abar = d.scaled_linear_schedule()[t]
    x_t = d.add_noise(x0, eps, abar)
    torch.testing.assert_close(d.x0_from_eps(x_t, eps, abar), x0)
    torch.testing.assert_close(d.eps_from_x0(x_t, x0, abar), eps)
    v = d.v_from_eps(x_t, eps, abar)
    alpha, sigma = d.alpha_sigma(abar, x0)
    torch.testing.assert_close(v, alpha * eps - sigma * x0)
    torch.testing.assert_close(d.eps_from_v(x_t, v, abar), eps)


def test_each_sample_has_its_own_noise_level():
    x0, eps = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    assert d.add_noise(x0, eps, torch.tensor([1.0, 0.25])).flatten().tolist() == [1.0, 0.5]


def _invert(steps: int) -> torch.Tensor:
    """DDIM inversion 0 -> 900 of data N(mu, v), whose probability flow keeps (x - alpha mu) / std_t
    constant."""
    abar, mu, v = d.scaled_linear_schedule(), 0.7, 0.3
    x = torch.linspace(-1, 2, 7, dtype=torch.float64).reshape(-1, 1, 1, 1)

    def std(t):
        return (abar[t] * v + 1 - abar[t]).sqrt()

    exact = abar[900].sqrt() * mu + (x - abar[0].sqrt() * mu) / std(0) * std(900)
    path = torch.linspace(0, 900, steps + 1).round().long()
    for a, b in pairwise(path):
        eps = (1 - abar[a]).sqrt() * (x - abar[a].sqrt() * mu) / std(a) ** 2
        x = d.ddim_step(x, eps, abar[a], abar[b])
    return (x - exact).abs().max()


def test_ddim_inversion_converges_to_the_probability_flow():
    errors = [_invert(steps) for steps in (5, 20, 80, 320)]
    assert all(later < 0.4 * earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.03


def test_ddim_step_there_and_back_with_one_prediction_is_exact():
    abar = d.scaled_linear_schedule()
    x, eps = (
        torch.randn(2, 3, 4, 4, dtype=torch.float64),
        torch.randn(2, 3, 4, 4, dtype=torch.float64),
    )
    there = d.ddim_step(x, eps, abar[100], abar[700])
    torch.testing.assert_close(d.ddim_step(there, eps, abar[700], abar[100]), x)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lucid", (0.14, 0.34, 0.83, 1.62, 3.33, 13.0)),
        ("sigma2", (0.02, 0.11, 0.41, 0.72, 0.92, 0.99)),
    ],
)
def test_weightings_at_known_timesteps(name, values):
    weights = d.WEIGHTINGS[name](d.scaled_linear_schedule()[[21, 100, 300, 500, 700, 980]])
    torch.testing.assert_close(
        weights, torch.tensor(values, dtype=torch.float64), atol=6e-3, rtol=1e-2
    )


def test_normal_draws_the_same_numbers_for_every_dtype():
    draws = [
        d.normal((5,), torch.Generator().manual_seed(3), torch.empty(0, dtype=t))
        for t in (torch.float32, torch.float64)
    ]
    torch.testing.assert_close(draws[0].double(), draws[1])
