"""What every renderer returns, whatever it renders, and what is made of it before a prior looks."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class RenderOutput:
    """V renderings.

    `rgb` is in 0..1 wherever the colours are; `alpha` is accumulated opacity (0 empty, 1 solid).

    `depth` is the sum of alpha T z: not divided by alpha, the background adds nothing. A
    representation may return a subclass with what its own hooks and regularizers need (screen
    positions, normals, ray weights).
    """

    rgb: Float[Tensor, "v 3 height width"]
    alpha: Float[Tensor, "v 1 height width"]
    depth: Float[Tensor, "v 1 height width"]


def hard_edges(
    rgb: Float[Tensor, "v 3 h w"], alpha: Float[Tensor, "v 1 h w"], edge: tuple[float, float]
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """Colours of what was rendered over black, not multiplied by alpha, and alpha driven to 0 or 1
    (a smooth step over `edge`)."""
    share = ((alpha - edge[0]) / (edge[1] - edge[0])).clamp(0, 1)
    return (rgb / alpha.clamp_min(1e-3)).clamp(0, 1), share * share * (3 - 2 * share)


def shrink(images: Float[Tensor, "v c height width"], size: int) -> Float[Tensor, "v c h w"]:
    """Average square blocks down to `size` pixels a side; any other ratio is left to the prior's
    own resizing.

    Rendering finer than the prior sees spares the splats the rasterizer's low-pass of 0.3 pixels
    squared, which at the prior's size would hide how small they are.
    """
    factor = images.shape[-1] // size
    if factor < 2 or images.shape[-2:] != (factor * size, factor * size):
        return images
    return functional.avg_pool2d(images, factor)


def disparity(
    depth: Float[Tensor, "v 1 height width"],
    alpha: Float[Tensor, "v 1 height width"],
    tan_half_fov: Float[Tensor, "v 2"],
) -> Float[Tensor, "v 1 height width"]:
    """Nearness in 0..1 per view: 1 at the nearest solid pixel, 0 at the farthest and where nothing
    is.

    LucidDreamer's map: focal / (depth + 10 (1 - alpha)), from its least value over solid pixels
    (alpha >= 0.9; over all of them where none is solid) to its greatest.
    """
    focal = (0.5 / tan_half_fov[:, 0]).view(-1, 1, 1, 1)
    near = focal / (depth + 10.0 * (1.0 - alpha) + 1e-5)
    solid = alpha >= 0.9
    solid = solid | ~solid.flatten(1).any(dim=1).view(-1, 1, 1, 1)
    low = torch.where(solid, near, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    high = near.amax(dim=(1, 2, 3), keepdim=True)
    return ((near - low) / (high - low).clamp_min(1e-8)).clamp(0.0, 1.0)
