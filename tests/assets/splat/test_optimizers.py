"""Learning-rate laws (LucidDreamer's table) and the bounds on scales and means."""

import math

import pytest
import torch
from pydantic import ValidationError

from gs_ssd.assets.splat import optimizers
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.errors import UserError
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig


@pytest.fixture
def gaussians():
    return initialize.create(
        InitializeConfig(num_points=20), torch.Generator().manual_seed(0)
    ).requires_grad_()


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("means", 1.6e-4 * 3.5, 1.6e-6 * 3.5),
        ("sh_dc", 5e-3, 3e-3),
        ("sh_rest", 5e-3 / 20, 5e-3 / 20),
        ("logit_opacities", 0.05, 0.05),
        ("log_scales", 5e-3, 1e-3),
        ("quats_wxyz", 1e-3, 2e-4),
    ],
)
def test_rates_run_log_linearly_between_the_recipes_ends(gaussians, name, start, end):
    config = OptimizerConfig()
    optimizer = optimizers.build(gaussians, config)
    for progress, expected in ((0.0, start), (0.5, math.sqrt(start * end)), (1.0, end)):
        optimizers.set_learning_rates(optimizer, config, progress)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates[name] == pytest.approx(expected)


def test_two_zeros_freeze_and_one_zero_is_refused(gaussians):
    frozen = optimizers.build(gaussians, OptimizerConfig(means=(0.0, 0.0)))
    before = gaussians.means.detach().clone()
    gaussians.means.grad = torch.ones_like(gaussians.means)
    frozen.step()
    assert torch.equal(gaussians.means.detach(), before)
    with pytest.raises(ValidationError, match="both 0 to freeze it"):
        OptimizerConfig(means=(1e-3, 0.0))


def test_projection_bounds_scales_and_means_and_leaves_the_rest(gaussians):
    config = OptimizerConfig(
        scale_floor=((0.0, 0.02),), scale_ceiling=((0.0, 0.2), (1.0, 0.1)), reach=0.25
    )
    with torch.no_grad():
        gaussians.log_scales[0], gaussians.log_scales[1] = math.log(5.0), math.log(1e-6)
        gaussians.means[2] = torch.tensor([0.0, 3.0, 4.0])
    inside = gaussians.means.detach()[gaussians.means.norm(dim=-1) < 0.25]
    optimizers.project(gaussians, config, 0.5)
    assert gaussians.scales.max().item() == pytest.approx(0.15)
    assert gaussians.scales.min().item() == pytest.approx(0.02)
    torch.testing.assert_close(gaussians.means[2].detach(), torch.tensor([0.0, 0.15, 0.2]))
    assert all((gaussians.means.detach() == point).all(dim=-1).any() for point in inside)


def test_colours_are_kept_displayable_if_told(gaussians):
    with torch.no_grad():
        gaussians.sh_dc[0], gaussians.sh_dc[1] = 9.0, -9.0
    optimizers.project(gaussians, OptimizerConfig(), 0.0)
    assert gaussians.sh_dc.max() == 9.0
    optimizers.project(gaussians, OptimizerConfig(clamp_colors=True), 0.0)
    colors = gaussians.sh_dc.detach() * 0.28209479 + 0.5
    assert (colors.min().item(), colors.max().item()) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_a_floor_above_the_ceiling_is_refused():
    with pytest.raises(UserError, match="scale_floor"):
        OptimizerConfig(scale_floor=((0.0, 1.0),), scale_ceiling=((0.0, 0.5),))
