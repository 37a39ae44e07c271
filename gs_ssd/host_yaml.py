"""What the readers of other programs' YAML files have in common: names, kinds, and notes."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

from gs_ssd.errors import UserError

MODELS = {
    "stabilityai/stable-diffusion-2-1-base": "sd21-base",
    "runwayml/stable-diffusion-v1-5": "sd15",
}
"""Ids that left the hub, and our short names for the same weights."""

SWITCHES = {"on": True, "yes": True, "y": True, "off": False, "no": False, "n": False}


@dataclasses.dataclass(frozen=True)
class Translation:
    """A nested mapping in our schema, and what the user should know about it, one sentence a
    line."""

    config: dict[str, Any]
    notes: tuple[str, ...]


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of a message that refuses `key`: the name that is most like it, if any is."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def as_kind(name: str, value: Any, default: Any) -> Any:
    """`value`, if it is of the kind of `default`: a number, a switch, a range, text.

    Both programs read YAML 1.1 (on, off, yes, no), and take 1e5 where a whole number is due.

    Raises:
        UserError: it is of another kind.
    """
    if isinstance(default, bool):
        value = SWITCHES.get(value.lower(), value) if isinstance(value, str) else value
        good, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        good, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    elif isinstance(default, list):
        good = (
            isinstance(value, list)
            and len(value) == len(default)
            and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        )
        wanted = f"a list of {len(default)} numbers"
    else:
        good, wanted = value is None or isinstance(value, str), "text"
    if not good:
        raise UserError(f"{name} is {value!r}; it must be {wanted}")
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def tidy(number: float) -> float:
    """Nine digits: products of decimal numbers look like decimal numbers again."""
    return float(f"{number:.9g}")
