"""The CPU backend's gradients of alpha and depth against finite differences of the CPU backend's
own images."""

import pytest
import torch
from diff_gaussian_rasterization import render_views
from scenes import random_scene

NAMES = ("means", "quats_wxyz", "scales", "opacities")


@pytest.mark.parametrize("mode", ["tight", "tiles16"])
@pytest.mark.parametrize("image", ["alpha", "depth"])
@pytest.mark.parametrize("seed", range(3))
def test_directional_derivative(seed, image, mode):
    """Along a random direction in the space of all inputs.

    The splats are wider than the image: an edge at alpha = 1/255 that moves through it is a step
    that no gradient of pixels can see."""
    scene = random_scene(
        80 + seed, count=6, width=40, height=40, scales=(1.5, 2.5), opacities=(0.3, 0.8), spread=0.4
    )
    scene = scene.to(torch.float32)
    inputs = scene.tensors()
    rng = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-1, 1, 40)
    weights = torch.cos(2 * ramp)[:, None] * torch.cos(2 * ramp + 0.3)
    directions = {
        name: torch.randn(inputs[name].shape, generator=rng) * inputs[name].abs().mean()
        for name in NAMES
    }

    def loss(values) -> torch.Tensor:
        out = render_views(**(inputs | values), width=40, height=40, mode=mode, backend="cpu")
        return (getattr(out, image)[0, 0].double() * weights).sum()

    leaves = {name: inputs[name].clone().requires_grad_() for name in NAMES}
    loss(leaves).backward()
    analytic = sum(float((leaves[name].grad.double() * directions[name]).sum()) for name in NAMES)
    step = 2e-3
    ends = [
        loss({n: inputs[n] + sign * step * directions[n] for n in NAMES}).item() for sign in (1, -1)
    ]
    assert analytic == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-3, abs=0.02)
