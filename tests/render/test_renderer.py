"""Rendering a batch: shapes, the screen gradient, backgrounds, augmentation, disparity."""

import math

import pytest
import torch

from gs_ssd.render import augment
from gs_ssd.render.augment import AugmentConfig
from gs_ssd.render.output import disparity, shrink
from gs_ssd.render.renderer import render
from gs_ssd.scene import camera
from gs_ssd.scene.gaussians import Gaussians


def ball(count: int = 1, *, sh_degree: int = 0) -> Gaussians:
    """Solid red Gaussians near the origin."""
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=0.05 * torch.randn(count, 3, generator=generator) if count > 1 else torch.zeros(1, 3),
        log_scales=torch.full((count, 3), math.log(0.3)),
        quats_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        logit_opacities=torch.full((count,), 6.0),
        sh_dc=((torch.tensor([1.0, 0.1, 0.0]) - 0.5) / 0.28209479).expand(count, 1, 3).clone(),
        sh_rest=torch.zeros(count, (sh_degree + 1) ** 2 - 1, 3),
    )


VIEWS = camera.ring(3, math.pi / 2, 3.0, 0.8, 32)


def test_all_views_come_in_one_batch_with_the_splats_colour_over_each_background():
    backgrounds = torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 0, 1]])
    output = render(ball(), VIEWS, backgrounds)
    assert output.rgb.shape == (3, 3, 32, 32)
    assert output.alpha.shape == output.depth.shape == (3, 1, 32, 32)
    torch.testing.assert_close(output.rgb[:, :, 0, 0], backgrounds, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        output.rgb[:, :, 16, 16], torch.tensor([[1.0, 0.1, 0.0]]).expand(3, 3), atol=0.05, rtol=0
    )
    assert output.alpha[:, 0, 16, 16].min() > 0.9
    assert (output.radii > 0).all()
    torch.testing.assert_close(
        output.depth / output.alpha.clamp_min(0.5), 3 * output.alpha / output.alpha.clamp_min(0.5)
    )


@pytest.mark.parametrize("sh_degree", [0, 1])
def test_gradients_reach_every_raw_tensor_and_the_screen_means_of_every_view(sh_degree):
    splat = ball(5, sh_degree=sh_degree).requires_grad_()
    output = render(splat, VIEWS, torch.ones(3, 3))
    assert (output.screen_gradient == 0).all()
    weight = torch.linspace(0, 1, 32).expand(3, 3, 32, 32)
    (output.rgb * weight + output.depth * weight[:, :1] ** 2).sum().backward()
    for name, tensor in splat.parameters().items():
        if tensor.numel() and name != "quats_wxyz":  # a round Gaussian does not feel its rotation
            assert tensor.grad.abs().sum() > 0, name
    assert (output.screen_gradient.norm(dim=(1, 2)) > 0).all()


def test_nothing_is_recorded_without_gradients():
    with torch.no_grad():
        output = render(ball().requires_grad_(), VIEWS, torch.ones(3, 3))
    assert not output.rgb.requires_grad


def test_given_scales_replace_the_splats_own():
    small = render(ball(), VIEWS, torch.ones(3, 3), scales=torch.full((1, 3), 0.05))
    assert small.alpha.sum() < 0.1 * render(ball(), VIEWS, torch.ones(3, 3)).alpha.sum()


def test_backgrounds_have_the_shares_of_the_recipe():
    colors = augment.backgrounds(AugmentConfig(), 20_000, torch.Generator().manual_seed(0))
    white, black = (colors == 1).all(dim=1), (colors == 0).all(dim=1)
    assert white.float().mean().item() == pytest.approx(0.34, abs=0.015)
    assert black.float().mean().item() == pytest.approx(0.33, abs=0.015)
    assert colors[~white & ~black].std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)


def test_scale_noise_is_relative_and_never_negative():
    scales = torch.tensor([0.01, 1.0, 5.0]).expand(50_000, 3)
    noisy = augment.noisy_scales(scales, AugmentConfig(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        (noisy / scales).std(dim=0), torch.full((3,), 0.1118), atol=2e-3, rtol=0
    )
    wild = augment.noisy_scales(
        scales, AugmentConfig(scale_noise=5.0), torch.Generator().manual_seed(0)
    )
    assert wild.min() == 0
    assert augment.noisy_scales(scales, AugmentConfig(scale_noise=0.0), torch.Generator()) is scales


def test_disparity_is_one_where_it_is_near_and_zero_where_nothing_is():
    alpha = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 4)
    depth = torch.tensor([2.0, 3.0, 4.0, 0.0]).view(1, 1, 1, 4)
    values = disparity(depth, alpha, torch.tensor([[0.5, 0.5]])).flatten()
    assert values[0] == 1
    assert values[2] == values[3] == 0
    assert values[1].item() == pytest.approx((1 / 3 - 1 / 4) / (1 / 2 - 1 / 4), rel=1e-4)
    empty = disparity(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.tensor([[0.5, 0.5]]))
    assert (empty == 0).all()


def test_shrinking_averages_blocks_and_leaves_other_ratios_alone():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert shrink(image, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert shrink(image, 4) is image
    assert shrink(image, 3) is image
