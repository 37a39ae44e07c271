"""The last touch.

A splat is fitted to its own pictures with hardened outlines; no prior takes part.

A prior of 64 pixels cannot tell an outline that fades over a pixel of its own from a sharp one, so
guidance leaves fog exactly there, and many Gaussians inside the object, where nobody sees them.
Here the splat as guidance left it is the model: from anywhere around, its picture with every alpha
driven to 0 or 1 (colours kept) is what the new splat must look like. Hidden Gaussians move to where
they are seen, and all of them become thin discs, whose edge-on view makes a sharp outline. What the
prior drew, and where, stays as it was.
"""

import dataclasses
import logging
import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from gs_ssd.assets.splat import optimizers
from gs_ssd.assets.splat.densify import surgery
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.assets.splat.optimizers import Law, OptimizerConfig
from gs_ssd.bounds import Bounds, Share, Size, Views, settings
from gs_ssd.errors import UserError
from gs_ssd.maths import harmonics, rotation
from gs_ssd.render.output import hard_edges
from gs_ssd.render.renderer import render
from gs_ssd.scene.camera import Cameras
from gs_ssd.scene.gaussians import Gaussians

log = logging.getLogger(__name__)

Opacity = Annotated[float, Bounds(0, 1, below=True)]

SURVEY_VIEWS = 24
SURVEY_SIZE = 192
SPLIT_SHRINK = 1.3
"""Factor on the scales of a Gaussian that becomes two (of 1.3^2 where it becomes four or more)."""


@settings
class FinishConfig:
    """A fit of `steps` steps after the last step of guidance; lengths in world units."""

    steps: Annotated[int, Bounds(0, 100_000)] = 0
    """0: no finish."""
    num_views: Views = 2
    image_size: Size = 256
    edge: tuple[Share, Share] = (0.45, 0.55)
    """Alphas up to the first become 0, from the second on 1, smoothly in between."""
    thickness: Annotated[float, Bounds(0, 10, above=True)] = 0.002
    """The smallest scale of every Gaussian is brought down to this over the first half."""
    hidden: Opacity = 0.03
    """Gaussians that show less than this share of the average Gaussian's light are moved, three
    times in the fit."""
    prune_opacity: Opacity = 0.02
    """What is fainter in the end is dropped."""
    means: Law = (0.003, 0.0003)
    log_scales: Law = (0.02, 0.005)
    quats_wxyz: Law = (0.02, 0.005)
    logit_opacities: Law = (0.1, 0.1)
    sh_dc: Law = (0.01, 0.0025)

    def __post_init__(self) -> None:
        low, high = self.edge
        if not 0 < low < high < 1:
            raise UserError(f"finish.edge is [{low:g}, {high:g}]; choose 0 < low < high < 1")


@dataclasses.dataclass(frozen=True)
class Orbit:
    """Distances and fields of view (radians) of the cameras that look on, from every direction."""

    radius: tuple[float, float]
    fov_rad: tuple[float, float]

    def sample(self, views: int, size: int, generator: torch.Generator) -> Cameras:
        """Cameras uniform over the sphere of directions: the splat must hold where no prior ever
        looked, too."""
        azimuth, height, distance, opening = torch.rand(4, views, generator=generator)
        radius = self.radius[0] + (self.radius[1] - self.radius[0]) * distance
        fov = self.fov_rad[0] + (self.fov_rad[1] - self.fov_rad[0]) * opening
        return Cameras.orbit(
            2 * math.pi * azimuth, (1 - 2 * height).acos(), radius, fov, size, size
        )


def _laws(config: FinishConfig) -> OptimizerConfig:
    return OptimizerConfig(
        means=config.means,
        log_scales=config.log_scales,
        quats_wxyz=config.quats_wxyz,
        logit_opacities=config.logit_opacities,
        sh_dc=config.sh_dc,
        sh_rest=(0.0, 0.0),
        clamp_colors=True,
    )


