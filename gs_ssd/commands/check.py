"""One question of `gs-ssd check-model`, answered."""

from dataclasses import dataclass

from gs_ssd.bounds import Bounds


@dataclass(frozen=True)
class Check:
    """One question to the model."""

    name: str
    passed: bool
    found: str
    wanted: str


def within(name: str, value: float, bounds: Bounds, found: str) -> Check:
    """A question that a number answers."""
    return Check(name, bounds.holds(value), found, str(bounds))
