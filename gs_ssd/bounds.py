"""What a setting may be, said once, beside it: its type, its bounds, its choices.

`settings` makes a frozen dataclass that pydantic checks whenever one is made, so a config that
exists is a valid one and nothing below looks again. The types here are what its fields are
annotated with; `Bounds` also says whether something measured lies where it should.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

import annotated_types
import pydantic
from pydantic import AfterValidator, ConfigDict

T = TypeVar("T")
N = TypeVar("N")


@dataclasses.dataclass(frozen=True)
class Bounds(annotated_types.GroupedMetadata):
    """An interval of numbers; `above` and `below` say that its lower and its upper end do not
    belong to it."""

    low: int | float = -math.inf
    high: int | float = math.inf
    above: bool = False
    below: bool = False

    def __iter__(self) -> Iterator[annotated_types.BaseMetadata]:
        """The parts that pydantic knows: one for each end."""
        if math.isfinite(self.low):
            yield annotated_types.Gt(self.low) if self.above else annotated_types.Ge(self.low)
        if math.isfinite(self.high):
            yield annotated_types.Lt(self.high) if self.below else annotated_types.Le(self.high)

    def holds(self, value: int | float) -> bool:
        """Whether `value` lies inside; NaN lies nowhere."""
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high) and not (self.above or self.below):
            return f"within {_shown(self.low)}..{_shown(self.high)}"
        ends = []
        if math.isfinite(self.low):
            ends.append(f"{'above' if self.above else 'at least'} {_shown(self.low)}")
        if math.isfinite(self.high):
            ends.append(f"{'below' if self.below else 'at most'} {_shown(self.high)}")
        return " and ".join(ends) or "a number"


def _shown(number: int | float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass that takes nothing but what its annotations say: no text for a number, no
    NaN, no unknown key.

    Raises (the class, when it is called):
        pydantic.ValidationError: a value that does not fit; `gs_ssd.config` turns it into a
        sentence.
        UserError: values that do not go together (from a `__post_init__`); names the keys.
    """
    checks = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return cast(type[T], pydantic.dataclasses.dataclass(frozen=True, config=checks)(cls))


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Checks that a word is one of `names`; else the nearest is named."""

    names: tuple[str, ...]

    def __call__(self, value: str) -> str:
        if value not in self.names:
            near = difflib.get_close_matches(value, self.names, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"choose one of {', '.join(self.names)}{hint}")
        return value


def choice(table: Iterable[str]) -> AfterValidator:
    """The value is one of the names in `table`; else the nearest is named."""
    return AfterValidator(OneOf(tuple(table)))


def _in_order(what: str, sort_key: Callable[[Any], Any]) -> AfterValidator:
    def check(value: tuple[Any, ...]) -> tuple[Any, ...]:
        keys = [sort_key(item) for item in value]
        if keys != sorted(keys):
            raise ValueError(what)
        return value

    return AfterValidator(check)


IN_ORDER = _in_order(
    "put the knots in order of their first numbers, the shares of the run", lambda knot: knot[0]
)
LOW_HIGH = _in_order("put the smaller number first", float)

BREAKS = "\n\r\u2028\u2029"


def one_line(text: str) -> str:
    """The text without line breaks at its end, where YAML's `|` and `>` leave one.

    Raises:
        ValueError: it has another.
    """
    text = text.rstrip(BREAKS)
    if any(character in text for character in BREAKS):
        raise ValueError("write it in one line")
    return text


Line = Annotated[str, AfterValidator(one_line)]
"""Text that is a title, a ledger's entry and a line of a file, too."""
Positive = Annotated[float, Bounds(0, 1_000_000, above=True)]
NonNegative = Annotated[float, Bounds(0, 1_000_000)]
Share = Annotated[float, Bounds(0, 1)]
Number = Annotated[float, Bounds(-1_000_000, 1_000_000)]
PolarDeg = Annotated[float, Bounds(0, 180)]
AzimuthDeg = Annotated[float, Bounds(-3600, 3600)]
FovDeg = Annotated[float, Bounds(0, 170, above=True, below=True)]
Distance = Annotated[float, Bounds(0.2, 1000, above=True)]
"""Of a camera from the origin; world units, of which the object fills about one."""
Rate = Annotated[float, Bounds(0, 10)]
"""A learning rate; Adam moves a parameter by about this much at a step."""
Size = Annotated[int, Bounds(16, 4096)]
"""Pixels a side."""
Count = Annotated[int, Bounds(1, 20_000_000)]
"""Of Gaussians."""
Often = Annotated[int, Bounds(0, 1_000_000_000)]
"""Steps between two of something; 0: never."""
Views = Annotated[int, Bounds(1, 64)]
"""Pictures that are held in memory at once."""

Range = Annotated[tuple[N, N], LOW_HIGH]
"""(lowest, highest)."""
Knots = Annotated[tuple[tuple[Share, N], ...], IN_ORDER]
"""A law of progress: knots (share of the run, value), joined by straight lines."""
