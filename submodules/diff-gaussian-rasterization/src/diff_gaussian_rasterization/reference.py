"""The rasterizer in plain torch: any float dtype, any device, differentiable by autograd.

Slow and readable: the truth that the native backends are tested against. The formulas and their
conventions are listed in `csrc/dgr.h`.

Sources: EWA splatting (Zwicker et al. 2001); 3D Gaussian Splatting (Kerbl et al. 2023, arXiv
2308.04079), sections 4-6 and appendix A; real spherical harmonics as usual in that field.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .problem import Cameras, Options, Splats, check_finite

NEAR = 0.2
LOW_PASS = 0.3
MIN_ALPHA = 1.0 / 255.0
MAX_ALPHA = 0.99
MIN_TRANSMITTANCE = 1e-4
TILE = 16

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (
    1.0925484305920792,
    -1.0925484305920792,
    0.31539156525252005,
    -1.0925484305920792,
    0.5462742152960396,
)
C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
    -0.4570457994644658, 1.445305721320277, -0.5900435899266435,
)  # fmt: skip


class Projected(NamedTuple):
    """One view's visible splats, sorted front to back (M of them)."""

    index: Tensor  # [M] long, into the N Gaussians
    pixel: Tensor  # [M,2]
    conic: Tensor  # [M,3] xx xy yy of the inverse covariance
    opacity: Tensor  # [M]
    color: Tensor  # [M,3]
    depth: Tensor  # [M]
    extent: Tensor  # [M,2] half size of the level set alpha = 1/255, pixels
    tiles: Tensor  # [M,4] long, clip window x0 y0 x1 y1 in 16-pixel tiles, end excluded


def covariances(quats: Tensor, scales: Tensor, scale_modifier: float, normalize: bool) -> Tensor:
    """[N,4], [N,3] -> [N,6] (xx xy xz yy yz zz): R diag(modifier * s)^2 R^T with R from the
    quaternion's formula."""
    if normalize:
        quats = quats / quats.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    w, x, y, z = quats.unbind(-1)
    rotation = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))  # fmt: skip
    axes = rotation * (scale_modifier * scales).unsqueeze(-2)
    full = axes @ axes.transpose(-1, -2)
    return full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Unit directions [N,3] -> [N,(degree+1)^2]."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, C0)]
    if degree >= 1:
        basis += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        basis += [C2[0] * x * y, C2[1] * y * z, C2[2] * (2 * z * z - x * x - y * y), C2[3] * x * z,
                  C2[4] * (x * x - y * y)]  # fmt: skip
    if degree >= 3:
        basis += [
            C3[0] * y * (3 * x * x - y * y), C3[1] * x * y * z,
            C3[2] * y * (4 * z * z - x * x - y * y),
            C3[3] * z * (2 * z * z - 3 * x * x - 3 * y * y),
            C3[4] * x * (4 * z * z - x * x - y * y),
            C3[5] * z * (x * x - y * y), C3[6] * x * (x * x - 3 * y * y),
        ]  # fmt: skip
    return torch.stack(basis, dim=-1)


def view_colors(splats: Splats, position: Tensor, degree: int) -> Tensor:
    """[N,3] colours seen from `position` [3]."""
    if splats.sh is None:
        assert splats.colors is not None
        return splats.colors
    offset = splats.means - position
    directions = offset / offset.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    basis = sh_basis(directions, degree)
    return ((basis.unsqueeze(-1) * splats.sh[:, : basis.shape[-1]]).sum(dim=1) + 0.5).clamp_min(0)


def screen_covariances(
    cov3d: Tensor, camera_means: Tensor, view: Tensor, focal: Tensor, tan_half_fov: Tensor
) -> Tensor:
    """cov3d [N,6], camera-space means [N,3] -> [N,3] (xx xy yy), pixels squared, before the
    low-pass filter."""
    z = camera_means[:, 2]
    limit = 1.3 * tan_half_fov
    slope = torch.maximum(torch.minimum(camera_means[:, :2] / z.unsqueeze(-1), limit), -limit)
    zero = torch.zeros_like(z)
    row_x = torch.stack([focal[0] / z, zero, -focal[0] * slope[:, 0] / z], dim=-1)
    row_y = torch.stack([zero, focal[1] / z, -focal[1] * slope[:, 1] / z], dim=-1)
    jacobian = torch.stack([row_x, row_y], dim=-2) @ view[:3, :3]
    full = cov3d[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(-1, (3, 3))
    cov = jacobian @ full @ jacobian.transpose(-1, -2)
    return torch.stack([cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]], dim=-1)


