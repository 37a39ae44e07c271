import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from gs_ssd.lab.evaluate.statistics import (
    connected_components,
    edge_width,
    front_count,
    haze_share,
    high_frequency_energy,
    leaning,
    nearest_views,
    outside_main_component,
    saturation,
    silhouette_iou,
)

SIZE = 256
ROWS, COLUMNS = torch.meshgrid(
    torch.arange(SIZE) - 127.5, torch.arange(SIZE) - 127.5, indexing="ij"
)
RADIUS = torch.hypot(ROWS, COLUMNS)


def soft_disc(radius: float, scale: float) -> torch.Tensor:
    """Alpha falls as a normal distribution of that scale (pixels) around the radius."""
    return (0.5 * (1 + torch.erf((radius - RADIUS) / (scale * math.sqrt(2)))))[None]


@pytest.mark.parametrize("scale", [1.0, 3.0, 8.0])
def test_edge_width_of_a_gaussian_edge_is_2_56_scales(scale):
    assert 0 <= edge_width(soft_disc(80, scale)) - 2 * 1.28155 * scale < 0.25


def test_edge_width_of_a_slanted_ramp_does_not_depend_on_its_direction():
    for angle in (0.0, 0.4, 1.0):
        ramp = ((COLUMNS * math.cos(angle) + ROWS * math.sin(angle)) / 20 + 0.5).clamp(0, 1)[None]
        assert edge_width(ramp) == pytest.approx(16, rel=0.03)


def test_edge_width_is_no_less_where_the_inside_never_gets_solid():
    assert edge_width(0.8 * soft_disc(80, 1.0), reach=30) > 30
    assert math.isnan(edge_width(torch.zeros(2, 32, 32)))


def test_haze_share_counts_the_soft_rim_and_the_fog():
    ring = (RADIUS < 100).float() * 0.5 + (RADIUS < 50).float() * 0.5
    assert haze_share(ring[None]) == pytest.approx(0.75, abs=0.01)
    assert haze_share((RADIUS < 50).float()[None]) == 0
    assert math.isnan(haze_share(torch.zeros(1, 8, 8)))


def test_outside_the_main_component_a_floater_and_thin_fog_count():
    body = (RADIUS < 60).float()
    floater = (torch.hypot(ROWS - 100, COLUMNS - 100) < 20).float()
    share = float(floater.sum() / (body + floater).sum())
    assert outside_main_component((body + floater)[None]) == pytest.approx(share)
    assert outside_main_component(body[None]) == 0
    fog = torch.where(body > 0, 1.0, 0.05)
    assert outside_main_component(fog[None]) == pytest.approx(
        0.05 * float((body == 0).sum()) / float(fog.sum())
    )
    assert outside_main_component(torch.stack([body + floater, body])) == pytest.approx(
        float(floater.sum() / (2 * body + floater).sum())
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.3, 0.45, 0.6]))
def test_components_agree_with_scipy(seed, density):
    mask = torch.rand(2, 24, 31, generator=torch.Generator().manual_seed(seed)) < density
    ours = connected_components(mask)
    for picture, labels in zip(mask, ours, strict=True):
        theirs, count = ndimage.label(picture.numpy(), structure=[[1] * 3] * 3)
        pairs = {(int(a), int(b)) for a, b in zip(labels.flatten(), theirs.flatten(), strict=True)}
        assert len(pairs) == count + bool((~picture).any())


def test_a_long_spiral_is_one_component():
    angle = torch.atan2(ROWS, COLUMNS)
    spiral = ((RADIUS / 16 - angle / (2 * math.pi)) % 1 < 0.5) & (RADIUS > 8) & (RADIUS < 120)
    spiral = spiral[::2, ::2]
    _, count = ndimage.label(spiral.numpy(), structure=[[1] * 3] * 3)
    assert len(connected_components(spiral[None]).unique()) == count + 1


def test_silhouette_iou_of_two_discs_and_of_nothing():
    small, large = soft_disc(40, 0.1), soft_disc(80, 0.1)
    assert silhouette_iou(small, large).tolist() == pytest.approx([0.25], abs=0.005)
    nothing = torch.zeros(1, SIZE, SIZE)
    assert silhouette_iou(torch.cat([large, nothing]), torch.cat([large, large])).tolist() == [1, 0]
    assert silhouette_iou(nothing, nothing).isnan().all()


def test_saturation_is_that_of_the_colour_whatever_the_opacity():
    color = torch.tensor([0.8, 0.4, 0.2])[:, None, None]
    alpha = torch.where(COLUMNS < 0, 1.0, 0.3)
    assert saturation((color * alpha)[None], alpha[None]) == pytest.approx(0.75)
    gray_where_thin = torch.where(COLUMNS < 0, color, torch.tensor(0.5))
    assert saturation((gray_where_thin * alpha)[None], alpha[None]) == pytest.approx(0.75 / 1.3)


def test_high_frequency_energy_is_that_of_the_waves_above_the_cut():
    def wave(cycles):
        return (0.5 + 0.25 * torch.sin(2 * math.pi * cycles * torch.arange(SIZE) / SIZE)).expand(
            1, 3, SIZE, SIZE
        )

    assert high_frequency_energy(wave(40)) == pytest.approx(0.25**2 / 2, rel=1e-4)
    assert high_frequency_energy(wave(8)) == pytest.approx(0, abs=1e-9)


def test_a_blurred_picture_has_less_of_it():
    assert high_frequency_energy(
        soft_disc(80, 4).expand(1, 3, SIZE, SIZE)
    ) < 0.2 * high_frequency_energy(soft_disc(80, 0.5).expand(1, 3, SIZE, SIZE))


def test_nearest_view_finds_the_true_azimuth_and_a_second_face():
    truth = torch.rand(8, 3, 16, 16)
    every = truth.expand(8, 8, 3, 16, 16)
    honest, _ = nearest_views(truth + 0.05 * torch.rand(8, 3, 16, 16), every)
    assert honest.tolist() == list(range(8))
    assert front_count([45.0 * i for i in honest.tolist()]) == 1
    janus = truth.clone()
    janus[4] = truth[0]
    found, _ = nearest_views(janus, every)
    assert front_count([45.0 * i for i in found.tolist()]) == 2


def test_a_picture_between_two_others_leans_by_its_share_whatever_else_it_shows():
    here, there = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    blend = torch.stack([0.75 * here[0] + 0.25 * there[0], there[1]])
    assert leaning(blend, here, there).tolist() == pytest.approx([0.25, 1.0], abs=1e-5)
    way = (there - here).flatten(1)
    noise = torch.rand(2, way.shape[1])
    noise = noise - (noise * way).sum(1, keepdim=True) / way.square().sum(1, keepdim=True) * way
    assert leaning(blend + noise.view_as(here), here, there).tolist() == pytest.approx(
        [0.25, 1.0], abs=1e-4
    )


def test_front_is_a_half_open_quarter_on_both_sides():
    assert front_count([0.0, 44.0, 316.0, 360.0, -20.0]) == 5
    assert front_count([45.0, 90.0, 180.0, 315.0, -45.0]) == 0
