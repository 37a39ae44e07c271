"""Renderings as 8-bit pictures, and contact sheets of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from gs_ssd.assets.base import Renderable
from gs_ssd.files import atomic_path
from gs_ssd.maths.color import to_uint8
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


def write_sheet(
    path: Path, rows: Sequence[UInt8[np.ndarray, "v h w 3"]], *, colors: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """A contact sheet: one row of pictures a list entry, all rows equally long and high; returns
    it. A palette of so many `colors` halves the file.

    Pillow's `optimize` of true colours would take a second for a tenth of the file."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    picture = Image.fromarray(sheet)
    with atomic_path(path) as temporary:
        if colors is None:
            picture.save(temporary)
        else:
            picture.quantize(colors).save(temporary, optimize=True)
    return sheet
