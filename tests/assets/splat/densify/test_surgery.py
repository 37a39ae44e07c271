"""After any operation parameters, moments and statistics agree; relocation keeps the look."""

import math

import pytest
import torch

from gs_ssd.assets.splat import optimizers
from gs_ssd.assets.splat.densify import surgery
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.maths import rotation
from gs_ssd.render.renderer import render
from gs_ssd.scene import camera, initialize
from gs_ssd.scene.initialize import InitializeConfig


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def splat() -> TrainedSplat:
    """Ten Gaussians after two Adam steps on random gradients; a statistic that numbers them."""
    gaussians = initialize.create(
        InitializeConfig(num_points=10, sh_degree=1), seeded()
    ).requires_grad_()
    optimizer = optimizers.build(gaussians, OptimizerConfig())
    generator = seeded()
    for _ in range(2):
        for tensor in gaussians.parameters().values():
            tensor.grad = torch.randn(tensor.shape, generator=generator)
        optimizer.step()
    return TrainedSplat(gaussians, optimizer, {"index": torch.arange(10.0)})


def check_consistent(splat: TrainedSplat, count: int) -> None:
    assert len(splat) == count
    groups = {group["name"]: group["params"] for group in splat.optimizer.param_groups}
    for name, tensor in splat.gaussians.parameters().items():
        assert tensor.shape[0] == count
        assert tensor.is_leaf
        assert tensor.requires_grad
        assert groups[name][0] is tensor
        state = splat.optimizer.state[tensor]
        assert state["exp_avg"].shape == tensor.shape == state["exp_avg_sq"].shape
    assert len(splat.optimizer.state) == 6  # nothing of the old tensors lingers
    assert all(len(value) == count for value in splat.statistics.values())
    for tensor in splat.gaussians.parameters().values():  # and Adam goes on
        tensor.grad = torch.ones_like(tensor)
    splat.optimizer.step()


def moments(splat: TrainedSplat) -> dict[str, torch.Tensor]:
    return {
        k: splat.optimizer.state[v]["exp_avg"].clone()
        for k, v in splat.gaussians.parameters().items()
    }


def test_keep_removes_rows_everywhere(splat):
    before, means = moments(splat), splat.gaussians.means.detach().clone()
    mask = torch.arange(10) % 3 != 0
    assert surgery.keep(splat, mask) == 4
    assert torch.equal(splat.gaussians.means.detach(), means[mask])
    assert all(torch.equal(now, before[name][mask]) for name, now in moments(splat).items())
    assert splat.statistics["index"].tolist() == [1, 2, 4, 5, 7, 8]
    check_consistent(splat, 6)


def test_clone_appends_twins_with_fresh_moments(splat):
    before = moments(splat)
    surgery.clone(splat, torch.tensor([3, 7]))
    for name, tensor in splat.gaussians.parameters().items():
        assert torch.equal(tensor[10:], tensor[[3, 7]])
        assert torch.equal(moments(splat)[name][:10], before[name])
        assert (moments(splat)[name][10:] == 0).all()
    check_consistent(splat, 12)


def test_split_replaces_parents_by_smaller_children_drawn_from_them(splat):
    with torch.no_grad():
        splat.gaussians.log_scales[4] = torch.tensor([math.log(1.0), math.log(0.1), math.log(0.01)])
    parent = splat.gaussians.detach()
    scales, mean = parent.scales[4].clone(), parent.means[4].clone()
    surgery.split(splat, torch.tensor([4]), seeded(), children=2, shrink=1.6)
    children = splat.gaussians.detach()
    torch.testing.assert_close(children.scales[-2:], (scales / 1.6).expand(2, 3))
    assert ((children.means[-2:] - mean).norm(dim=-1) < 5.0).all()
    assert splat.statistics["index"].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 0, 0]
    check_consistent(splat, 11)


def test_children_are_distributed_like_their_parent():
    gaussians = initialize.create(InitializeConfig(num_points=4), seeded())
    gaussians.log_scales[0] = torch.tensor([0.5, 1.0, 2.0]).log()
    gaussians.quats_wxyz[0] = torch.tensor([0.9, 0.1, -0.3, 0.2])
    splat = TrainedSplat(
        gaussians.requires_grad_(),
        optimizers.build(gaussians, OptimizerConfig()),
        {"n": torch.zeros(4)},
    )
    mean = gaussians.means[0].detach()
    covariance = rotation.covariance(gaussians.scales[0].detach(), gaussians.quats_wxyz[0].detach())
    surgery.split(splat, torch.tensor([0]), seeded(), children=20_000)
    samples = splat.gaussians.means.detach()[3:]
    torch.testing.assert_close(samples.mean(dim=0), mean, atol=0.06, rtol=0)  # 4 sigma
    torch.testing.assert_close(torch.cov(samples.T), covariance, atol=0.15, rtol=0)


def test_relocation_leaves_the_picture_as_it_was(splat):
    gaussians = splat.gaussians
    with torch.no_grad():
        gaussians.logit_opacities[:] = -20.0
        gaussians.logit_opacities[5] = 0.4
        gaussians.log_scales[5] = math.log(0.15)
        gaussians.means[5] = 0.0
    views = camera.ring(3, 1.4, 3.0, 0.7, 48)
    white = torch.ones(3, 3)
    with torch.no_grad():
        before = render(gaussians, views, white).rgb
        surgery.relocate(splat, torch.tensor([0, 1]), torch.tensor([5, 5]))
        after = render(splat.gaussians, views, white).rgb
    assert gaussians.opacities[5] < 0.3
    assert torch.equal(gaussians.means[0], gaussians.means[5])
    # Equal at the centre by construction; along the flank the paper's scale matches the integral,
    # not each value.
    assert (before - after).abs().max() < 0.05
    assert (before - after).mean().abs() < 2e-3
    assert all((m[[0, 1, 5]] == 0).all() for m in moments(splat).values())
    assert all((m[[2, 3]] != 0).any() for m in moments(splat).values())
    check_consistent(splat, 10)


def test_shared_opacity_restores_the_centre_and_the_integral():
    opacity = torch.tensor([0.2, 0.7, 0.95, 0.7])
    count = torch.tensor([2, 3, 8, 1])
    shared, factor = surgery.shared_opacity(opacity, count)
    torch.testing.assert_close(1 - (1 - shared) ** count, opacity)
    assert factor[3].item() == pytest.approx(1.0)
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    for o, new, n, f in zip(opacity.double(), shared.double(), count, factor.double(), strict=True):
        together = 1 - (1 - new * torch.exp(-0.5 * (x / f) ** 2)) ** int(n)
        alone = o * torch.exp(-0.5 * x**2)
        assert torch.trapezoid(together, x).item() == pytest.approx(
            torch.trapezoid(alone, x).item(), rel=1e-4
        )


def test_reset_caps_opacities_and_forgets_their_moments_only(splat):
    with torch.no_grad():
        splat.gaussians.logit_opacities[:5] = 3.0
        splat.gaussians.logit_opacities[5:] = -9.0
    before = moments(splat)
    surgery.reset_opacities(splat, 0.01)
    assert splat.gaussians.opacities[:5].max().item() == pytest.approx(0.01)
    assert (splat.gaussians.logit_opacities[5:] == -9.0).all()
    now = moments(splat)
    assert (now["logit_opacities"] == 0).all()
    assert torch.equal(now["means"], before["means"])
