"""Floor 0: what a number may be, said once: of a knob (else it is refused by name) or of something measured.

A knob carries its bounds in its dataclass field (`bounded`, `law`), and `check` reads them off.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from gs_ssd.errors import UserError

NUMBERS, LAW = "bounds", "bounds of a law"


@dataclasses.dataclass(frozen=True)
class Bounds:
    """An interval of numbers; `above` and `below` say that its lower and its upper end do not belong to it."""

    low: int | float = -math.inf
    high: int | float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: int | float) -> bool:
        """Whether `value` lies inside; NaN lies nowhere."""
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high) and not (self.above or self.below):
            return f"within {self.low:g}..{self.high:g}"
        ends = []
        if math.isfinite(self.low):
            ends.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if math.isfinite(self.high):
            ends.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        return " and ".join(ends) or "a number"


POSITIVE, SHARE = Bounds(0, above=True), Bounds(0, 1)


def bounded(default: Any, bounds: Bounds) -> Any:
    """A dataclass field: a number, or a tuple of numbers, each within `bounds`; `None` is left alone."""
    return dataclasses.field(default=default, metadata={NUMBERS: bounds})


def law(default: Any, bounds: Bounds) -> Any:
    """A dataclass field: knots (share of the run, value), in order of their shares, their values within `bounds`."""
    return dataclasses.field(default=default, metadata={LAW: bounds})


def check(config: Any, prefix: str = "") -> None:
    """Refuse the first number of a dataclass, or of one inside it, that is out of its bounds.

    Raises:
        UserError: names the key (after `prefix`), what it holds, and what it may.
    """
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check(value, f"{key}.")
        elif value is None:
            continue
        elif NUMBERS in field.metadata:
            _check_numbers(key, value, field.metadata[NUMBERS])
        elif LAW in field.metadata:
            _check_law(key, value, field.metadata[LAW])


def _check_numbers(key: str, value: int | float | Sequence[float], bounds: Bounds) -> None:
    several = isinstance(value, Sequence)
    if not all(bounds.holds(number) for number in (value if several else (value,))):
        shown = list(value) if several else value
        raise UserError(f"{key} is {shown}; {'each of them' if several else 'it'} must be {bounds}")


def _check_law(key: str, knots: Sequence[Sequence[float]], bounds: Bounds) -> None:
    shown = [list(knot) for knot in knots]
    shares = [share for share, _ in knots]
    if shares != sorted(shares):
        raise UserError(f"{key} is {shown}; put the knots [share of the run, value] in order of their shares")
    if not all(bounds.holds(value) for _, value in knots):
        raise UserError(f"{key} is {shown}; the second number of each knot must be {bounds}")
