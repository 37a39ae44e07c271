"""How far light gets before half of it is stopped, pixel by pixel.

For surfaces; no gradients, and unhurried.

The mean along a ray lies between two layers, or before a rim's background, where nothing is; the
median lies on one of the splats that are there. It is composited as the rasterizer does (its
reference projects and sorts).
"""

import importlib
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.maths import rotation
from gs_ssd.native import native
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians

TILE = 16  #: pixels
LAYERS = 256  #: splats of a tile blended at a time; solid tiles end with the first


def median_depth(
    gaussians: Gaussians, camera: Cameras
) -> tuple[Float[Tensor, "height width"], Int[Tensor, "height width"]]:
    """z-depth of the median (0 where less than half of the light is stopped), and the Gaussian it
    lies on (-1).

    That is the first, front to back, behind which the transmittance is at most one half. Its depth
    is taken where the pixel's ray comes nearest to its middle, in units of its sigmas: flat ones
    are seen as slanted as they are. `camera` is a single view.
    """
    with torch.no_grad():
        projected = _project(gaussians, camera)
        width, height = camera.width, camera.height
        which = torch.full((height, width), -1)
        low, high = projected.pixel - projected.extent - 1, projected.pixel + projected.extent + 1
        for y in range(0, height, TILE):
            row = ((high[:, 1] >= y) & (low[:, 1] < y + TILE)).nonzero().squeeze(1)
            for x in range(0, width, TILE):
                tile = row[(high[row, 0] >= x) & (low[row, 0] < x + TILE)]
                box = which[y : y + TILE, x : x + TILE]
                box[:] = _crossing(projected, tile, x, y, box.shape)
        rows, columns = (which >= 0).nonzero(as_tuple=True)
        chosen = projected.index[which[rows, columns]]
        index, depth = (
            torch.full_like(which, -1),
            torch.zeros_like(which, dtype=gaussians.means.dtype),
        )
        index[rows, columns] = chosen
        depth[rows, columns] = _nearest(
            gaussians, chosen, _rays(camera, rows, columns), camera.w2c[0]
        )
    return depth, index


def _project(gaussians: Gaussians, camera: Cameras) -> Any:
    """The reference's `Projected`: what the view sees, front to back."""
    native("diff_gaussian_rasterization")
    reference, views, problem = (
        importlib.import_module(f"diff_gaussian_rasterization.{name}")
        for name in ("reference", "views", "problem")
    )
    means = gaussians.means
    cameras = views.pinhole_cameras(camera.w2c, camera.tan_half_fov, means.new_zeros(1, 3))
    splats = problem.Splats(means, gaussians.opacities, colors=means)  # their colours do not matter
    cov3d = reference.covariances(gaussians.quats_wxyz, gaussians.scales, 1.0, True)
    options = problem.Options(width=camera.width, height=camera.height)
    return reference.project(splats, cov3d, cameras, 0, options, None)[0]


def _crossing(
    projected: Any, tile: Tensor, x: int, y: int, shape: torch.Size
) -> Int[Tensor, "h w"]:
    """Pixels from (x, y) on -> position in `projected` of what brings the light to a half, or
    -1."""
    dtype = projected.pixel.dtype
    rows = torch.arange(y, y + shape[0], dtype=dtype)[:, None, None]
    columns = torch.arange(x, x + shape[1], dtype=dtype)[None, :, None]
    light, which = torch.ones(*shape, 1, dtype=dtype), torch.full(shape, -1)
    for layers in tile.split(LAYERS) if len(tile) else ():
        dx, dy = columns - projected.pixel[layers, 0], rows - projected.pixel[layers, 1]
        xx, xy, yy = projected.conic[layers].unbind(-1)
        alpha = projected.opacity[layers] * torch.exp(
            -0.5 * (xx * dx * dx + yy * dy * dy) - xy * dx * dy
        )
        alpha = torch.where(alpha >= 1 / 255, alpha.clamp_max(0.99), 0.0)
        after = light * torch.cumprod(1 - alpha, dim=-1)
        dark = after <= 0.5
        crossed = dark.any(dim=-1) & (which < 0)
        which = torch.where(crossed, layers[dark.to(torch.uint8).argmax(dim=-1)], which)
        light = after[..., -1:]
        if bool((which >= 0).all()):
            break
    return which


def _rays(camera: Cameras, rows: Tensor, columns: Tensor) -> Float[Tensor, "m 3"]:
    """World directions through the pixels' middles, of unit z in the camera."""
    tan = camera.tan_half_fov[0]
    size = tan.new_tensor([camera.width, camera.height])
    slope = (2 * torch.stack([columns, rows], dim=-1) + 1 - size) / size * tan
    return torch.cat([slope, torch.ones_like(slope[:, :1])], dim=-1) @ camera.w2c[0, :3, :3]


def _nearest(
    gaussians: Gaussians,
    chosen: Int[Tensor, " m"],
    rays: Float[Tensor, "m 3"],
    w2c: Float[Tensor, "4 4"],
) -> Float[Tensor, " m"]:
    """z where ray i is nearest to the middle of Gaussian chosen[i], but never outside of what of it
    can be seen."""
    means, scales = gaussians.means[chosen], gaussians.scales[chosen]
    axes = rotation.quat_to_matrix(gaussians.quats_wxyz[chosen]).mT  # rows: the Gaussian's axes
    eye = -w2c[:3, :3].T @ w2c[:3, 3]
    toward, along = (
        (axes @ vectors[..., None]).squeeze(-1) / scales for vectors in (means - eye, rays)
    )
    z = (toward * along).sum(dim=-1) / (along * along).sum(dim=-1)
    middle = means @ w2c[2, :3] + w2c[2, 3]
    sigma = (axes @ w2c[2, :3] * scales).norm(dim=-1)
    reach = sigma * (2 * torch.log(255 * gaussians.opacities[chosen])).clamp_min(0).sqrt()
    return torch.maximum(torch.minimum(z, middle + reach), middle - reach)
