"""Fewer splats that look like many: neighbours are merged, two at a time, into one that matches
their moments.

A splat's weight is what it can cover, opacity times the mean area of its shadow. A pair becomes the
Gaussian with the pair's total weight, mean, covariance and mean colour; its opacity is what its own
shadow needs to weigh as much. Pairs go in the order of what merging costs: Runnalls' bound on the
Kullback-Leibler divergence of a merge (IEEE Trans. AES 43(3), 2007) plus the difference of colours.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from gs_ssd.errors import UserError
from gs_ssd.export.clean import framing
from gs_ssd.export.frames import FloatArray, quaternion_from_rotation, rotations_from_quaternions
from gs_ssd.export.morton import morton_order
from gs_ssd.export.splats import Splats, logit
from gs_ssd.maths.conventions import SH_C0

NEIGHBOURS = 4  #: places along the curve, to either side, in which partners are looked for
CURVES = 2  #: turned against each other: what one of them tears apart lies together on another
MAX_SHARE = 0.25  #: of the splats that merge in one round, before costs are recomputed
LEAST_SIGMA = 5e-3  #: of the framing radius: thinner than this makes no difference to what is seen
COLOR_WEIGHT = 4.0  #: of the squared difference of colours, beside the divergence
MAX_OPACITY = 0.995


@dataclasses.dataclass(frozen=True)
class Moments:
    """Splats [N] as what adds up: `weights`, `means` [N,3], `covariances` [N,3,3], `sh` [N,K,3]."""

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    sh: FloatArray

    def take(self, index: NDArray) -> "Moments":
        """The rows that a mask or an index selects."""
        return Moments(
            self.weights[index], self.means[index], self.covariances[index], self.sh[index]
        )


def target_of(text: str, count: int) -> int:
    """How many splats `--simplify` asks for: "5000", or "25%" of `count`.

    Raises:
        UserError: neither of the two, or none.
    """
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        value = float(number) if percent else int(number)
    except ValueError:
        value = 0
    if not 0 < value < np.inf or (percent and value > 100):
        raise UserError(
            f"--simplify {text}: a number of splats, such as 5000, or a share of them, such as 25%"
        )
    return max(1, round(count * value / 100)) if percent else int(value)


def simplify(splats: Splats, target: int) -> Splats:
    """Merge finite splats until `target` are left; the result comes in no particular order.

    Raises:
        UserError: a target below 1.
    """
    if target < 1:
        raise UserError(f"--simplify {target}: at least one splat has to stay")
    _, radius = framing(splats)
    state = _moments(splats)
    floor = (LEAST_SIGMA * radius) ** 2
    rng = np.random.default_rng(0)
    while len(state.means) > target:
        first, second = _neighbours(state.means, rng)
        cost = _cost(state, first, second, floor)
        most = min(len(state.means) - target, max(1, int(MAX_SHARE * len(state.means))))
        left, right = _disjoint(first, second, cost, len(state.means), most)
        state = _merge(state, left, right)
    return _splats(state, splats)


def _moments(splats: Splats) -> Moments:
    rotations = rotations_from_quaternions(splats.unit_quats_wxyz.astype(np.float64))
    scales = splats.scales.astype(np.float64)
    axes = rotations * scales[:, None, :]
    weights = np.maximum(splats.opacities.astype(np.float64), 1e-6) * _shadow(scales)
    covariances = axes @ axes.transpose(0, 2, 1)
    return Moments(
        weights, splats.means.astype(np.float64), covariances, splats.sh.astype(np.float64)
    )


def _shadow(scales: FloatArray) -> FloatArray:
    """The mean area [N], over directions, of an ellipsoid's shadow, up to a factor.

    A quarter of its surface (Cauchy), which K. Thomsen's formula gives to 1 %.
    """
    a, b, c = np.maximum(scales, 1e-12).T
    p = 1.6075
    return (((a * b) ** p + (a * c) ** p + (b * c) ** p) / 3) ** (1 / p)


def _neighbours(
    means: FloatArray, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of splats that lie near one another along turned Morton curves."""
    pairs = []
    for _ in range(CURVES):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        order = morton_order(means @ turn + rng.normal(size=3))
        steps = range(1, min(NEIGHBOURS, len(means) - 1) + 1)
        pairs += [np.stack([order[:-step], order[step:]]) for step in steps]
    both = np.sort(np.concatenate(pairs, axis=1), axis=0)
    keys = np.unique(both[0] * len(means) + both[1])
    return keys // len(means), keys % len(means)


