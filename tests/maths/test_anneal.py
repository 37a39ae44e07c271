"""Laws of the step: ends, shapes, clipping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_ssd.maths import anneal

shares = st.floats(-0.5, 1.5)


@given(shares, st.floats(1e-6, 10), st.floats(1e-6, 10))
def test_every_law_stays_between_its_ends(at, start, end):
    low, high = min(start, end), max(start, end)
    for law in (anneal.linear, anneal.log_linear):
        assert low * (1 - 1e-9) <= law(at, start, end) <= high * (1 + 1e-9)
        assert law(0.0, start, end) == pytest.approx(start)
        assert law(1.0, start, end) == pytest.approx(end)


def test_halfway_is_the_mean_of_the_law():
    assert anneal.linear(0.5, 1.0, 100.0) == 50.5
    assert anneal.log_linear(0.5, 1.0, 100.0) == pytest.approx(10)


def test_log_linear_refuses_zero_unless_it_is_constant():
    assert anneal.log_linear(0.3, 0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="positive"):
        anneal.log_linear(0.3, 1.0, 0.0)


def test_piecewise_runs_through_its_knots_and_jumps_where_two_share_a_place():
    knots = [(0.2, 1.0), (0.4, 3.0), (0.4, 7.0), (1.0, 7.0)]
    assert [anneal.piecewise(at, knots) for at in (0.0, 0.2, 0.3, 0.4, 0.9, 2.0)] == [
        1,
        1,
        pytest.approx(2),
        7,
        7,
        7,
    ]
    assert anneal.piecewise(0.5, ()) == 0.0
    with pytest.raises(ValueError, match="ordered"):
        anneal.piecewise(0.5, [(0.5, 1.0), (0.1, 2.0)])


def test_progress_is_a_clipped_share():
    assert [anneal.progress(step, 10) for step in (-1, 0, 5, 10, 20)] == [0, 0, 0.5, 1, 1]
