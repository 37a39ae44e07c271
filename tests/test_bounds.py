"""Bounds: they hold what they say, and every knob that has some is refused by its own name before a model is loaded."""

import dataclasses
import math

import pytest

from gs_ssd import bounds
from gs_ssd import config as configs
from gs_ssd.bounds import Bounds
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.finish import FinishConfig
from gs_ssd.finish import check as check_finish
from gs_ssd.render import augment
from gs_ssd.scene.optimizers import OptimizerConfig
from gs_ssd.scene.optimizers import check as check_rates


@pytest.mark.parametrize(
    ("interval", "text", "inside", "outside"),
    [
        (Bounds(1), "at least 1", (1, 7), (0, -math.inf)),
        (Bounds(0, above=True), "above 0", (1e-30,), (0, -1)),
        (Bounds(high=0), "at most 0", (0, -2), (0.1,)),
        (Bounds(0, 1), "within 0..1", (0, 1), (-0.1, 1.1)),
        (Bounds(0, 1, above=True, below=True), "above 0 and below 1", (0.5,), (0, 1)),
        (Bounds(0, 1, below=True), "at least 0 and below 1", (0,), (1,)),
        (Bounds(), "a number", (5,), ()),
    ],
)
def test_an_interval_holds_what_it_says(interval, text, inside, outside):
    assert str(interval) == text
    assert all(interval.holds(value) for value in inside)
    assert not any(interval.holds(value) for value in (*outside, math.nan))


def _bounded_keys(config, prefix=""):
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _bounded_keys(value, f"{key}.")
        for kind in (bounds.NUMBERS, bounds.LAW):
            if kind in field.metadata:
                yield key, kind, field.metadata[kind], value


KEYS = [pytest.param(*entry, id=entry[0]) for entry in _bounded_keys(ExperimentConfig())]


@pytest.mark.parametrize(("key", "kind", "interval", "default"), KEYS)
def test_every_bounded_knob_is_refused_by_name(key, kind, interval, default):
    beyond = int(interval.low - 2 if math.isfinite(interval.low) else interval.high + 2)
    length = {"viewpoints.polar_deg": 2}.get(key, len(default) if isinstance(default, tuple) else 0)
    value = f"[[0, {beyond}]]" if kind == bounds.LAW else f"[{', '.join([str(beyond)] * length)}]" if length else beyond
    value = f"[{beyond}]" if key == "output.polar_deg" else value
    with pytest.raises(UserError, match=rf"^{key} is .* must be {interval}$"):
        configs.load(None, [f"{key}={value}"])


def test_there_are_knobs_with_bounds_in_every_section():
    sections = {key.split(".")[0] for key, *_ in _bounded_keys(ExperimentConfig())}
    assert {field.name for field in dataclasses.fields(ExperimentConfig)} - sections == {"prompt", "seed", "device"}


def test_the_defaults_and_what_is_left_open_are_within():
    bounds.check(ExperimentConfig())


def test_knots_must_stand_in_order():
    with pytest.raises(UserError, match=r"regularize\.binarize is \[\[1\.0, 0\.1\], \[0\.0, 0\.2\]\].*in order"):
        configs.load(None, ["regularize.binarize=[[1, 0.1], [0, 0.2]]"])


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_a_number_is_finite(number):
    with pytest.raises(UserError, match=r"guidance\.scale holds .* where a number is due"):
        configs.load(None, [f"guidance.scale={number}"])


def test_the_finish_is_refused_before_the_run_and_under_its_own_name():
    with pytest.raises(UserError, match=r"finish\.means is \[0, 1\]"):
        check_finish(FinishConfig(means=(0.0, 1.0)))


def test_scales_that_could_not_hold_late_in_the_run_are_refused_at_its_start():
    crossing = OptimizerConfig(scale_floor=((0.0, 0.001), (1.0, 0.5)), scale_ceiling=((0.0, 0.1), (0.5, 0.3)))
    with pytest.raises(UserError, match=r"scale_floor 0\.5 is above scale_ceiling 0\.3 at 100%"):
        check_rates(crossing)
    check_rates(dataclasses.replace(crossing, scale_floor=((0.0, 0.001), (1.0, 0.3))))


def test_backgrounds_share_one_whole():
    augment.check(augment.AugmentConfig(background_random=0.33, background_black=0.67))
    with pytest.raises(UserError, match=r"background_random=0\.7 and background_black=0\.5"):
        augment.check(augment.AugmentConfig(background_random=0.7, background_black=0.5))