def _cost(state: Moments, first: NDArray, second: NDArray, floor: float) -> FloatArray:
    """What merging each pair would lose."""
    a, b = state.take(first), state.take(second)
    blur = floor * np.eye(3)

    own = _log_det(state.covariances + blur)
    weight = a.weights + b.weights
    merged = _log_det(_covariance(a, b) + blur)
    bound = 0.5 * (weight * merged - a.weights * own[first] - b.weights * own[second])
    colors = SH_C0 * (a.sh - b.sh)
    return bound + COLOR_WEIGHT * a.weights * b.weights / weight * np.square(colors).sum(
        axis=(1, 2)
    )


def _log_det(symmetric: FloatArray) -> FloatArray:
    """Of matrices [N,3,3]; written out, which is much faster than numpy's for any size."""
    a, b, c = symmetric[:, 0, 0], symmetric[:, 0, 1], symmetric[:, 0, 2]
    d, e, f = symmetric[:, 1, 1], symmetric[:, 1, 2], symmetric[:, 2, 2]
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    return np.log(np.maximum(determinant, 1e-300))


def _covariance(a: Moments, b: Moments) -> FloatArray:
    share = (a.weights / (a.weights + b.weights))[:, None, None]
    apart = a.means - b.means
    outer = apart[:, :, None] * apart[:, None, :]
    return share * a.covariances + (1 - share) * b.covariances + share * (1 - share) * outer


def _disjoint(
    first: NDArray, second: NDArray, cost: FloatArray, count: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most `most` pairs of which no two share a splat: the cheapest that are so for both
    ends."""
    best = np.full(count, np.inf)
    np.minimum.at(best, first, cost)
    np.minimum.at(best, second, cost)
    mutual = np.flatnonzero((cost == best[first]) & (cost == best[second]))
    mutual = mutual[np.argsort(cost[mutual], kind="stable")]
    _, position = np.unique(
        np.stack([first[mutual], second[mutual]], axis=1).ravel(), return_index=True
    )
    fresh = (
        np.bincount(position // 2, minlength=len(mutual)) == 2
    )  # equal costs may name a splat twice
    chosen = mutual[fresh][:most]
    return first[chosen], second[chosen]


def _merge(state: Moments, left: NDArray, right: NDArray) -> Moments:
    a, b = state.take(left), state.take(right)
    share = (a.weights / (a.weights + b.weights))[:, None]
    stays = np.ones(len(state.means), dtype=bool)
    stays[left], stays[right] = False, False
    rest = state.take(stays)
    return Moments(
        np.concatenate([rest.weights, a.weights + b.weights]),
        np.concatenate([rest.means, share * a.means + (1 - share) * b.means]),
        np.concatenate([rest.covariances, _covariance(a, b)]),
        np.concatenate([rest.sh, share[..., None] * a.sh + (1 - share[..., None]) * b.sh]),
    )


def _splats(state: Moments, like: Splats) -> Splats:
    values, vectors = np.linalg.eigh(state.covariances)
    vectors[:, :, 0] *= np.sign(np.linalg.det(vectors))[:, None]
    scales = np.sqrt(np.maximum(values, 1e-18))
    opacities = np.minimum(state.weights / _shadow(scales), MAX_OPACITY)
    return dataclasses.replace(
        like,
        means=state.means,
        log_scales=np.log(scales),
        quats_wxyz=quaternion_from_rotation(vectors),
        logit_opacities=logit(opacities),
        sh=state.sh,
    )
