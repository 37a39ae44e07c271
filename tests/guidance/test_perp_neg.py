"""Perp-Neg's algebra (SSD notes: derivation of h under negatives) and LucidDreamer's view
weights."""

import math

import pytest
import torch

from gs_ssd.guidance.perp_neg import ViewWeights, combine, view_weights

CHECKS = {
    0: (0, -2),
    45: (-0.736, -0.0135),
    89: (-1.96, 0),
    90: (-2, 0),
    135: (-2, -0.0067),
    180: (-2, -1),
}


@pytest.mark.parametrize(("degrees", "weights"), CHECKS.items())
def test_lucid_dreamers_weights(degrees, weights):
    for sign in (1, -1):
        assert view_weights(sign * math.radians(degrees)) == pytest.approx(
            weights, rel=6e-3, abs=1e-12
        )  # printed to 2-3 digits


def test_weights_do_not_care_how_often_one_turns():
    assert view_weights(0.7) == pytest.approx(view_weights(0.7 + 4 * math.pi))


def test_no_strength_no_weights():
    assert view_weights(2.0, ViewWeights(strength=0.0)) == (0, 0)


@pytest.fixture
def tensors():
    return (
        torch.randn(3, 4, 5, 5),
        torch.randn(2, 3, 4, 5, 5),
        torch.tensor([[-2.0, -0.5, 0.0], [-1.0, 0.0, 0.0]]),
    )


def _dot(a, b):
    return (a * b).flatten(1).sum(1)


def test_projection_on_the_main_direction_is_untouched(tensors):
    delta, negatives, weights = tensors
    h = combine(delta, negatives, weights)
    torch.testing.assert_close(_dot(h, delta), _dot(delta, delta), rtol=1e-4, atol=1e-4)
    assert (_dot(h, h) >= _dot(delta, delta) - 1e-4).all()
    assert torch.equal(h[2], delta[2])  # all its weights are zero


def test_a_parallel_complement_does_nothing(tensors):
    delta, _, weights = tensors
    torch.testing.assert_close(
        combine(delta, torch.stack([delta, -3 * delta]), weights), delta, rtol=1e-4, atol=1e-4
    )


def test_against_the_formula_sample_by_sample(tensors):
    delta, negatives, weights = tensors
    for b in range(3):
        expected = delta[b].clone()
        for k in range(2):
            along = (negatives[k, b] * delta[b]).sum() / delta[b].square().sum()
            expected += weights[k, b] * (negatives[k, b] - along * delta[b])
        torch.testing.assert_close(
            combine(delta, negatives, weights)[b], expected, rtol=1e-4, atol=1e-5
        )


def test_a_vanishing_main_direction_stays_finite(tensors):
    _, negatives, weights = tensors
    assert combine(torch.zeros(3, 4, 5, 5), negatives, weights).isfinite().all()