def clip_tiles(pixel: Tensor, radius: Tensor, width: int, height: int) -> Tensor:
    """[M,2] centres, [M] radii -> [M,4]: the 16-pixel tiles that the circle's box touches, by the
    originals' formula."""
    grid = torch.tensor(
        [-(-width // TILE), -(-height // TILE)], dtype=pixel.dtype, device=pixel.device
    )
    low = torch.trunc((pixel - radius.unsqueeze(-1)) / TILE)
    high = torch.trunc((pixel + radius.unsqueeze(-1) + (TILE - 1)) / TILE)
    box = torch.cat(
        [torch.minimum(low.clamp_min(0), grid), torch.minimum(high.clamp_min(0), grid)], dim=-1
    )
    return box.detach().long()


def project(
    splats: Splats,
    cov3d: Tensor,
    cameras: Cameras,
    v: int,
    options: Options,
    screen_means: Tensor | None,
) -> tuple[Projected, Tensor]:
    """View `v`: what is visible, sorted, and radii int32 [N]."""
    view, proj = cameras.view[v], cameras.projections()[v]
    size = splats.means.new_tensor([options.width, options.height])
    in_front = (splats.means.detach() @ view[:3, :3].T + view[:3, 3])[:, 2] > NEAR
    index = in_front.nonzero().squeeze(1)
    means = splats.means[index]
    camera_means = means @ view[:3, :3].T + view[:3, 3]
    ndc = (means @ proj[:2, :3].T + proj[:2, 3]) / (means @ proj[3, :3] + proj[3, 3]).unsqueeze(-1)
    if screen_means is not None:
        received = screen_means[v][index]
        ndc = ndc + (received - received.detach())
    pixel = ((ndc + 1) * size - 1) / 2
    sharp = screen_covariances(
        cov3d[index],
        camera_means,
        view,
        size / (2 * cameras.tan_half_fov[v]),
        cameras.tan_half_fov[v],
    )
    xx, xy, yy = sharp[:, 0] + LOW_PASS, sharp[:, 1], sharp[:, 2] + LOW_PASS
    det = xx * yy - xy * xy
    opacity = splats.opacities[index]
    if options.antialiasing:
        ratio = (sharp[:, 0] * sharp[:, 2] - xy * xy) / det
        opacity = opacity * ratio.clamp_min(2.5e-5).sqrt()

    with torch.no_grad():
        middle = (xx + yy) / 2
        radius = torch.ceil(
            3 * torch.sqrt(middle + torch.sqrt((middle * middle - det).clamp_min(0.1)))
        )
        reach = 2 * torch.log(opacity.clamp_min(1e-30) / MIN_ALPHA)
        extent = torch.sqrt(reach.clamp_min(0).unsqueeze(-1) * torch.stack([xx, yy], dim=-1))
        tiles = clip_tiles(pixel, radius, options.width, options.height)
        if options.tiles16:
            seen = (tiles[:, 2] > tiles[:, 0]) & (tiles[:, 3] > tiles[:, 1])
        else:
            first, last = (
                torch.ceil(pixel - extent).clamp_min(0),
                torch.minimum(torch.floor(pixel + extent), size - 1),
            )
            seen = (reach >= 0) & (first <= last).all(dim=-1)
        seen &= (xx > 0) & (det > 0)
        radii = torch.zeros(splats.means.shape[0], dtype=torch.int32, device=index.device)
        radii[index[seen]] = radius[seen].to(torch.int32)
        order = seen.nonzero().squeeze(1)
        order = order[torch.sort(camera_means[order, 2].detach(), stable=True).indices]

    conic = torch.stack([yy / det, -xy / det, xx / det], dim=-1)
    color = view_colors(splats, cameras.centres()[v], options.sh_degree)[index]
    sorted_parts = (
        part[order]
        for part in (index, pixel, conic, opacity, color, camera_means[:, 2], extent, tiles)
    )
    return Projected(*sorted_parts), radii


def blend_tile(
    splats: Projected, x0: int, y0: int, x1: int, y1: int, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [y0,y1) x [x0,x1) -> rgb [3,h,w] without background, depth [h,w], transmittance
    [h,w]."""
    rows = torch.arange(y0, y1, dtype=splats.pixel.dtype, device=splats.pixel.device)
    columns = torch.arange(x0, x1, dtype=splats.pixel.dtype, device=splats.pixel.device)
    dy = (rows.unsqueeze(-1) - splats.pixel[:, 1].unsqueeze(0)).unsqueeze(1)
    dx = (columns.unsqueeze(-1) - splats.pixel[:, 0].unsqueeze(0)).unsqueeze(0)
    power = (
        -0.5 * (splats.conic[:, 0] * dx * dx + splats.conic[:, 2] * dy * dy)
        - splats.conic[:, 1] * dx * dy
    )
    raw = splats.opacity * torch.exp(power)
    alpha = raw.clamp_max(MAX_ALPHA)
    if options.clamp_passes_gradient:
        alpha = raw + (alpha - raw).detach()
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, torch.zeros_like(alpha))
    with torch.no_grad():
        unfinished = torch.cumprod(1 - alpha, dim=-1) >= MIN_TRANSMITTANCE
    alpha = alpha * unfinished
    after = torch.cumprod(1 - alpha, dim=-1)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], dim=-1)
    weight = alpha * before
    depth = splats.depth.detach() if options.detach_depth else splats.depth
    return (weight @ splats.color).permute(2, 0, 1), weight @ depth, after[..., -1]


def render_view(
    splats: Projected, background: Tensor, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb [3,H,W] over the background, depth [H,W], transmittance [H,W]."""
    # Empty pixels are constants, but an image of them alone must still accept a gradient: of zero.
    parts = (splats.pixel, splats.conic, splats.opacity, splats.color, splats.depth)
    nothing = torch.stack([part.sum() for part in parts]).sum() * 0
    rows = []
    for y0 in range(0, options.height, TILE):
        y1, row = min(y0 + TILE, options.height), []
        for x0 in range(0, options.width, TILE):
            x1 = min(x0 + TILE, options.width)
            if options.tiles16:
                tx, ty = x0 // TILE, y0 // TILE
                low, high = splats.tiles[:, :2], splats.tiles[:, 2:]
                here = (low[:, 0] <= tx) & (tx < high[:, 0]) & (low[:, 1] <= ty) & (ty < high[:, 1])
            else:
                # One pixel of slack: the level set itself is decided per pixel.
                low, high = splats.pixel - splats.extent - 1, splats.pixel + splats.extent + 1
                here = (low[:, 0] < x1) & (high[:, 0] >= x0) & (low[:, 1] < y1) & (high[:, 1] >= y0)
            chosen = here.nonzero().squeeze(1)
            if chosen.numel() == 0:
                blank = nothing.expand(y1 - y0, x1 - x0)
                row.append((blank.expand(3, -1, -1), blank, blank + 1))
            else:
                row.append(
                    blend_tile(
                        Projected(*(part[chosen] for part in splats)), x0, y0, x1, y1, options
                    )
                )
        rows.append([torch.cat(parts, dim=-1) for parts in zip(*row, strict=True)])
    rgb, depth, transmittance = (torch.cat(parts, dim=-2) for parts in zip(*rows, strict=True))
    return rgb + transmittance * background[:, None, None], depth, transmittance


def render(
    splats: Splats, cameras: Cameras, options: Options, screen_means: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """-> rgb [V,3,H,W], depth [V,H,W], transmittance [V,H,W], radii int32 [V,N]; ValueError on NaN
    or infinity.

    `screen_means` [V,N,2] (values ignored) receives the gradient of the projected means in NDC
    units.
    """
    for name in ("means", "quats_wxyz", "scales", "cov3d", "opacities", "colors", "sh"):
        check_finite(name, getattr(splats, name))
    cov3d = splats.cov3d
    if cov3d is None:
        assert splats.quats_wxyz is not None
        assert splats.scales is not None
        cov3d = covariances(
            splats.quats_wxyz, splats.scales, options.scale_modifier, options.normalize_quats
        )
    images, radii = [], []
    for v in range(cameras.view.shape[0]):
        projected, view_radii = project(splats, cov3d, cameras, v, options, screen_means)
        images.append(render_view(projected, cameras.background[v], options))
        radii.append(view_radii)
    rgb, depth, transmittance = (torch.stack(parts) for parts in zip(*images, strict=True))
    return rgb, depth, transmittance, torch.stack(radii)
