"""Gaussians and cameras in, colour, alpha and depth of all views out, in one call of the
rasterizer."""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.maths import harmonics
from gs_ssd.native import native
from gs_ssd.render.output import RenderOutput
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians


@dataclasses.dataclass(frozen=True)
class SplatRenderOutput(RenderOutput):
    """`radii` > 0 marks what a view sees.

    `screen_means` receives the gradient of the projected means, in NDC units (pixel gradient x W/2,
    H/2).
    """

    radii: Int[Tensor, "v n"]
    screen_means: Float[Tensor, "v n 2"]

    @property
    def screen_gradient(self) -> Float[Tensor, "v n 2"]:
        """What the backward left on the projected means; zero before it."""
        return (
            torch.zeros_like(self.screen_means)
            if self.screen_means.grad is None
            else self.screen_means.grad
        )


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "v 3"],
    *,
    scales: Float[Tensor, "n 3"] | None = None,
    detach_depth: bool = False,
    backend: str | None = None,
) -> SplatRenderOutput:
    """Render all views.

    Args:
        background: one colour a view, 0..1.
        scales: linear scales to use in place of the Gaussians' own (scale augmentation).
        detach_depth: keep the depth's gradient from the Gaussians' distance, as LucidDreamer's
            rasterizer did.
        backend: "cpu", "cuda" or "reference"; `None` follows the tensors' device.
    """
    wants_gradient = torch.is_grad_enabled() and gaussians.means.requires_grad
    screen_means = torch.zeros(
        len(cameras), len(gaussians), 2, device=gaussians.device, requires_grad=wants_gradient
    )
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
    return SplatRenderOutput(views.rgb, views.alpha, views.depth, views.radii, screen_means)


@dataclasses.dataclass(frozen=True)
class RenderedGaussians:
    """Gaussians as something to take pictures of: a splat that was read from a file, beside an
    `Asset`."""

    gaussians: Gaussians

    @property
    def device(self) -> torch.device:
        """Where the Gaussians are."""
        return self.gaussians.device

    def render(self, cameras: Cameras, background: Float[Tensor, "v 3"]) -> RenderOutput:
        """All views, without gradient."""
        return render(self.gaussians.detach(), cameras, background)
