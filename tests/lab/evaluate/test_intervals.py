import math
from itertools import product

import numpy as np
import pytest
from scipy import linalg

from gs_ssd.lab.evaluate.intervals import (
    Interval,
    bootstrap,
    frechet_distance,
    frechet_interval,
    paired,
    sign_flip,
)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    samples = rng.exponential(size=(200, 40))
    inside = [
        interval.low <= 1 <= interval.high
        for interval in (bootstrap(s, draws=400) for s in samples)
    ]
    assert 0.85 < np.mean(inside) < 0.99


@pytest.mark.parametrize("prompts", [6, 10, 20])
def test_a_difference_of_zero_is_found_significant_as_often_as_p_says(prompts):
    """Where a percentile bootstrap of so few says it two or three times as often."""
    samples = np.random.default_rng(prompts).normal(size=(2000, prompts))
    found = np.mean([sign_flip(s, draws=1 << 12) < 0.05 for s in samples])
    assert 0.02 < found < 0.065  # 6 prompts have but 32 different p
    few = [bootstrap(s, draws=400) for s in samples[:500]]
    assert prompts > 6 or np.mean([not i.low <= 0 <= i.high for i in few]) > 0.09


def test_p_is_the_share_of_sign_patterns_that_are_as_extreme():
    values = np.array([0.3, 1.0, -0.2, 0.7, 0.5])
    sums = [abs(np.dot(signs, values)) for signs in product((-1, 1), repeat=5)]
    assert sign_flip(values) == np.mean(np.array(sums) >= abs(values.sum()) - 1e-12)
    assert sign_flip(np.ones(5)) == 2 / 2**5  # no test of five can fall below .05
    assert sign_flip(np.ones(6)) < 0.05
    assert sign_flip(np.zeros(9)) == sign_flip([]) == sign_flip([math.nan]) == 1
    assert sign_flip(np.repeat(values[:, None], 3, axis=1)) == sign_flip(values)
    many = np.random.default_rng(0).normal(0.4, 1, size=18)
    assert sign_flip(many, draws=1 << 12) == pytest.approx(sign_flip(many, draws=1 << 18), abs=0.02)


def test_seeds_of_one_prompt_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=20)
    one, three = bootstrap(values), bootstrap(np.repeat(values[:, None], 3, axis=1))
    assert one == pytest.approx(three)


def test_a_paired_difference_is_narrower_than_its_halves():
    rng = np.random.default_rng(0)
    hard = rng.normal(scale=5, size=30)
    ours, theirs = hard + 1 + rng.normal(scale=0.1, size=30), hard
    difference = paired(ours, theirs)
    assert difference.low > 0.9
    assert difference.high - difference.low < 0.1 * (bootstrap(ours).high - bootstrap(ours).low)


def test_an_interval_reads_as_one_would_write_it():
    assert str(Interval(-2276.25, -2281, 0.00123456)) == "-2276 [-2281, 0.00123]"


def test_missing_values_are_left_out():
    assert bootstrap([[1.0, math.nan], [3.0, 3.0], [math.nan, math.nan]]).mean == 2
    assert math.isnan(bootstrap([math.nan]).mean)
    assert math.isnan(paired(np.empty((0, 0)), np.empty((0, 0))).mean)


def test_frechet_distance_against_the_matrix_square_root():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(300, 5)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a + np.array([2, 0, 0, 0, 0])) == pytest.approx(4, rel=1e-6)


def test_the_distance_s_interval_lies_around_it_and_shrinks_with_the_prompts():
    rng = np.random.default_rng(0)
    theirs = [rng.normal(size=(16, 4)) for _ in range(30)]
    ours = [x + rng.normal(scale=0.5, size=4) + 1 for x in theirs]
    few, many = (frechet_interval(ours[:n], theirs[:n]) for n in (6, 30))
    assert many.mean == pytest.approx(
        frechet_distance(np.concatenate(ours), np.concatenate(theirs))
    )
    assert many.low < many.mean < many.high
    assert many.high - many.low < few.high - few.low
    same = frechet_interval(theirs, theirs)
    assert same == pytest.approx((0, 0, 0), abs=1e-6)
