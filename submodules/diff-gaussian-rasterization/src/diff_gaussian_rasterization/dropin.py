"""The API of the CUDA package of this name, so that code written for it runs unchanged.

Accepts the calls of LucidDreamer's fork (no `debug`), of graphdeco's main branch and of its
antialiasing branch, and returns (color, radii, depth) as LucidDreamer's fork does: depth[0] is sum
alpha T z (not normalised), depth[1] the final TRANSMITTANCE (1 where empty). As in the fork, splats
are clipped to 16-pixel tiles, quaternions are used as given, and the depth image sends no gradient
to z. What differs from it is listed in the README.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import native
from .function import choose_backend, render
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

NAMES = {
    "means": "means3D",
    "quats_wxyz": "rotations",
    "cov3d": "cov3D_precomp",
    "colors": "colors_precomp",
    "sh": "shs",
    "view": "viewmatrix",
    "proj": "projmatrix",
    "positions": "campos",
    "background": "bg",
}


class GaussianRasterizationSettings(NamedTuple):
    """One camera.

    Matrices are TRANSPOSED (row vectors: p @ M), and projmatrix is view times projection."""

    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor  # [3]
    scale_modifier: float
    viewmatrix: Tensor  # [4,4]
    projmatrix: Tensor  # [4,4]
    sh_degree: int
    campos: Tensor  # [3]
    prefiltered: bool
    debug: bool = False
    antialiasing: bool = False


def rasterize_gaussians(
    means3D: Tensor,
    means2D: Tensor | None,
    sh: Tensor | None,
    colors_precomp: Tensor | None,
    opacities: Tensor,
    scales: Tensor | None,
    rotations: Tensor | None,
    cov3Ds_precomp: Tensor | None,
    raster_settings: GaussianRasterizationSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """-> color [3,H,W], radii int32 [P], depth [2,H,W].

    Empty or None optional tensors mean "not given".

    means2D [P,3] (values ignored, may be None) receives the screen-space gradient in NDC units,
    third column 0.
    """
    settings = raster_settings
    width, height = check_size(
        settings.image_width, settings.image_height, ("image_width", "image_height")
    )
    options = Options(
        width=width,
        height=height,
        sh_degree=as_int("sh_degree", settings.sh_degree),
        scale_modifier=float(settings.scale_modifier),
        tiles16=True,
        normalize_quats=False,
        detach_depth=True,
        clamp_passes_gradient=True,
        antialiasing=bool(settings.antialiasing),
    )
    means = check_tensor("means3D", means3D, ("P", 3))
    count = means.shape[0]
    if isinstance(opacities, Tensor) and opacities.dim() == 2:
        opacities = check_tensor("opacities", opacities, (count, 1), means).squeeze(1)
    splats = Splats(
        means=means,
        opacities=opacities,
        quats_wxyz=_given(rotations, count),
        scales=_given(scales, count),
        cov3d=_given(cov3Ds_precomp, count),
        colors=_given(colors_precomp, count),
        sh=_given(sh, count),
    )
    check_splats(splats, options, NAMES)
    screen_means = None
    if means2D is not None:
        screen_means = check_tensor("means2D", means2D, (count, 3), means)[None, :, :2]
    try:
        rendering = render(splats, _cameras(settings, means), options, screen_means, None)
    except ValueError as error:
        raise renamed(error, NAMES) from error
    depth = torch.cat([rendering.depth, rendering.transmittance])
    return rendering.rgb[0], rendering.radii[0], depth


class GaussianRasterizer(nn.Module):
    """Renders one view of the Gaussians given to `forward` with the camera given here."""

    def __init__(self, raster_settings: GaussianRasterizationSettings) -> None:
        super().__init__()
        self.raster_settings = raster_settings

    def markVisible(self, positions: Tensor) -> Tensor:  # noqa: N802
        """bool [P]: in front of the near plane (z > 0.2 in camera space)."""
        check_tensor("positions", positions, ("P", 3))
        view = check_tensor("viewmatrix", self.raster_settings.viewmatrix, (4, 4), positions).T
        if (
            choose_backend(None if positions.dtype == torch.float32 else "reference", positions)
            == "reference"
        ):
            return positions @ view[2, :3] + view[2, 3] > 0.2
        return native.mark_visible(positions, view)

    def forward(
        self,
        means3D: Tensor,
        means2D: Tensor | None,
        opacities: Tensor,
        shs: Tensor | None = None,
        colors_precomp: Tensor | None = None,
        scales: Tensor | None = None,
        rotations: Tensor | None = None,
        cov3D_precomp: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-> color [3,H,W], radii int32 [P], depth [2,H,W]; exactly one of shs | colors_precomp,
        and of (scales, rotations) | cov3D_precomp."""
        return rasterize_gaussians(
            means3D,
            means2D,
            shs,
            colors_precomp,
            opacities,
            scales,
            rotations,
            cov3D_precomp,
            self.raster_settings,
        )


def _given(value: Tensor | None, count: int) -> Tensor | None:
    """The originals pass an empty tensor for "not given"; with no Gaussians an empty tensor is a
    value."""
    if isinstance(value, Tensor) and value.numel() == 0 and (count > 0 or value.dim() < 2):
        return None
    return value


def _cameras(settings: GaussianRasterizationSettings, means: Tensor) -> Cameras:
    view = check_tensor("viewmatrix", settings.viewmatrix, (4, 4), means).detach()
    proj = check_tensor("projmatrix", settings.projmatrix, (4, 4), means).detach()
    position = check_tensor("campos", settings.campos, (3,), means).detach().contiguous()
    background = check_tensor("bg", settings.bg, (3,), means).detach().contiguous()
    tan_x, tan_y = float(settings.tanfovx), float(settings.tanfovy)
    if not (0 < tan_x < math.inf and 0 < tan_y < math.inf):
        raise ValueError(f"tanfovx and tanfovy must be positive, got {tan_x} and {tan_y}")
    tangents = torch.cat(
        [means.new_full((1, 1), tan_x), means.new_full((1, 1), tan_y)], dim=1
    )  # no copy to wait for
    return Cameras(
        view.T.contiguous()[None],
        proj.T.contiguous()[None],
        tangents,
        position[None],
        background[None],
    )
