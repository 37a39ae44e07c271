"""An independent oracle: gsplat 1.5.3's torch code (Apache-2.0) in float64, made to run without a
GPU.

gsplat gives projection, harmonics and `accumulate`; what it takes from CUDA or from nerfacc is
filled in here: which pairs of pixel and splat meet (all are tried), and the two sums over the pairs
of a pixel. Bridged conventions: near plane 0.2; no splat reaches the cap of alpha (0.99 here, 0.999
there), so opacities stay below 0.99; pixel centres at + 0.5 with the principal point at half the
size are the same thing; gsplat's rectangles are not used, the level set alpha >= 1/255 decides
("tight").
"""

from __future__ import annotations

import sys
import types
from typing import NamedTuple

import torch
from scenes import Scene
from torch import Tensor

MIN_ALPHA, MIN_TRANSMITTANCE, NEAR = 1 / 255, 1e-4, 0.2
CLOSE = 1e-5  # relative distance to a threshold that counts as near


class Oracle(NamedTuple):
    """One view; `doubtful` marks pixels where a term lies within CLOSE (relative) of a threshold,
    or where two splats that both contribute lie within `tie` in depth; `flip` bounds what the other
    decision there could change in any channel."""

    rgb: Tensor  # [3,H,W]
    alpha: Tensor  # [H,W]
    depth: Tensor  # [H,W]
    doubtful: Tensor  # [H,W] bool
    flip: Tensor  # [H,W]
    tied: Tensor  # [H,W] bool, the doubtful ones that only a depth tie makes so


def _exclusive_product(factors: Tensor, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Product of the earlier factors of the same ray; rays come sorted."""
    logs = torch.cumsum(torch.log(factors), 0) - torch.log(factors)
    starts = torch.searchsorted(ray_indices.contiguous(), torch.arange(n_rays))
    return torch.exp(logs - logs[starts.clamp_max(len(logs) - 1)][ray_indices])


def _install_nerfacc() -> None:
    fake = types.ModuleType("nerfacc")

    def render_weight_from_alpha(
        alphas: Tensor, ray_indices: Tensor, n_rays: int
    ) -> tuple[Tensor, Tensor]:
        transmittance = _exclusive_product(1 - alphas, ray_indices, n_rays)
        return transmittance * alphas, transmittance

    def accumulate_along_rays(
        weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int
    ) -> Tensor:
        source = weights[:, None] if values is None else weights[:, None] * values
        return torch.zeros(n_rays, source.shape[1], dtype=source.dtype).index_add(
            0, ray_indices, source
        )

    fake.render_weight_from_alpha = render_weight_from_alpha
    fake.accumulate_along_rays = accumulate_along_rays
    sys.modules.setdefault("nerfacc", fake)


class _Pairs(NamedTuple):
    splat: Tensor
    pixel: Tensor
    doubtful: Tensor
    flip: Tensor
    tied: Tensor


@torch.no_grad()
def _pairs(
    means2d: Tensor,
    conics: Tensor,
    opacities: Tensor,
    depths: Tensor,
    values: Tensor,
    scene: Scene,
    tie: float,
) -> _Pairs:
    """Pairs that contribute, by pixel and then by depth, and where that was a close decision."""
    order = torch.argsort(depths, stable=True)
    order = order[depths[order] > NEAR]
    ys, xs = torch.meshgrid(torch.arange(scene.height), torch.arange(scene.width), indexing="ij")
    centres = torch.stack([xs, ys], dim=-1).reshape(-1, 1, 2) + 0.5
    d = centres - means2d[order]
    a, b, c = conics[order].unbind(-1)
    sigma = 0.5 * (a * d[..., 0] ** 2 + c * d[..., 1] ** 2) + b * d[..., 0] * d[..., 1]
    alpha = opacities[order] * torch.exp(-sigma)
    drawn = torch.where(alpha >= MIN_ALPHA, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - drawn, dim=-1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=-1)
    reached = before >= MIN_TRANSMITTANCE * (1 - CLOSE)  # nothing behind the early stop matters
    near_threshold = ((alpha / MIN_ALPHA - 1).abs() < CLOSE) & reached
    near_stop = ((after / MIN_TRANSMITTANCE - 1).abs() < CLOSE) & (drawn > 0)
    kept = (drawn > 0) & (after >= MIN_TRANSMITTANCE)
    size = values[order].abs().amax(dim=-1) + 1
    flip = ((near_threshold | near_stop) * alpha * before * 2 * size).sum(dim=-1)
    # Ties: neighbours in the pixel's own list.
    swaps = torch.zeros_like(flip)
    pixel, splat = kept.nonzero(as_tuple=True)
    same = pixel[1:] == pixel[:-1]
    z = depths[order][splat]
    close = same & ((z[1:] - z[:-1]) < tie * z[1:])
    swap = (
        before[pixel[:-1], splat[:-1]]
        * alpha[pixel[:-1], splat[:-1]]
        * alpha[pixel[1:], splat[1:]]
        * 2
        * size.max()
    )
    swaps.index_add_(0, pixel[:-1], close * swap)
    near = near_threshold.any(dim=-1) | near_stop.any(dim=-1)
    tied = swaps > 0
    maps = (
        part.reshape(scene.height, scene.width)
        for part in (near | tied, flip + swaps, tied & ~near)
    )
    return _Pairs(order[splat], pixel, *maps)


def render_view(scene: Scene, leaves: dict[str, Tensor], view: int, tie: float) -> Oracle:
    """One view of the scene with the given leaves (float64, names of render_views);
    differentiable."""
    from gsplat.cuda import _torch_impl as gsplat

    _install_nerfacc()
    width, height = scene.width, scene.height
    focal = torch.tensor([width, height], dtype=torch.float64) / (2 * scene.tan_half_fov[view])
    intrinsics = torch.eye(3, dtype=torch.float64)
    intrinsics[0, 0], intrinsics[1, 1] = focal
    intrinsics[0, 2], intrinsics[1, 2] = width / 2, height / 2
    w2c = scene.w2c[view]
    covariances, _ = gsplat._quat_scale_to_covar_preci(
        leaves["quats_wxyz"], leaves["scales"], compute_covar=True, compute_preci=False
    )
    _, means2d, depths, conics, _ = gsplat._fully_fused_projection(
        leaves["means"], covariances, w2c[None], intrinsics[None], width, height, near_plane=NEAR
    )
    screen_means = leaves["screen_means"][view] * torch.tensor(
        [width / 2, height / 2], dtype=torch.float64
    )
    means2d, depths, conics = means2d[0] + screen_means, depths[0], conics[0]
    if scene.sh is None:
        colors = leaves["colors"]
    else:
        position = -w2c[:3, :3].T @ w2c[:3, 3]
        colors = gsplat._spherical_harmonics(
            scene.sh_degree, leaves["means"] - position, leaves["sh"]
        )
        colors = (colors + 0.5).clamp_min(0)
    values = torch.cat([colors, depths[:, None]], dim=-1)
    pairs = _pairs(means2d, conics, leaves["opacities"], depths, values, scene, tie)
    image, alpha = gsplat.accumulate(
        means2d[None], conics[None], leaves["opacities"][None], values[None], pairs.splat,
        pairs.pixel,
        torch.zeros_like(pairs.pixel), width, height,
    )  # fmt: skip
    image, alpha = image[0].permute(2, 0, 1), alpha[0, ..., 0]
    rgb = image[:3] + (1 - alpha) * scene.background[view][:, None, None]
    return Oracle(rgb, alpha, image[3], pairs.doubtful, pairs.flip, pairs.tied)
