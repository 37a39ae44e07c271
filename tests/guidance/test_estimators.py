"""The estimators against the paper's identities (arXiv 2312.09305), hand-worked numbers and closed
forms."""

import inspect

import pytest
import torch

from gs_ssd.guidance import estimators as e
from gs_ssd.maths.diffusion import scaled_linear_schedule

B, SHAPE = 5, (5, 4, 6, 6)
T = torch.tensor([20, 80, 81, 200, 900])


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(1)
    eps_pos, eps_uncond, eps_neg, eps_ref, extra = torch.randn(5, *SHAPE, generator=generator)
    # h differs from eps_pos - eps_uncond on purpose: an estimator that rebuilds it instead of using
    # it is caught.
    return {
        "eps_pos": eps_pos + 2 * eps_ref,
        "eps_uncond": eps_uncond,
        "eps_neg": eps_neg,
        "h": eps_pos - eps_uncond + 0.3 * extra,
        "eps_ref": eps_ref,
        "t": T,
        "M": 80,
        "cfg_scale": 7.5,
    }


def _norm(x):
    return x.flatten(1).norm(dim=1)


def test_settings_belong_to_estimators():
    assert set(e.SETTINGS) <= set(e.ESTIMATORS)


@pytest.mark.parametrize("name", e.ESTIMATORS)
def test_every_estimator_cites_its_paper_and_keeps_samples_apart(name, predictions):
    function = e.ESTIMATORS[name]
    assert "arXiv" in function.__doc__ or "SSD" in function.__doc__
    together = function(**predictions)
    for i in range(B):
        one = {
            k: v[i : i + 1] if isinstance(v, torch.Tensor) else v for k, v in predictions.items()
        }
        torch.testing.assert_close(function(**one), together[i : i + 1])


@pytest.mark.parametrize("name", e.ESTIMATORS)
def test_an_estimator_reads_nothing_but_what_it_names(name, predictions):
    function = e.ESTIMATORS[name]
    named = set(inspect.signature(function).parameters)
    poisoned = {
        k: v if k in named or not isinstance(v, torch.Tensor) else torch.full_like(v, 7)
        for k, v in predictions.items()
    }
    assert torch.equal(function(**poisoned), function(**predictions))


def test_reduced_seeking_is_orthogonal_to_the_noise(predictions):
    z = e.variance_reduced(predictions["eps_pos"], predictions["eps_ref"])
    cosine = (z * predictions["eps_ref"]).flatten(1).sum(1) / (
        _norm(z) * _norm(predictions["eps_ref"])
    )
    assert cosine.abs().max() < 1e-5


def test_ssd_has_the_norm_of_h_on_both_branches(predictions):
    torch.testing.assert_close(_norm(e.ssd(**predictions)), _norm(predictions["h"]))


def test_ssd_branches_strictly_above_m(predictions):
    direction, h = e.ssd(**predictions), predictions["h"]
    z = e.variance_reduced(predictions["eps_pos"], predictions["eps_ref"])
    for i, t in enumerate(T.tolist()):
        expected = h[i] if t > 80 else z[i] * h[i].norm() / z[i].norm()
        torch.testing.assert_close(direction[i], expected)
    # t = M itself seeks, and the two branches differ by far more than rounding.
    assert (direction[1] - h[1]).norm() > 0.5 * h[1].norm()


def test_ssd_at_m_zero_is_csd(predictions):
    assert torch.equal(e.ssd(**{**predictions, "M": 0}), e.csd(**predictions))


@pytest.mark.parametrize("k", [0.1, 10.0])
def test_ssd_is_homogeneous_in_the_predictions(predictions, k):
    scaled = {**predictions, "eps_pos": k * predictions["eps_pos"], "h": k * predictions["h"]}
    torch.testing.assert_close(e.ssd(**scaled), k * e.ssd(**predictions), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [-1.0, 5.0])
def test_ssd_sees_only_the_line_of_the_noise(predictions, k):
    other = {**predictions, "eps_ref": k * predictions["eps_ref"]}
    torch.testing.assert_close(e.ssd(**other), e.ssd(**predictions), rtol=1e-4, atol=1e-5)


def test_ssd_survives_a_prediction_that_is_pure_noise(predictions):
    same = {**predictions, "eps_pos": predictions["eps_ref"]}
    assert e.ssd(**same).isfinite().all()


