"""Floor 1: one Adam with a parameter group per raw tensor, and learning rates as laws of the step."""

import dataclasses
import math

import torch

from gs_ssd.bounds import POSITIVE, Bounds, bounded, law
from gs_ssd.errors import UserError
from gs_ssd.maths import anneal, harmonics
from gs_ssd.scene.gaussians import PARAMETERS, Gaussians

Law = tuple[float, float]
Knots = tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Learning rates (first step, last step), log-linear in between; equal ends are a constant.

    The numbers are LucidDreamer's: 1.6e-4 and 1.6e-6 times the scene's extent of 3.5 for the means, and a twentieth
    of the first colour rate for the higher harmonics.
    """

    means: Law = (5.6e-4, 5.6e-6)
    log_scales: Law = (5e-3, 1e-3)
    quats_wxyz: Law = (1e-3, 2e-4)
    logit_opacities: Law = (0.05, 0.05)
    sh_dc: Law = (5e-3, 3e-3)
    sh_rest: Law = (2.5e-4, 2.5e-4)
    betas: tuple[float, float] = bounded((0.9, 0.999), Bounds(0, 1, below=True))
    scale_floor: Knots = law((), Bounds(0))
    scale_ceiling: Knots = law((), POSITIVE)
    """Bounds of every scale (linear, world units) as knots [share of the run, bound]; empty: unbounded."""
    reach: float | None = bounded(None, POSITIVE)
    """Means stay within this distance of the origin; `None`: anywhere."""
    clamp_colors: bool = False
    """Keep the view-independent part of the colours within 0..1, beyond which a picture shows no difference."""


def check(config: OptimizerConfig, section: str = "optimizer") -> None:
    """Refuse learning rates that are no law, and bounds on the scales that cross anywhere in the run.

    Raises:
        UserError: names the key in `section` of the config.
    """
    for name in PARAMETERS:
        start, end = getattr(config, name)
        if not (start > 0 and end > 0) and not start == end == 0:
            raise UserError(f"{section}.{name} is [{start:g}, {end:g}]; both must be positive, or both 0 to freeze it")
    if config.scale_floor and config.scale_ceiling:
        for share in sorted({knot[0] for knot in (*config.scale_floor, *config.scale_ceiling)}):
            _scale_bounds(config, share)


def _scale_bounds(config: OptimizerConfig, progress: float) -> tuple[float, float]:
    """The least and the greatest scale at this share of the run; straight lines cross between knots only if at one."""
    low = anneal.piecewise(progress, config.scale_floor) if config.scale_floor else 0.0
    high = anneal.piecewise(progress, config.scale_ceiling) if config.scale_ceiling else math.inf
    if low > high:
        raise UserError(f"optimizer.scale_floor {low:g} is above scale_ceiling {high:g} at {progress:.0%} of the run")
    return low, high


def build(gaussians: Gaussians, config: OptimizerConfig) -> torch.optim.Adam:
    """Adam (eps 1e-15) over the six tensors; each group carries its tensor's `name`."""
    check(config)
    groups = [{"params": [tensor], "name": name} for name, tensor in gaussians.parameters().items()]
    optimizer = torch.optim.Adam(groups, lr=0.0, betas=config.betas, eps=1e-15)
    set_learning_rates(optimizer, config, 0.0)
    return optimizer


def learning_rate(config: OptimizerConfig, name: str, progress: float) -> float:
    """Rate of the raw tensor `name` when `progress` (0..1) of the run lies behind."""
    return anneal.log_linear(progress, *getattr(config, name))


def set_learning_rates(optimizer: torch.optim.Adam, config: OptimizerConfig, progress: float) -> None:
    """Write the rates of this moment into the groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, group["name"], progress)


@torch.no_grad()
def project(gaussians: Gaussians, config: OptimizerConfig, progress: float) -> None:
    """Bring scales, means and colours back within the bounds of this moment, after the optimizer's step."""
    if config.scale_floor or config.scale_ceiling:
        low, high = _scale_bounds(config, progress)
        gaussians.log_scales.clamp_(math.log(low) if low > 0 else None, math.log(high) if high < math.inf else None)
    if config.reach is not None:
        distance = gaussians.means.norm(dim=-1, keepdim=True)
        gaussians.means *= (config.reach / distance.clamp_min(1e-12)).clamp_max(1.0)
    if config.clamp_colors:
        gaussians.sh_dc.clamp_(-0.5 / harmonics.C0, 0.5 / harmonics.C0)
