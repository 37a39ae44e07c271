"""Our own entry point: V views in one call."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .function import render
from .problem import (
    Cameras,
    Options,
    Splats,
    as_int,
    check_size,
    check_splats,
    check_tensor,
    renamed,
)

MODES = ("tight", "tiles16")
NAMES = {"view": "w2c", "proj": "w2c", "positions": "w2c"}


class RenderedViews(NamedTuple):
    """V rendered views; differentiable but for `radii`."""

    rgb: Tensor  # [V,3,H,W] over the background
    alpha: Tensor  # [V,1,H,W] accumulated opacity, 0..1
    depth: Tensor  # [V,1,H,W] sum of alpha T z, not divided by alpha
    radii: Tensor  # [V,N] int32, pixels (3 sigma); 0 where a splat is not visible


def render_views(
    means: Tensor,
    quats_wxyz: Tensor,
    scales: Tensor,
    opacities: Tensor,
    *,
    colors: Tensor | None = None,
    sh: Tensor | None = None,
    sh_degree: int = 0,
    w2c: Tensor,
    tan_half_fov: Tensor,
    width: int,
    height: int,
    background: Tensor,
    screen_means: Tensor | None = None,
    mode: str = "tight",
    detach_depth: bool = False,
    scale_modifier: float = 1.0,
    backend: str | None = None,
) -> RenderedViews:
    """Renders N Gaussians into V views; differentiable in everything but the cameras and the
    background.

    means [N,3] (world), quats_wxyz [N,4] (normalised inside), scales [N,3] (linear), opacities [N]
    (0..1), and exactly one of colors [N,3] and sh [N,K,3] (colour = max(0, 0.5 + basis . sh),
    degree `sh_degree` of 0..3). w2c [V,4,4]: world to camera (x right, y down, z forward), column
    vectors. tan_half_fov [V,2]: x, y. background [V,3]. screen_means [V,N,2]: zeros with
    requires_grad; receives dL/d(projected mean) in NDC units, that is the gradient per pixel times
    (width / 2, height / 2).
    mode: "tight" draws every pixel with alpha >= 1/255; "tiles16" clips to the 16-pixel tiles of
        the original
    rasterizer. detach_depth: no gradient from depth to the z of the means. backend: None (by
    device), "cpu", "cuda", "reference".

    Raises TypeError or ValueError that names the argument; RuntimeError where the backend was not
    built.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    width, height = check_size(width, height)
    options = Options(
        width=width,
        height=height,
        sh_degree=as_int("sh_degree", sh_degree),
        scale_modifier=float(scale_modifier),
        tiles16=mode == "tiles16",
        detach_depth=detach_depth,
    )
    splats = Splats(
        means=means, opacities=opacities, quats_wxyz=quats_wxyz, scales=scales, colors=colors, sh=sh
    )
    check_splats(splats, options)
    views = check_tensor("w2c", w2c, ("V", 4, 4), means).shape[0]
    if views == 0:
        raise ValueError("w2c holds no view: its first dimension is 0")
    check_tensor("tan_half_fov", tan_half_fov, (views, 2), means)
    check_tensor("background", background, (views, 3), means)
    if screen_means is not None:
        check_tensor("screen_means", screen_means, (views, means.shape[0], 2), means)
    cameras = pinhole_cameras(w2c, tan_half_fov, background)
    try:
        rendering = render(splats, cameras, options, screen_means, backend)
    except ValueError as error:
        raise renamed(error, NAMES) from error
    return RenderedViews(
        rendering.rgb, rendering.alpha.unsqueeze(1), rendering.depth.unsqueeze(1), rendering.radii
    )


def pinhole_cameras(w2c: Tensor, tan_half_fov: Tensor, background: Tensor) -> Cameras:
    """Cameras whose principal point is the image centre."""
    w2c, tan_half_fov, background = (
        value.detach().contiguous() for value in (w2c, tan_half_fov, background)
    )
    return Cameras(w2c, None, tan_half_fov, None, background)
