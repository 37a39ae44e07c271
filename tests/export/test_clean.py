"""Cleaning takes what was asked for, counts it, and leaves the rest alone."""

import dataclasses

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.clean import Cleaning, clean, main_body, most_visible
from gs_ssd.export.splats import Splats


def body(count=2000, *, center=(0.0, 0.0, 0.0), radius=1.0, opacity=2.0, seed=0) -> Splats:
    """A ball full of small splats."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    means = np.asarray(center) + directions * radius * rng.uniform(size=(count, 1)) ** (1 / 3)
    quats = np.tile([1.0, 0, 0, 0], (count, 1))
    return Splats(
        means,
        np.full((count, 3), -3.0),
        quats,
        np.full(count, opacity),
        np.zeros((count, 1, 3)),
        "world",
    )


def together(*parts: Splats) -> Splats:
    names = ("means", "log_scales", "quats_wxyz", "logit_opacities", "sh")
    return Splats(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in names}, frame="world"
    )


def test_nothing_is_taken_unasked():
    splats = axes_object()
    kept, removed = clean(splats, Cleaning(non_finite=False))
    assert removed == {}
    assert kept is splats


def test_non_finite_of_every_kind():
    splats = body(10)
    splats.means[0, 1] = np.nan
    splats.means[1, 0] = 1e9
    splats.log_scales[2, 0] = 80
    splats.log_scales[3, 0] = -np.inf
    splats.quats_wxyz[4] = 0
    splats.logit_opacities[5] = np.nan
    splats.sh[6, 0, 2] = np.inf
    kept, removed = clean(splats, Cleaning())
    assert removed == {"non-finite": 7}
    assert kept.means == pytest.approx(splats.means[7:])


def test_invisible_limit_and_order_of_counting():
    splats = together(body(100), body(50, opacity=-7.0), body(30, opacity=0.0))
    kept, removed = clean(splats, Cleaning(invisible=True, max_splats=110))
    assert removed == {"non-finite": 0, "invisible": 50, "above the limit": 20}
    assert (kept.logit_opacities == 2.0).sum() == 100  # the faint ones went first


@pytest.mark.parametrize("faint", [False, True])
def test_floaters_go_and_the_body_stays(faint):
    stray = body(40, center=(2.5, 0, 0.4), radius=0.1, seed=1)
    fog = (
        body(300, center=(0, 0, 4), radius=0.9, opacity=-3.0, seed=2)
        if faint
        else stray.take(np.zeros(0, dtype=int))
    )
    splats = together(stray, body(2000), fog)
    mask = main_body(splats)
    assert not mask[:40].any()
    assert mask[40:2040].all()
    assert not mask[2040:].any()


def test_touching_parts_are_one_body():
    splats = together(body(1000), body(500, center=(1.1, 0, 0), radius=0.2, seed=3))
    assert main_body(splats).all()


def test_crop_is_round_the_middle_of_the_object():
    splats = body(4000, center=(5, 5, 5))
    kept, removed = clean(splats, Cleaning(crop_radius=0.5))
    assert np.linalg.norm(kept.means - [5, 5, 5], axis=1).max() < 0.55
    assert removed["outside the crop"] == pytest.approx(4000 * (1 - 0.5**3), rel=0.05)


@pytest.mark.parametrize("frame", ["world", "gltf", "inria", "blender"])
def test_height_and_ground(frame):
    splats = body(3000, center=(3, -2, 7), radius=2.0).to_frame(frame)
    kept, _ = clean(splats, Cleaning(recenter=True, height=0.3))
    means = kept.to_frame("world").means
    assert means[:, 2].min() == pytest.approx(0, abs=0.02)
    assert means[:, 2].max() == pytest.approx(0.3, abs=0.02)
    assert means[:, :2].mean(axis=0) == pytest.approx([0, 0], abs=0.01)
    ratio = np.exp(kept.log_scales[0, 0] - splats.log_scales[0, 0])
    spread = np.ptp(kept.means, axis=0) / np.ptp(splats.means, axis=0)
    assert spread == pytest.approx(
        [ratio] * 3, rel=1e-4
    )  # splats shrink as much as the object does


def test_nothing_left_is_an_error():
    with pytest.raises(UserError, match="all of the last 10 were invisible"):
        clean(body(10, opacity=-9.0), Cleaning(invisible=True))


@pytest.mark.parametrize(
    ("field", "option"),
    [("crop_radius", "--crop"), ("max_splats", "--max-splats"), ("height", "--height")],
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_senseless_numbers(field, option, value):
    if field == "max_splats" and isinstance(value, float):
        pytest.skip("the command line reads an integer")
    value = value if field == "max_splats" else float(value)
    with pytest.raises(UserError, match=option):
        clean(body(5), dataclasses.replace(Cleaning(), **{field: value}))


def test_the_most_visible_are_those_that_a_limit_keeps(make_splats):
    splats = make_splats(500)
    kept, _ = clean(splats, Cleaning(invisible=False, max_splats=120))
    quick = most_visible(splats, 120)
    assert np.array_equal(quick.means, kept.means)
    assert most_visible(splats, 500) is splats
    splats.means[:400] = np.nan
    assert np.isfinite(most_visible(splats, 100).means).all()
    assert len(most_visible(splats, 101)) == 101
