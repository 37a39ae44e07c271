"""How much pictures differ, measured on pictures whose differences are known."""

import math

import pytest
import torch

from gs_ssd.lab import world
from gs_ssd.lab.prior_training import drawing, sides, variety
from gs_ssd.prior import PriorConfig, load


def ellipses(halves, background=0.8):
    """Red ellipses of these half heights and widths in pixels, on gray."""
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    inside = torch.stack([(y / down) ** 2 + (x / across) ** 2 <= 1 for down, across in halves])
    red = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    return torch.where(inside[:, None], red, background)


def test_proportions_of_ellipses():
    found = variety.proportions(ellipses([(20, 20), (20, 10), (8, 24)]))
    for row, (down, across) in zip(found, [(20, 20), (20, 10), (8, 24)], strict=True):
        assert row[0].exp().item() == pytest.approx(down / across, rel=0.01)
        assert row[1].exp().item() == pytest.approx(math.pi * down * across, rel=0.01)
        assert row[2:].tolist() == pytest.approx([0.9, 0.1, 0.1])


def test_spread_is_that_of_the_objects_and_a_lost_one_does_not_count():
    heights = torch.linspace(14, 22, 24).tolist()
    same, other = (
        variety.spread(ellipses([(down, 16) for down in downs])) for downs in ([18] * 24, heights)
    )
    assert same.tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    quarter = math.log(20 / 16) / 1.349  # the middle half of these heights
    assert other[0].item() == pytest.approx(quarter, rel=0.05)
    assert other[1].item() == pytest.approx(quarter, rel=0.05)
    nothing = torch.full((1, 3, 64, 64), 0.5)
    assert torch.equal(variety.spread(torch.cat([ellipses([(18, 16)] * 8), nothing])), same)


def test_the_world_differs_by_its_shapes_and_less_by_its_lamps():
    views = variety.camera(32)
    shapes, one = (
        variety.spread(variety.photographs("mug", "red", views, 64, 0, same=same))
        for same in (False, True)
    )
    assert shapes[0] > 2 * one[0]
    assert 0.02 < shapes[0] < 0.1  # lengths vary by up to a tenth


def test_azimuths_of_true_views_are_theirs():
    azimuth = torch.tensor([0.0, 90.0, 90.0, 225.0])
    views = world.orbit(azimuth, torch.tensor([0.0, 20.0, 50.0, 10.0]), 3.35, 40.0)
    pictures = variety.photographs("duck", "red", views, 64, 1)
    found = variety.azimuths(pictures, "duck", "red")
    assert found.tolist() == [0, 2, 2, 5]
    assert variety.number_of_views(found) == pytest.approx(2 * math.sqrt(2))
    assert variety.number_of_views(torch.zeros(5, dtype=torch.int64)) == pytest.approx(1)
    assert variety.number_of_views(torch.arange(8)) == pytest.approx(8)


def test_the_shipped_prior_without_a_camera_draws_the_kind_from_more_than_one_side():
    """Six noises, eight steps of DDIM; `gs-ssd variety` asks for all kinds (docs/prior.md)."""
    prior = load(PriorConfig(), "cpu")
    prompts = [sides.prompt_of("car", "red")] * 6
    pictures = drawing.draw(prior, prompts, None, 0, one_noise=False, steps=8)
    assert variety.number_of_views(variety.azimuths(pictures, "car", "red")) > 2
