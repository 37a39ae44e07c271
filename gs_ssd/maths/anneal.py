"""Laws of the step, as pure functions of `progress`, the share of the run that is behind us
(0..1)."""

import itertools
import math
from collections.abc import Sequence


def progress(step: int, num_steps: int) -> float:
    """Share of a run that lies behind `step` (counted from 0), clipped to 0..1."""
    return min(max(step / max(num_steps, 1), 0.0), 1.0)


def linear(at: float, start: float, end: float) -> float:
    """From `start` to `end` along a straight line; `at` is clipped to 0..1."""
    clipped = min(max(at, 0.0), 1.0)
    return start + (end - start) * clipped


def log_linear(at: float, start: float, end: float) -> float:
    """From `start` to `end` by equal factors: start^(1 - at) end^at.

    Equal ends are a constant, zero included."""
    if start == end:
        return start
    if start <= 0.0 or end <= 0.0:
        raise ValueError(f"a log-linear law needs positive ends, got {start} and {end}")
    clipped = min(max(at, 0.0), 1.0)
    return math.exp(math.log(start) * (1.0 - clipped) + math.log(end) * clipped)


def piecewise(at: float, knots: Sequence[Sequence[float]]) -> float:
    """Straight lines between knots (position, value); constant before the first and after the last.

    Two knots at one position are a jump; there the later value holds. No knots: zero.
    """
    if not knots:
        return 0.0
    positions = [knot[0] for knot in knots]
    if positions != sorted(positions):
        raise ValueError(f"knots must be ordered by position, got positions {positions}")
    if at < positions[0]:
        return knots[0][1]
    for (left, low), (right, high) in reversed(list(itertools.pairwise(knots))):
        if left <= at < right:
            return linear((at - left) / (right - left), low, high)
        if at >= right:
            return high
    return knots[-1][1]