def harden(
    gaussians: Gaussians, config: FinishConfig, orbit: Orbit, generator: torch.Generator
) -> Gaussians:
    """The same object of as many Gaussians or fewer, with hard outlines; the input is left as it
    is.

    A splat that is fog all through (no alpha above the edge from anywhere) comes back unchanged,
    with a warning. `generator` lives on the CPU and decides everything that is random.
    """
    model = gaussians.detach()
    if config.steps == 0 or len(model) == 0:
        return model
    laws = _laws(config)
    fitted = Gaussians(**model.parameters()).requires_grad_()
    splat = TrainedSplat(fitted, optimizers.build(fitted, laws))
    solid = torch.zeros((), device=model.device)
    # On a terminal alone: elsewhere the log says that it has begun.
    for step in tqdm(range(config.steps), desc="finishing", leave=False, disable=None):
        if step in (0, config.steps // 4, config.steps // 2):
            relocate_hidden(splat, orbit, config.hidden, generator)
        progress = step / config.steps
        optimizers.set_learning_rates(splat.optimizer, laws, progress)
        cameras = orbit.sample(config.num_views, config.image_size, generator).to(model.device)
        background = torch.rand(config.num_views, 3, generator=generator).to(model.device)
        rgb, alpha = hardened(model, cameras, background, config.edge)
        solid += alpha.sum()
        output = render(splat.gaussians, cameras, background)
        ((output.rgb - rgb).abs().mean() + (output.alpha - alpha).abs().mean()).backward()
        splat.optimizer.step()
        splat.optimizer.zero_grad(set_to_none=True)
        optimizers.project(splat.gaussians, laws, progress)
        flatten(splat.gaussians, config.thickness * 8 ** max(0.0, 1 - 2 * progress))
    visible = splat.gaussians.opacities.detach() > config.prune_opacity
    if not (solid > 0 and visible.any()):
        log.warning(
            "no view of the splat is solid anywhere: it was left as it is, without a finish"
        )
        return model
    surgery.keep(splat, visible)
    return splat.gaussians.detach()


@torch.no_grad()
def hardened(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "v 3"],
    edge: tuple[float, float],
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """Pictures whose alpha was driven to 0 or 1 (a smooth step over `edge`), colours as they are,
    and that alpha."""
    output = render(gaussians, cameras, torch.zeros_like(background))
    colors, alpha = hard_edges(output.rgb, output.alpha, edge)
    return colors * alpha + background[:, :, None, None] * (1 - alpha), alpha


def visibility(
    gaussians: Gaussians, orbit: Orbit, generator: torch.Generator
) -> Float[Tensor, " n"]:
    """How much of all pictures from around each Gaussian makes up: its blending weights summed over
    pixels and views.

    The weight is what a colour's gradient is multiplied with, so one backward pass counts it.
    """
    raw = gaussians.detach().parameters()
    # Weights do not depend on colours; mid grey keeps clear of the renderer's clamp at 0, which has
    # no gradient.
    grey = {name: torch.zeros_like(raw[name]) for name in ("sh_dc", "sh_rest")}
    probe = Gaussians(**{**raw, **grey}).requires_grad_()
    for start in range(0, SURVEY_VIEWS, 4):
        views = min(4, SURVEY_VIEWS - start)
        cameras = orbit.sample(views, SURVEY_SIZE, generator).to(probe.device)
        black = torch.zeros(views, 3, device=probe.device)
        render(probe, cameras, black).rgb[:, 0].sum().backward()
    weights = probe.sh_dc.grad
    return (
        torch.zeros(len(probe), device=probe.device)
        if weights is None
        else weights[:, 0, 0] / harmonics.C0
    )


@torch.no_grad()
def relocate_hidden(
    splat: TrainedSplat, orbit: Orbit, share: float, generator: torch.Generator
) -> int:
    """Turn Gaussians that show less than `share` of the average into children of visible ones.

    Returns how many.

    A visible one is drawn in proportion to what it shows; it and its children are redrawn from it,
    smaller.
    """
    with torch.enable_grad():
        seen = visibility(splat.gaussians, orbit, generator)
    hidden = seen < share * seen.mean()
    moved = hidden.nonzero().squeeze(-1)
    if len(moved) in (0, len(splat)):
        return 0
    odds = torch.where(hidden, 0.0, seen).to(generator.device)
    parents = torch.multinomial(odds, len(moved), replacement=True, generator=generator).to(moved)
    family, origin = torch.cat([parents.unique(), moved]), torch.cat([parents.unique(), parents])
    children = torch.bincount(parents, minlength=len(splat))[origin]
    old = {name: tensor[origin] for name, tensor in splat.gaussians.detach().parameters().items()}
    drawn = (
        torch.randn(len(family), 3, generator=generator).to(splat.gaussians.device)
        * old["log_scales"].exp()
    )
    offset = rotation.quat_to_matrix(old["quats_wxyz"]) @ drawn.unsqueeze(-1)
    old["means"] = old["means"] + 0.8 * offset.squeeze(-1)
    generations = (1.0 + children).log2().clamp_max(2.0)
    old["log_scales"] = old["log_scales"] - math.log(SPLIT_SHRINK) * generations.unsqueeze(-1)
    surgery.overwrite(splat, family, old)
    return len(moved)


@torch.no_grad()
def flatten(gaussians: Gaussians, thickness: float) -> None:
    """Bring the smallest scale of every Gaussian down to `thickness`, in place."""
    least = gaussians.log_scales.argmin(dim=-1, keepdim=True)
    thin = gaussians.log_scales.gather(-1, least).clamp_max(math.log(thickness))
    gaussians.log_scales.scatter_(-1, least, thin)
