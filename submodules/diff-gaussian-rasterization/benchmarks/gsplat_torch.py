"""gsplat 1.5.3's torch path on a CPU, for comparison: its projection and its `accumulate`, with the
two things that it takes from CUDA filled in by vectorised torch (which pairs of splat and pixel
meet) and by two sums (nerfacc's).
"""

from __future__ import annotations

import sys
import types

import torch
from torch import Tensor

MIN_ALPHA, MIN_TRANSMITTANCE, NEAR = 1 / 255, 1e-4, 0.2


def transmittance_before(alphas: Tensor, rays: Tensor, n_rays: int) -> Tensor:
    """Product of 1 - alpha over the earlier pairs of the same ray; pairs come sorted by ray."""
    logs = torch.log1p(-alphas)
    sums = torch.cumsum(logs.double(), 0).to(logs.dtype) - logs
    starts = torch.searchsorted(rays, torch.arange(n_rays)).clamp_max(max(len(rays) - 1, 0))
    return torch.exp(sums - sums[starts][rays])


def install_nerfacc() -> None:
    """A stand-in for the two functions of nerfacc that gsplat's `accumulate` imports."""
    fake = types.ModuleType("nerfacc")

    def render_weight_from_alpha(
        alphas: Tensor, ray_indices: Tensor, n_rays: int
    ) -> tuple[Tensor, Tensor]:
        left = transmittance_before(alphas, ray_indices, n_rays)
        return left * alphas, left

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


@torch.no_grad()
def pairs(
    means2d: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Contributing (splat, pixel), sorted by pixel and depth: the boxes of the level sets, cut by
    alpha and transmittance."""
    det = conics[:, 0] * conics[:, 2] - conics[:, 1] ** 2
    reach = 2 * torch.log(opacities / MIN_ALPHA)
    half = torch.sqrt(reach.clamp_min(0)[:, None] * conics[:, [2, 0]] / det[:, None])
    last = torch.tensor([width - 1, height - 1])
    low = torch.ceil(means2d - 0.5 - half).clamp_min(0).long()
    high = torch.minimum(torch.floor(means2d - 0.5 + half).long(), last)
    size = (high - low + 1).clamp_min(0)
    counts = size.prod(dim=-1) * ((depths > NEAR) & (reach >= 0))
    order = torch.argsort(depths, stable=True)
    counts = counts[order]
    splat = torch.repeat_interleave(order, counts)
    local = torch.arange(len(splat)) - torch.repeat_interleave(
        torch.cumsum(counts, 0) - counts, counts
    )
    x = low[splat, 0] + local % size[splat, 0]
    y = low[splat, 1] + local // size[splat, 0]
    dx, dy = x + 0.5 - means2d[splat, 0], y + 0.5 - means2d[splat, 1]
    a, b, c = conics[splat].unbind(-1)
    alphas = opacities[splat] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    seen = alphas >= MIN_ALPHA
    splat, pixel, alphas = splat[seen], (y * width + x)[seen], alphas[seen].clamp_max(0.99)
    by_pixel = torch.argsort(pixel, stable=True)
    splat, pixel, alphas = splat[by_pixel], pixel[by_pixel], alphas[by_pixel]
    kept = transmittance_before(alphas, pixel, width * height) * (1 - alphas) >= MIN_TRANSMITTANCE
    return splat[kept], pixel[kept]


def project(scene: dict[str, Tensor], size: int) -> tuple[Tensor, ...]:
    """means2d, depths, conics of the first view."""
    from gsplat.cuda import _torch_impl as gsplat

    focal = size / (2 * float(scene["tan_half_fov"][0, 0]))
    intrinsics = torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]])
    covariances, _ = gsplat._quat_scale_to_covar_preci(
        scene["quats_wxyz"], scene["scales"], True, False
    )
    _, means2d, depths, conics, _ = gsplat._fully_fused_projection(
        scene["means"], covariances, scene["w2c"][:1], intrinsics, size, size, near_plane=NEAR
    )
    return means2d[0], depths[0], conics[0]


def render(scene: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """rgb [3,H,W] over black and alpha [H,W] of the first view, differentiable."""
    from gsplat.cuda import _torch_impl as gsplat

    install_nerfacc()
    means2d, depths, conics = project(scene, size)
    splat, pixel = pairs(means2d, conics, scene["opacities"], depths, size, size)
    image, alpha = gsplat.accumulate(
        means2d[None], conics[None], scene["opacities"][None], scene["colors"][None], splat, pixel,
        torch.zeros_like(pixel), size, size,
    )  # fmt: skip
    return image[0].permute(2, 0, 1), alpha[0, ..., 0]