def test_ssd_reduces_half_precision_in_single():
    big = torch.full(
        (1, 4, 64, 64), 30.0, dtype=torch.float16
    )  # ||big||^2 overflows half precision
    noise = torch.randn(1, 4, 64, 64).half()
    direction = e.ssd(eps_pos=big, h=big, eps_ref=noise, t=torch.tensor([10]), M=80)
    torch.testing.assert_close(direction.float().norm(), big.float().norm(), rtol=2e-3, atol=0)


def test_ssd_by_hand():
    pixels = {name: torch.tensor(v).reshape(1, 2, 1, 1) for name, v in
              {"eps_pos": [3.0, 1.0], "h": [0.0, -2.0], "eps_ref": [2.0, 0.0]}.items()}  # fmt: skip
    # r = 6/4, z = (0, 1), ||h|| / ||z|| = 2
    low = e.ssd(**pixels, t=torch.tensor([5]), M=100)
    assert low.flatten().tolist() == [0.0, 2.0]
    assert e.ssd(**pixels, t=torch.tensor([500]), M=100).flatten().tolist() == [0.0, -2.0]


def test_sds_splits_as_the_paper_says(predictions):
    p = {**predictions, "h": predictions["eps_pos"] - predictions["eps_uncond"]}
    omega = p["cfg_scale"] - 1
    torch.testing.assert_close(
        e.sds(**p), omega * p["h"] + p["eps_pos"] - p["eps_ref"], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(e.sds(**{**p, "cfg_scale": 1.0}), e.seek_minus_eps(**p))
    reduced = omega * p["h"] + e.seek_reduced(**p)
    torch.testing.assert_close(e.sds_reduced(**p), reduced, rtol=1e-4, atol=1e-4)


def test_nfsd_changes_at_200(predictions):
    p = {**predictions, "t": torch.tensor([0, 199, 200, 201, 999])}
    delta = e.nfsd(**p) - p["cfg_scale"] * p["h"]
    torch.testing.assert_close(delta[:2], p["eps_uncond"][:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        delta[2:], (p["eps_uncond"] - p["eps_neg"])[2:], rtol=1e-4, atol=1e-5
    )


def test_variance_reduction_reaches_its_closed_form():
    """Data N(mu, v I), d = 1024, v = .3, t = 100: c = .2828, r = c +- ||b|| / d; total variances
    81.8, 526, 0 and 1.34.

    The numbers follow from eps_pos = b + c eps: c^2 d, (1 - c)^2 d, 0 and (1 - 1/d) ||b||^2 / d.
    """
    abar, v, d, draws = scaled_linear_schedule()[100], 0.3, 1024, 4000
    generator = torch.Generator().manual_seed(0)
    alpha, sigma = abar.sqrt(), (1 - abar).sqrt()
    variance = alpha**2 * v + sigma**2
    offset = torch.randn(d, generator=generator, dtype=torch.float64)
    b = sigma * alpha * offset / variance
    b *= (1.34 * d) ** 0.5 / b.norm()
    c = sigma**2 / variance
    assert c.item() == pytest.approx(0.2828, abs=5e-4)
    eps = torch.randn(draws, 4, 16, 16, generator=generator, dtype=torch.float64)
    eps_pos = b.reshape(1, 4, 16, 16) + c * eps

    def total_variance(x):
        return x.flatten(1).var(dim=0).sum().item()

    assert total_variance(eps_pos) == pytest.approx(81.8, rel=0.02)
    assert total_variance(eps_pos - eps) == pytest.approx(526, rel=0.02)
    assert total_variance(eps_pos - c * eps) < 1e-20
    assert total_variance(e.variance_reduced(eps_pos, eps)) == pytest.approx(1.34, rel=0.03)
    torch.testing.assert_close(
        e.variance_reduced(eps_pos, eps).mean(dim=0).flatten(), (1 - 1 / d) * b, atol=5e-3, rtol=0
    )
    r = (eps_pos * eps).sum(dim=(1, 2, 3)) / (eps * eps).sum(dim=(1, 2, 3))
    assert r.mean().item() == pytest.approx(c.item(), rel=5e-3)
    assert r.std().item() == pytest.approx(b.norm().item() / d, rel=0.05)
    estimate = e.optimal_coefficient(eps_pos[:, None], eps[:, None])
    assert estimate.item() == pytest.approx(c.item(), rel=5e-3)
