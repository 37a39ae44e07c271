import dataclasses
import math

import pytest
import torch

from gs_ssd.lab.reproduce.numerical import Moments, claims, moments
from gs_ssd.prior.analytic import AnalyticPrior

SHAPE = (4, 16, 16)
SIZE = 1024
VARIANCE = 0.3
NOISES = 800


@pytest.fixture(scope="module")
def study() -> tuple[AnalyticPrior, torch.Tensor, dict[int, Moments]]:
    """Data N(0, .3 I) against a wider unconditional one, at a point that is not the mean (paper's
    affine case)."""
    prior = AnalyticPrior(torch.zeros(1, *SHAPE), torch.tensor([VARIANCE]), ["thing"])
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(SHAPE, generator=generator)
    embedding = prior.embed(["thing"])[0]
    return prior, latent, {
        t: moments(prior, latent, embedding, embedding, t, NOISES, generator) for t in (20, 100,
            500, 900)
    }  # fmt: skip


@pytest.mark.parametrize("t", [20, 100, 500, 900])
def test_the_affine_case_has_its_closed_form(study, t):
    prior, latent, found = study
    abar = float(prior.alphas_cumprod[t])
    spread = abar * VARIANCE + 1 - abar
    c = (1 - abar) / spread
    b = math.sqrt(abar * (1 - abar)) / spread * latent
    got = found[t]
    assert got.c == pytest.approx(c, rel=0.01)
    assert got.r_mean == pytest.approx(c, abs=0.02)
    assert got.r_std == pytest.approx(float(b.norm()) / SIZE, rel=0.15)
    assert got.variance_raw == pytest.approx(c**2, rel=0.02)
    assert got.variance_minus_eps == pytest.approx((1 - c) ** 2, rel=0.02)
    assert got.variance_c == pytest.approx(0, abs=2e-3)
    assert got.variance_r == pytest.approx(float(b.square().sum()) / SIZE**2, rel=0.1)
    assert got.norm_h == 0
    assert got.pearson == pytest.approx(1, abs=1e-3)
    assert math.isnan(got.puccetti)  # fewer noises than entries


def test_the_numbers_of_the_toy_at_t_100(study):
    """Section 8.5's table: c .2828, total variance 81.8 raw and 526 with - eps."""
    got = study[2][100]
    assert got.c == pytest.approx(0.2828, abs=0.003)
    assert got.variance_raw * SIZE == pytest.approx(81.8, rel=0.03)
    assert got.variance_minus_eps * SIZE == pytest.approx(526, rel=0.03)
    assert got.variance_r < 0.05 * got.variance_raw


def test_independent_noise_is_no_correlation():
    generator = torch.Generator().manual_seed(0)
    prior = AnalyticPrior(torch.zeros(1, 1, 3, 3), torch.tensor([1.0]), ["thing"])
    embedding = prior.embed(["thing"])[0]
    got = moments(prior, torch.zeros(1, 3, 3), embedding, embedding, 0, 4000, generator)
    assert got.c < 0.01
    assert got.variance_minus_eps > 0.9


def test_puccetti_s_correlation_is_one_for_linear_maps_and_at_least_pearson_s():
    generator = torch.Generator().manual_seed(0)
    wide = torch.zeros(1, 1, 3, 3), torch.tensor([0.3])
    prior = AnalyticPrior(*wide, ["thing"])
    embedding = prior.embed(["thing"])[0]
    assert moments(
        prior, torch.ones(1, 3, 3), embedding, embedding, 500, 2000, generator
    ).puccetti == pytest.approx(1)
    pair = AnalyticPrior(
        torch.tensor([-1.0, 1.0])[:, None, None, None].expand(2, 1, 3, 3),
        torch.full((2,), 0.02),
        ["a", "b"],
    )
    got = moments(
        pair, torch.zeros(1, 3, 3), pair.embed([""])[0], pair.embed(["a"])[0], 300, 4000, generator
    )
    assert got.pearson < got.puccetti < 1


def test_the_verdicts_follow_the_numbers(study):
    verdicts = claims(list(study[2].values()))
    assert verdicts[4].holds
    assert verdicts[5].holds
    # Of these numbers the opposite, one verdict after the other.
    early, late = (f(study[2].values(), key=lambda m: m.t) for f in (min, max))
    changes = [
        (late, {"pearson": 0.9}),
        (late, {"norm_seek": early.norm_seek / 2}),
        (late, {"norm_h": late.norm_seek}),
        (late, {"r_mean": late.c + 0.1}),
        (early, {"variance_r": 2 * early.variance_raw}),
        (early, {"variance_r": 2 * early.variance_minus_eps}),
    ]
    for i, (where, change) in enumerate(changes):
        other = [dataclasses.replace(m, **change) if m is where else m for m in study[2].values()]
        assert claims(other)[i].holds is False, claims(other)[i]
