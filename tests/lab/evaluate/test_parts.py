"""Small parts and gaps, on the true objects themselves with parts taken off, and on drawn
silhouettes."""

import math

import pytest
import torch

from gs_ssd.lab import world
from gs_ssd.lab.evaluate import parts
from gs_ssd.lab.evaluate.measure import Pictures, Truth, numbers_beside_truth
from gs_ssd.lab.evaluate.suite import Entry, Turntable


@pytest.fixture(scope="module")
def teapot() -> Truth:
    return Truth(Entry("a gray teapot", "teapot", "gray"), Turntable(), size=64)


def test_a_teapot_without_its_spout_lacks_the_spout_alone(teapot):
    whole = numbers_beside_truth(teapot.coarse, teapot)
    assert [whole[f"part_{name}"] for name in ("spout", "handle", "knob", "gaps")] == [1.0] * 4
    broken = numbers_beside_truth(Pictures(teapot.without["spout"], teapot.coarse.alpha), teapot)
    assert broken["part_spout"] == 0.0
    assert broken["part_handle"] > 0.95
    assert broken["part_worst"] == 0.0
    assert broken["psnr"] < whole["psnr"]


def test_a_part_in_the_wrong_place_or_colour_is_not_found(teapot):
    moved = teapot.coarse.rgb.roll(30, dims=3)
    assert parts.recall(moved, teapot.coarse.rgb, teapot.without["handle"]) < 0.5
    half_way = 0.3 * teapot.coarse.rgb + 0.7 * teapot.without["handle"]
    assert parts.recall(half_way, teapot.coarse.rgb, teapot.without["handle"]) == 0.0


def test_what_is_never_in_sight_says_nothing(teapot):
    assert math.isnan(parts.recall(teapot.coarse.rgb, teapot.coarse.rgb, teapot.coarse.rgb))


def test_the_hole_of_a_ring_is_a_gap_and_the_rim_is_none():
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    away = ((x - 64) ** 2 + (y - 64) ** 2).sqrt()
    ring, disc = ((away < 20) & (away > 6)).float()[None], (away < 20).float()[None]
    assert parts.gaps(ring > 0.5)[0].sum().item() == pytest.approx(math.pi * 36, rel=0.15)
    assert parts.gap_recall(ring, ring) == 1.0
    assert parts.gap_recall(disc, ring) == 0.0
    assert math.isnan(parts.gap_recall(disc, disc))


def test_psnr_by_hand():
    black = torch.zeros(2, 3, 8, 8)
    assert parts.psnr(black + 0.1, black) == pytest.approx(20.0, abs=1e-4)


def test_every_named_part_shows_somewhere():
    """A name that no view shows would be a mistake in the catalogue."""
    views = world.orbit(torch.arange(8) * 45.0, torch.tensor([0.0, 30.0] * 4), 3.35, 40.0)
    for kind in world.kinds():
        pieces = world.sculpt(kind, "blue")
        layers = world.stack([pieces])
        for name in {piece.name for piece in pieces if piece.name}:
            rest = [
                layer for layer, piece in zip(layers, pieces, strict=True) if piece.name != name
            ]
            with_it, without = (
                world.trace(some, views.w2c, views.tan_half_fov, 96, 96, supersample=1).rgb
                for some in (layers, rest)
            )
            assert ((with_it - without).square().mean(1) > parts.SEEN).sum() > 20, (kind, name)
