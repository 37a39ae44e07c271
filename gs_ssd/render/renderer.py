"""Floor 2: Gaussians and cameras in, colour, alpha and depth of all views out, in one call of the rasterizer."""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gs_ssd.maths import harmonics
from gs_ssd.native import native
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians


@dataclasses.dataclass(frozen=True)
class RenderOutput:
    """V renderings. `rgb` is in 0..1 wherever the colours are; `alpha` is accumulated opacity (0 empty, 1 solid).

    `depth` is the sum of alpha T z: not divided by alpha, the background adds nothing. `radii` > 0 marks what a view
    sees. `screen_means` receives the gradient of the projected means, in NDC units (pixel gradient x W/2, H/2).
    """

    rgb: Float[Tensor, "v 3 height width"]
    alpha: Float[Tensor, "v 1 height width"]
    depth: Float[Tensor, "v 1 height width"]
    radii: Int[Tensor, "v n"]
    screen_means: Float[Tensor, "v n 2"]

    @property
    def screen_gradient(self) -> Float[Tensor, "v n 2"]:
        """What the backward left on the projected means; zero before it."""
        return torch.zeros_like(self.screen_means) if self.screen_means.grad is None else self.screen_means.grad


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "v 3"],
    *,
    scales: Float[Tensor, "n 3"] | None = None,
    detach_depth: bool = False,
    backend: str | None = None,
) -> RenderOutput:
    """Render all views.

    Args:
        background: one colour a view, 0..1.
        scales: linear scales to use in place of the Gaussians' own (scale augmentation).
        detach_depth: keep the depth's gradient from the Gaussians' distance, as LucidDreamer's rasterizer did.
        backend: "cpu", "cuda" or "reference"; `None` follows the tensors' device.
    """
    wants_gradient = torch.is_grad_enabled() and gaussians.means.requires_grad
    screen_means = torch.zeros(len(cameras), len(gaussians), 2, device=gaussians.device, requires_grad=wants_gradient)
    degree = gaussians.sh_degree
    color = (
        {"sh": gaussians.sh, "sh_degree": degree}
        if degree
        else {"colors": harmonics.dc_to_rgb(gaussians.sh_dc[:, 0]).clamp_min(0.0)}
    )
    views = native("diff_gaussian_rasterization").render_views(
        gaussians.means,
        gaussians.quats_wxyz,
        gaussians.scales if scales is None else scales,
        gaussians.opacities,
        **color,
        w2c=cameras.w2c,
        tan_half_fov=cameras.tan_half_fov,
        width=cameras.width,
        height=cameras.height,
        background=background,
        screen_means=screen_means if wants_gradient else None,
        detach_depth=detach_depth,
        backend=backend,
    )
    return RenderOutput(views.rgb, views.alpha, views.depth, views.radii, screen_means)


def shrink(images: Float[Tensor, "v c height width"], size: int) -> Float[Tensor, "v c h w"]:
    """Average square blocks down to `size` pixels a side; any other ratio is left to the prior's own resizing.

    Rendering finer than the prior sees spares the splats the rasterizer's low-pass of 0.3 pixels squared, which at the
    prior's size would hide how small they are.
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
    """Nearness in 0..1 a view: 1 at the nearest solid pixel, 0 at the farthest and where nothing is.

    LucidDreamer's map: focal / (depth + 10 (1 - alpha)), from its least value over solid pixels (alpha >= 0.9; over
    all of them where none is solid) to its greatest.
    """
    focal = (0.5 / tan_half_fov[:, 0]).view(-1, 1, 1, 1)
    near = focal / (depth + 10.0 * (1.0 - alpha) + 1e-5)
    solid = alpha >= 0.9
    solid = solid | ~solid.flatten(1).any(dim=1).view(-1, 1, 1, 1)
    low = torch.where(solid, near, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    high = near.amax(dim=(1, 2, 3), keepdim=True)
    return ((near - low) / (high - low).clamp_min(1e-8)).clamp(0.0, 1.0)
