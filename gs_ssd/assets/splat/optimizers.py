"""One Adam with a parameter group per raw tensor, and learning rates as laws of the step."""

import math
from typing import Annotated

import torch
from pydantic import AfterValidator

from gs_ssd.bounds import Bounds, Knots, NonNegative, Positive, Rate, settings
from gs_ssd.errors import UserError
from gs_ssd.maths import anneal, harmonics
from gs_ssd.scene.gaussians import Gaussians


def _both_or_neither(law: tuple[float, float]) -> tuple[float, float]:
    if 0 in law and law != (0, 0):
        raise ValueError("both must be positive, or both 0 to freeze it")
    return law


Law = Annotated[tuple[Rate, Rate], AfterValidator(_both_or_neither)]
"""A learning rate at the first step and at the last."""
Momentum = Annotated[float, Bounds(0, 1, below=True)]


@settings
class OptimizerConfig:
    """Learning rates (first step, last step), log-linear in between; equal ends are a constant.

    The numbers are LucidDreamer's: 1.6e-4 and 1.6e-6 times the scene's extent of 3.5 for the means,
    and a twentieth of the first colour rate for the higher harmonics.
    """

    means: Law = (5.6e-4, 5.6e-6)
    log_scales: Law = (5e-3, 1e-3)
    quats_wxyz: Law = (1e-3, 2e-4)
    logit_opacities: Law = (0.05, 0.05)
    sh_dc: Law = (5e-3, 3e-3)
    sh_rest: Law = (2.5e-4, 2.5e-4)
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    scale_floor: Knots[NonNegative] = ()
    scale_ceiling: Knots[Positive] = ()
    """Bounds of every scale (linear, world units) as knots [share of the run, bound]; empty:
    unbounded."""
    reach: Positive | None = None
    """Means stay within this distance of the origin; `None`: anywhere."""
    clamp_colors: bool = False
    """Keep the view-independent part of the colours within 0..1, beyond which a picture shows no
    difference."""

    def __post_init__(self) -> None:
        """Refuse bounds on the scales that cross anywhere in the run: straight lines do so at a
        knot or not at all."""
        for share in sorted({knot[0] for knot in (*self.scale_floor, *self.scale_ceiling)}):
            low, high = _scale_bounds(self, share)
            if low > high:
                raise UserError(
                    f"optimizer.scale_floor {low:g} is above optimizer.scale_ceiling {high:g} at"
                    f" {share:.0%} of the run"
                )


def _scale_bounds(config: OptimizerConfig, progress: float) -> tuple[float, float]:
    """The least and the greatest scale at this share of the run."""
    low = anneal.piecewise(progress, config.scale_floor) if config.scale_floor else 0.0
    high = anneal.piecewise(progress, config.scale_ceiling) if config.scale_ceiling else math.inf
    return low, high


def build(gaussians: Gaussians, config: OptimizerConfig) -> torch.optim.Adam:
    """Adam (eps 1e-15) over the six tensors; each group carries its tensor's `name`."""
    groups = [{"params": [tensor], "name": name} for name, tensor in gaussians.parameters().items()]
    optimizer = torch.optim.Adam(groups, lr=0.0, betas=config.betas, eps=1e-15)
    set_learning_rates(optimizer, config, 0.0)
    return optimizer


def learning_rate(config: OptimizerConfig, name: str, progress: float) -> float:
    """Rate of the raw tensor `name` when `progress` (0..1) of the run lies behind."""
    return anneal.log_linear(progress, *getattr(config, name))


def set_learning_rates(
    optimizer: torch.optim.Adam, config: OptimizerConfig, progress: float
) -> None:
    """Write the rates of this moment into the groups."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, group["name"], progress)


@torch.no_grad()
def project(gaussians: Gaussians, config: OptimizerConfig, progress: float) -> None:
    """Bring scales, means and colours back within the bounds of this moment, after the optimizer's
    step."""
    if config.scale_floor or config.scale_ceiling:
        low, high = _scale_bounds(config, progress)
        gaussians.log_scales.clamp_(
            math.log(low) if low > 0 else None, math.log(high) if high < math.inf else None
        )
    if config.reach is not None:
        distance = gaussians.means.norm(dim=-1, keepdim=True)
        gaussians.means *= (config.reach / distance.clamp_min(1e-12)).clamp_max(1.0)
    if config.clamp_colors:
        gaussians.sh_dc.clamp_(-0.5 / harmonics.C0, 0.5 / harmonics.C0)
