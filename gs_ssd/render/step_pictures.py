"""What one step of distillation saw and answered, as pictures to look at."""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gs_ssd.maths.color import to_uint8


@dataclasses.dataclass(frozen=True)
class StepPictures:
    """What one step of distillation saw and answered, V views; everything detached.

    `rgb`, `disparity` and `alpha` are [V, 3|1|1, H, W] in 0..1, `denoised` [V, 3, h, w] is the
    prior's guided x0, decoded, and `gradient` [V, C, h, w] what reaches the latents. The last two
    are mirrored where the step mirrored its views.
    """

    rgb: Float[Tensor, "v 3 height width"]
    disparity: Float[Tensor, "v 1 height width"]
    alpha: Float[Tensor, "v 1 height width"]
    denoised: Float[Tensor, "v 3 h w"]
    gradient: Float[Tensor, "v c p q"]


@torch.no_grad()
def collage(pictures: StepPictures, size: int = 192) -> UInt8[np.ndarray, "height width 3"]:
    """One row a view: rendering, disparity, alpha, the prior's x0, |gradient| as heat; tiles of
    `size` pixels."""
    heat = heat_map(pictures.gradient.float().norm(dim=1))
    columns = (pictures.rgb, pictures.disparity, pictures.alpha, pictures.denoised, heat)
    tiles = [_fit(picture.float().cpu(), size) for picture in columns]
    rows = torch.cat(tiles, dim=3)  # side by side
    sheet = torch.cat(list(rows), dim=1)  # views below one another
    return to_uint8(sheet.unsqueeze(0))[0]


def heat_map(values: Float[Tensor, "v h w"]) -> Float[Tensor, "v 3 h w"]:
    """Black, red, yellow, white for 0 .. the greatest value of all views, so that views can be
    compared."""
    share = (3 * values / values.amax().clamp_min(1e-30)).nan_to_num()
    return torch.stack([share, share - 1, share - 2], dim=1).clamp(0.0, 1.0)


def _fit(picture: Float[Tensor, "v c h w"], size: int) -> Float[Tensor, "v 3 size size"]:
    """Three channels of size x size pixels; small maps keep their pixels visible."""
    picture = picture.expand(-1, 3, -1, -1).clamp(0, 1)
    if picture.shape[-1] < size:
        return F.interpolate(picture, (size, size), mode="nearest")
    return F.interpolate(picture, (size, size), mode="bilinear", antialias=True)
