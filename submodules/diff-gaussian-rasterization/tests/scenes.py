"""Random scenes for the tests, in float64, and a way to render one with gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from diff_gaussian_rasterization import RenderedViews, render_views
from torch import Tensor

SPLAT_NAMES = ("means", "quats_wxyz", "scales", "opacities", "colors", "sh", "screen_means")


@dataclass(frozen=True)
class Scene:
    """Arguments of render_views."""

    means: Tensor
    quats_wxyz: Tensor
    scales: Tensor
    opacities: Tensor
    w2c: Tensor
    tan_half_fov: Tensor
    background: Tensor
    width: int
    height: int
    colors: Tensor | None = None
    sh: Tensor | None = None
    sh_degree: int = 0

    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def to(self, dtype: torch.dtype) -> Scene:
        return replace(self, **{name: value.to(dtype) for name, value in self.tensors().items()})


def look_from(direction: Tensor, distance: float) -> Tensor:
    """World-to-camera [4,4] of a camera at `direction` * `distance` that looks at the origin."""
    forward = -direction / direction.norm()
    helper = torch.eye(3, dtype=forward.dtype)[int(forward.abs().argmin())]
    right = torch.linalg.cross(forward, helper)
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    w2c = torch.eye(4, dtype=forward.dtype)
    w2c[:3, :3] = rotation
    w2c[2, 3] = distance
    return w2c


def random_scene(
    seed: int,
    count: int = 300,
    width: int = 64,
    height: int = 48,
    views: int = 1,
    sh_degree: int | None = None,
    scales: tuple[float, float] = (0.02, 0.2),
    opacities: tuple[float, float] = (0.05, 0.95),
    spread: float = 0.6,
    distance: float = 3.0,
) -> Scene:
    """Splats around the origin, seen from all sides; coefficients of `sh_degree`, or plain colours
    where it is None."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=rng, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    low, high = (math.log(scale) for scale in scales)
    scene = Scene(
        means=spread * normal(count, 3),
        quats_wxyz=normal(count, 4),
        scales=uniform(low, high, count, 3).exp(),
        opacities=uniform(*opacities, count),
        w2c=torch.stack([look_from(normal(3), distance) for _ in range(views)]),
        tan_half_fov=uniform(0.3, 0.7, views, 2),
        background=uniform(0, 1, views, 3),
        width=width,
        height=height,
    )
    if sh_degree is None:
        scene = replace(scene, colors=uniform(0, 1, count, 3))
    else:
        scene = replace(scene, sh=0.5 * normal(count, (sh_degree + 1) ** 2, 3), sh_degree=sh_degree)
    # Values that float32 holds exactly: both precisions then see the very same scene.
    return scene.to(torch.float32).to(torch.float64)


def image_gradients(scene: Scene, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Random gradients for rgb, alpha and depth."""
    rng = torch.Generator().manual_seed(seed)
    views = scene.w2c.shape[0]
    return tuple(
        torch.randn(views, channels, scene.height, scene.width, generator=rng).double()
        for channels in (3, 1, 1)
    )


def render_with_gradients(
    scene: Scene,
    backend: str | None,
    dtype: torch.dtype,
    image_grads: tuple[Tensor, ...] | None = None,
    **options: Any,
) -> tuple[RenderedViews, dict[str, Tensor]]:
    """Renders and backpropagates; the gradients come by the names of render_views' arguments."""
    inputs = {
        name: value.to(dtype, copy=True).requires_grad_(name in SPLAT_NAMES)
        for name, value in scene.tensors().items()
    }
    inputs["screen_means"] = torch.zeros(
        scene.w2c.shape[0], scene.means.shape[0], 2, dtype=dtype, requires_grad=True
    )
    out = render_views(
        **inputs,
        width=scene.width,
        height=scene.height,
        sh_degree=scene.sh_degree,
        backend=backend,
        **options,
    )
    grads = image_gradients(scene) if image_grads is None else image_grads
    torch.autograd.backward(out[:3], [grad.to(dtype) for grad in grads])
    return out, {name: inputs[name].grad for name in SPLAT_NAMES if name in inputs}


def relative(have: Tensor, want: Tensor) -> float:
    """Relative L2 distance."""
    want = want.double()
    return float(((have.double() - want).norm() / want.norm().clamp_min(1e-30)).detach())
