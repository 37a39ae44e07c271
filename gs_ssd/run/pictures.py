"""Renderings as 8-bit pictures, and contact sheets of them."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gs_ssd.assets.base import Renderable
from gs_ssd.files import atomic_path
from gs_ssd.render.output import disparity
from gs_ssd.scene.camera import Cameras


@torch.no_grad()
def pictures(
    asset: Renderable, cameras: Cameras, *, background: float = 1.0, depth: bool = False
) -> UInt8[np.ndarray, "v h w 3"]:
    """Renderings as 8-bit sRGB arrays on a plain grey `background`; with `depth` the disparity
    stands beside each."""
    cameras = cameras.to(asset.device)
    colors = torch.full((len(cameras), 3), background, device=asset.device)
    output = asset.render(cameras, colors)
    if not depth:
        return to_uint8(output.rgb)
    near = disparity(output.depth, output.alpha, cameras.tan_half_fov).expand_as(output.rgb)
    return to_uint8(torch.cat([output.rgb, near], dim=-1))


def to_uint8(rgb: Float[Tensor, "v 3 h w"]) -> UInt8[np.ndarray, "v h w 3"]:
    """Pictures in 0..1 as 8-bit arrays."""
    return (rgb.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def write_sheet(
    path: Path, rows: list[UInt8[np.ndarray, "v h w 3"]]
) -> UInt8[np.ndarray, "height width 3"]:
    """A contact sheet: one row of pictures a list entry, all of one size. Returns it."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary)
    return sheet
