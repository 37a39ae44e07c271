"""Honest spreads over prompts: bootstrap intervals, paired differences and their test, a Frechet
distance."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """A mean and the central 95 % of its bootstrap distribution."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        mean, low, high = (f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}" for x in self)
        return f"{mean} [{low}, {high}]"


def bootstrap(
    values: ArrayLike, draws: int = 10_000, seed: int = 0, coverage: float = 0.95
) -> Interval:
    """Mean over prompts and its percentile interval, prompts drawn with replacement.

    Args:
        values: [P] one number a prompt, or [P, S] with seeds, which are averaged within their
            prompt first (seeds of one prompt are no independent prompts). Nan is left out; nothing
            left gives nan.
    """
    array = _by_prompt(values)
    if not len(array):
        return Interval(float("nan"), float("nan"), float("nan"))
    means = array[np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))].mean(
        axis=1
    )
    low, high = np.quantile(means, [(1 - coverage) / 2, (1 + coverage) / 2])
    return Interval(float(array.mean()), float(low), float(high))


def paired(ours: ArrayLike, theirs: ArrayLike, draws: int = 10_000, seed: int = 0) -> Interval:
    """Interval of ours - theirs over the same prompts (and seeds), so that hard prompts cancel."""
    return bootstrap(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), draws, seed)


def sign_flip(differences: ArrayLike, draws: int = 1 << 16, seed: int = 0) -> float:
    """Two-sided p of a sign-flip test that the mean difference over prompts is zero (Fisher 1935,
    section 21).

    A percentile bootstrap is too narrow where prompts are few: on ten of them it excludes a true
    zero one time in ten. This test's p is exact at any number, if a difference is as likely to be d
    as -d; below .05 from six prompts on.

    Args:
        differences: [P] or [P, S], as in `bootstrap`; nan is left out.
        draws: sign patterns where there are more than that many; all of them are tried otherwise.

    Returns:
        the share of the patterns whose mean is as far from zero as that of the differences; 1 for
        no differences.
    """
    array = _by_prompt(differences)
    if 2 ** len(array) <= draws:
        patterns = 1 - 2 * ((np.arange(2 ** len(array))[:, None] >> np.arange(len(array))) & 1)
    else:
        patterns = np.random.default_rng(seed).choice([-1, 1], size=(draws, len(array)))
        patterns[0] = 1  # the pattern that was seen is one of them: p is never 0
    sums = np.abs(patterns @ array)
    return float(np.mean(sums >= abs(array.sum()) - 1e-12 * np.abs(array).sum()))


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Frechet distance of the Gaussians fitted to two clouds of features [N, D], [M, D] (the
    formula of the FID).

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2). Biased upwards for few samples,
    so compare only distances that were taken from equally many.
    """
    first, second = (np.asarray(x, dtype=np.float64) for x in (a, b))
    gap = first.mean(axis=0) - second.mean(axis=0)
    a_root, b_root = (_centred_root(x) for x in (first, second))
    # With S_a = A^T A and S_b = B^T B the last trace is the sum of the singular values of A B^T.
    cross = np.linalg.svd(a_root @ b_root.T, compute_uv=False).sum()
    return float(
        max(gap @ gap + np.square(a_root).sum() + np.square(b_root).sum() - 2 * cross, 0.0)
    )


def frechet_interval(
    ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]], draws: int = 100, seed: int = 0
) -> Interval:
    """Frechet distance of two clouds with an interval over prompts.

    A draw that repeats prompts has fewer different pictures, and the distance's upward bias with
    it: the draws are therefore centred on the distance itself, and only their spread is used.

    Args:
        ours: [N_p, D] features of each prompt P; theirs: the same prompts in the same order.
    """
    distance = frechet_distance(np.concatenate(ours), np.concatenate(theirs))
    if len(ours) == 1:
        return Interval(distance, distance, distance)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(ours), size=(draws, len(ours)))
    drawn = np.array(
        [
            frechet_distance(*(np.concatenate([x[i] for i in pick]) for x in (ours, theirs)))
            for pick in picks
        ]
    )
    low, high = np.quantile(drawn - drawn.mean(), [0.025, 0.975])
    return Interval(distance, distance + float(low), distance + float(high))


def _by_prompt(values: ArrayLike) -> NDArray[np.float64]:
    """[P'] means over the seeds [P, S] of each prompt, nan left out; prompts with nothing else are
    dropped."""
    array = np.asarray(values, dtype=np.float64)
    array = array.reshape(len(array), -1) if array.size else np.full((1, 1), np.nan)
    known = ~np.isnan(array)
    some = known.any(axis=1)
    return np.asarray(np.where(known, array, 0).sum(axis=1)[some] / known.sum(axis=1)[some])


def _centred_root(cloud: NDArray[np.float64]) -> NDArray[np.float64]:
    """A with A^T A = the covariance of the cloud [N, D]; at most D rows."""
    centred = (cloud - cloud.mean(axis=0)) / np.sqrt(len(cloud) - 1)
    return (
        centred if len(centred) <= centred.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))
    )
