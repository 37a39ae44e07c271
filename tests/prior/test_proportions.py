"""A warp of space: it moves known boxes to known boxes, can be undone, and the prior follows it."""

import math

import pytest
import torch

from gs_ssd.lab import world
from gs_ssd.lab.prior_training import drawing, sides, variety
from gs_ssd.lab.prior_training.world_proportions import spreads
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.proportions import NUMBERS, SPREADS, filled_cells, of_noise, warp


def box(half=(0.4, 0.3, 0.5), count=21):
    """Points evenly through a box of this half size, its corners among them."""
    lines = [torch.linspace(-h, h, count) for h in half]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 3)


def numbers(**named):
    """Four numbers, zero but for those named by place, in units of what they add to a logarithm."""
    order = ("tall", "wide", "taper", "bulge")
    return torch.tensor([named.get(name, 0.0) / s for name, s in zip(order, SPREADS, strict=True)])


def test_zeros_are_no_warp_to_the_last_bit():
    points = torch.randn(500, 3)
    still = warp(torch.zeros(NUMBERS), box())
    assert torch.equal(still.apply(points), points)
    assert torch.equal(still.undo(points), points)


@pytest.mark.parametrize("seed", range(4))
def test_it_can_be_undone_inside_and_around_the_shape(seed):
    drawn = 2 * torch.randn(NUMBERS, generator=torch.Generator().manual_seed(seed))
    moved, points = warp(drawn, box()), 1.5 * torch.randn(1000, 3)
    assert (moved.apply(points) - points).abs().max() > 0.05
    torch.testing.assert_close(moved.undo(moved.apply(points)), points, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved.apply(moved.undo(points)), points, atol=1e-5, rtol=1e-5)


def test_a_box_becomes_a_box_of_the_proportions_asked_for():
    shape = box((0.4, 0.3, 0.5))
    low, high = warp(numbers(tall=0.2, wide=0.1), shape).apply(shape).aminmax(dim=0)
    torch.testing.assert_close(low, -high)
    x, y, z = high.tolist()
    across = math.log(z / math.sqrt(x * y))
    assert across == pytest.approx(math.log(0.5 / math.sqrt(0.12)) + 0.2, abs=1e-5)
    assert math.log(x / y) == pytest.approx(math.log(0.4 / 0.3) + 0.1, abs=1e-5)
    assert max(z, 0.8 * math.sqrt(x * x + y * y + z * z)) == pytest.approx(
        max(0.5, 0.8 * math.sqrt(0.5)), abs=1e-5
    )  # as large as it was


def test_taper_and_bulge_change_the_radius_with_the_height_alone():
    shape = box((0.3, 0.3, 0.6))
    for named, log_ends in (({"taper": 0.1}, (-0.1, 0.1)), ({"bulge": 0.1}, (0.1, 0.1))):
        moved = warp(numbers(**named), shape)
        column = torch.tensor([[0.3, 0.3, z] for z in (-0.6, 0.0, 0.6)])
        x, y, z = moved.apply(column).T
        torch.testing.assert_close(x, y)
        torch.testing.assert_close(z / z[2], torch.tensor([-1.0, 0.0, 1.0]))
        middle = -0.05 if named == {"bulge": 0.1} else 0.0
        ends = (x[[0, 2]] / x[1]).log() + middle
        torch.testing.assert_close(ends, torch.tensor(log_ends), atol=1e-5, rtol=0)


def test_a_shape_that_is_not_there_is_left_alone():
    moved = warp(torch.ones(NUMBERS), torch.zeros(0, 3))
    points = torch.randn(10, 3)
    torch.testing.assert_close(moved.undo(moved.apply(points)), points)


def test_filled_cells_are_points_of_the_world():
    cells = torch.zeros(4, 4, 4, dtype=torch.bool)
    cells[3, 0, 1] = True  # z, y, x
    assert filled_cells(cells, 1.0).tolist() == [[-0.25, -0.75, 0.75]]


def test_a_noise_gives_four_independent_normal_numbers():
    drawn = torch.stack([of_noise(torch.randn(12, 16, 16)) for _ in range(600)])
    assert drawn.mean(0).abs().max() < 0.2
    torch.testing.assert_close(drawn.T.cov(), torch.eye(NUMBERS), atol=0.25, rtol=0)
    noise = torch.randn(4, 8, 8)
    assert torch.equal(of_noise(noise), of_noise(noise.clone()))


def test_the_spreads_are_those_of_the_world():
    """Four objects of each kind."""
    found = spreads(world.kinds(), range(4)).square().mean(0).sqrt()
    torch.testing.assert_close(found, torch.tensor(SPREADS), rtol=0.25, atol=0)


@pytest.fixture(scope="module")
def prior():
    return load(PriorConfig(), "cpu")


def seen(prior, prompt="a red mug", count=1):
    """What the UNet sees of a prompt at the camera of `variety`."""
    told = Condition(
        prior.embed([prompt]).expand(count, -1, -1), drawing._cameras(variety.camera(count))
    )
    return prior.maps(told)


def test_zeros_are_the_prior_itself_and_others_are_not(prior):
    mean, made = seen(prior), seen(prior.with_proportions(torch.zeros(NUMBERS)))
    assert torch.equal(mean, made)
    first, second = (seen(prior.with_proportions(torch.full((NUMBERS,), x))) for x in (1.0, -1.0))
    assert (first - mean).abs().max() > 0.1
    assert (first - second).abs().max() > 0.1
    assert torch.equal(seen(prior), mean)  # which is left as it was


def test_the_first_splat_has_the_proportions_too(prior):
    tall = numbers(tall=0.3)

    def extents(model):
        points, _ = model.imagine("a red cone", 4000, torch.Generator().manual_seed(0))
        return points.abs().quantile(0.99, dim=0)

    mean, other = extents(prior), extents(prior.with_proportions(tall))
    change = (other / mean).log()
    assert change[2] - change[:2].mean() == pytest.approx(0.3, abs=0.03)


def test_the_drawn_silhouette_follows(prior):
    """Eight steps of DDIM; a mug is drawn taller where its volume is."""
    prompt, views = sides.prompt_of("mug", "red"), variety.camera(1)
    found = []
    for tall in (-0.15, 0.15):
        model = prior.with_proportions(numbers(tall=tall))
        picture = drawing.draw(model, [prompt], views, 0, steps=8)
        found.append(variety.proportions(picture)[0, 0].item())
    assert found[1] - found[0] == pytest.approx(0.3, abs=0.12)


def test_other_noises_draw_other_proportions(prior):
    prompt, views = sides.prompt_of("mug", "red"), variety.camera(4)
    spreads_found = [
        variety.proportions(
            drawing.draw(prior, [prompt] * 4, views, 0, one_noise=False, steps=6, variety=amount)
        )[:, 0].std()
        for amount in (0.0, 1.0)
    ]
    assert spreads_found[1] > 2 * spreads_found[0]
