"""Bounds: they hold what they say, and every setting that has some is refused by its own name."""

import math
import typing

import pytest
from pydantic import ValidationError

from gs_ssd import config as configs
from gs_ssd import refusals
from gs_ssd.assets.splat.finish import FinishConfig
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.bounds import Bounds
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError


@pytest.mark.parametrize(
    ("interval", "text", "inside", "outside"),
    [
        (Bounds(1), "at least 1", (1, 7), (0, -math.inf)),
        (Bounds(0, above=True), "above 0", (1e-30,), (0, -1)),
        (Bounds(high=0), "at most 0", (0, -2), (0.1,)),
        (Bounds(0, 1), "within 0..1", (0, 1), (-0.1, 1.1)),
        (Bounds(0, 1, above=True, below=True), "above 0 and below 1", (0.5,), (0, 1)),
        (Bounds(0, 1, below=True), "at least 0 and below 1", (0,), (1,)),
        (Bounds(4, 20_000_000), "within 4..20,000,000", (4,), (3,)),
        (Bounds(), "a number", (5,), ()),
    ],
)
def test_an_interval_holds_what_it_says(interval, text, inside, outside):
    assert str(interval) == text
    assert all(interval.holds(value) for value in inside)
    assert not any(interval.holds(value) for value in (*outside, math.nan))


def _numbers(annotation: typing.Any) -> typing.Iterator[typing.Any]:
    """The annotations of all numbers in an annotation."""
    inner = refusals.bare(annotation)
    if typing.get_origin(inner) is tuple:
        for item in typing.get_args(inner):
            yield from () if item is Ellipsis else _numbers(item)
    elif inner in (int, float):
        yield annotation


def _with(annotation: typing.Any, number: object) -> object:
    """`number` in as many lists as the annotation wants."""
    inner = refusals.bare(annotation)
    if typing.get_origin(inner) is not tuple:
        return number
    items = [item for item in typing.get_args(inner) if item is not Ellipsis]
    return [_with(item, number) for item in items]


NUMBERS = [
    key for key, (annotation, _) in configs.known_keys().items() if any(_numbers(annotation))
]


@pytest.mark.parametrize("key", NUMBERS)
def test_every_number_has_two_ends_and_is_refused_by_name_beyond_them(key):
    """An open end is a crash, a hang or a full memory that somebody will find."""
    annotation, _ = configs.known_keys()[key]
    for number in _numbers(annotation):
        bounds = refusals.bounds_of(number)
        assert bounds is not None
        assert math.isfinite(bounds.low)
        assert math.isfinite(bounds.high)
    for beyond in (
        "-1e38",
        "1e38",
        "-100000000000000000000",
        "100000000000000000000",
        ".nan",
        ".inf",
        "many",
        "{}",
    ):
        value = str(_with(annotation, beyond)).replace("'", "")
        with pytest.raises(UserError, match=rf"^({key}=.*: )?{key} is .*(;|section)"):
            configs.load(None, [f"{key}={value}"])


def test_every_default_is_within_its_bounds():
    """pydantic checks what is given, not the defaults."""
    assert (
        configs.from_mapping(configs.to_mapping(ExperimentConfig()), "defaults")
        == ExperimentConfig()
    )


def test_knots_must_stand_in_order():
    with pytest.raises(
        UserError, match=r"regularize\.binarize is \[\[1, 0\.1\], \[0, 0\.2\]\].*in order"
    ):
        configs.load(None, ["regularize.binarize=[[1, 0.1], [0, 0.2]]"])


def test_a_config_that_exists_is_valid():
    with pytest.raises(ValidationError, match="both must be positive, or both 0"):
        FinishConfig(means=(0.0, 1.0))
    with pytest.raises(ValidationError, match="num_steps"):
        ExperimentConfig(num_steps=0)
    with pytest.raises(
        UserError, match=r"background_random=0\.7 and augment\.background_black=0\.5"
    ):
        configs.load(None, ["augment.background_random=0.7", "augment.background_black=0.5"])


def test_scales_that_could_not_hold_late_in_the_run_are_refused_at_its_start():
    crossing = {
        "scale_floor": ((0.0, 0.001), (1.0, 0.5)),
        "scale_ceiling": ((0.0, 0.1), (0.5, 0.3)),
    }
    with pytest.raises(
        UserError, match=r"scale_floor 0\.5 is above optimizer.scale_ceiling 0\.3 at 100%"
    ):
        OptimizerConfig(**crossing)
    OptimizerConfig(**{**crossing, "scale_floor": ((0.0, 0.001), (1.0, 0.3))})
