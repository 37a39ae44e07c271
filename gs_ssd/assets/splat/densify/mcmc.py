"""3DGS-MCMC: a fixed budget, dead Gaussians move to living ones, and noise keeps everything
exploring."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.splat.densify import surgery
from gs_ssd.assets.splat.densify.policy import Policy
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.bounds import Bounds, Count, Share, settings
from gs_ssd.maths import rotation


@settings
class McmcConfig:
    """Kheradmand et al. 2024, arXiv 2404.09591.

    Nothing here depends on the scale of the gradient."""

    budget: Count = 100_000
    """Never exceeded; a start below it grows by `growth` at each relocation until it is reached."""
    growth: Annotated[float, Bounds(0, 10)] = 0.05
    every: Annotated[int, Bounds(1, 1_000_000_000)] = 100
    """Steps between relocations."""
    start_share: Share = 0.0
    stop_share: Share = 0.8
    """Relocation and noise happen in this part of the run."""
    dead_opacity: Annotated[float, Bounds(0, 1, below=True)] = 0.005
    noise: Annotated[float, Bounds(0, 1e9)] = 5e5
    """Times the means' learning rate, the covariance and a sigmoid that is 1 for opacities near 0
    (paper: 5e5)."""
    gate: Annotated[float, Bounds(0, 10_000)] = 100.0
    """Steepness of that sigmoid, which falls at an opacity of 0.005."""


class McmcPolicy(Policy):
    """Relocation instead of clone, split, prune and reset; no statistics at all."""

    def __init__(self, config: McmcConfig) -> None:
        self.config = config

    def refine(self, splat: TrainedSplat, step: TrainingStep) -> dict[str, int]:
        """Relocate and grow every `every` steps; jitter the means at every step."""
        share, generator = (step.index + 1) / step.num_steps, step.generator
        if not self.config.start_share <= share <= self.config.stop_share:
            return {}
        done: dict[str, int] = {}
        if (step.index + 1) % self.config.every == 0:
            done["relocated"] = self._relocate(splat, generator)
            done["added"] = self._add(splat, generator)
        if self.config.noise:
            self._jitter(splat, generator)
        return done

    def _draw(self, weight: Float[Tensor, " n"], count: int, generator: torch.Generator) -> Tensor:
        drawn = torch.multinomial(
            weight.to(generator.device), count, replacement=True, generator=generator
        )
        return drawn.to(weight.device)

    def _relocate(self, splat: TrainedSplat, generator: torch.Generator) -> int:
        opacities = splat.gaussians.opacities.detach()
        is_dead = opacities <= self.config.dead_opacity
        dead = is_dead.nonzero().squeeze(-1)
        if len(dead) in (0, len(splat)):
            return 0
        surgery.relocate(
            splat, dead, self._draw(torch.where(is_dead, 0.0, opacities), len(dead), generator)
        )
        return len(dead)

    def _add(self, splat: TrainedSplat, generator: torch.Generator) -> int:
        before = len(splat)
        count = min(self.config.budget, int((1 + self.config.growth) * before)) - before
        if count <= 0:
            return 0
        source = self._draw(splat.gaussians.opacities.detach(), count, generator)
        surgery.append(splat, source)
        surgery.relocate(splat, torch.arange(before, before + count, device=source.device), source)
        return count

    @torch.no_grad()
    def _jitter(self, splat: TrainedSplat, generator: torch.Generator) -> None:
        gaussians = splat.gaussians
        rate = next(
            group["lr"] for group in splat.optimizer.param_groups if group["name"] == "means"
        )
        noise = torch.randn(gaussians.means.shape, generator=generator, device=generator.device).to(
            gaussians.means
        )
        gate = torch.sigmoid(-self.config.gate * (gaussians.opacities - 0.005))
        spread = rotation.covariance(gaussians.scales, gaussians.quats_wxyz) @ noise.unsqueeze(-1)
        gaussians.means += spread.squeeze(-1) * (gate * self.config.noise * rate).unsqueeze(-1)
