"""Clone, split, prune and reset as in 3DGS and LucidDreamer, on the statistics of all views."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.splat.densify import surgery
from gs_ssd.assets.splat.densify.policy import Policy
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.bounds import Bounds, Count, Often, Positive, Share, settings

LAST_GROWTH, LAST_RESET = 0.8, 0.7
"""Shares of the run: what comes later the optimizer cannot settle, and a splat whose opacities were
reset stays fog."""


@settings
class AdaptiveConfig:
    """When it begins and ends are shares of the run; how often it acts are steps, for statistics
    and opacities need a number of steps to build up, however long the run. World sizes assume an
    object of about one unit.
    """

    every: Annotated[int, Bounds(1, 1_000_000_000)] = 100
    """Steps between two rounds of growing and pruning."""
    start_share: Share = 0.04
    stop_share: Annotated[float, Bounds(0, LAST_GROWTH)] = 0.6
    """Growing and pruning happen from the first on, and before the second (LucidDreamer: steps 200
    and 3000 of 5000). So do resets, which end at .7 of the run at the latest."""
    select: Literal["quantile", "absolute"] = "quantile"
    """Which splats to densify: the share with the largest gradients, which does not depend on the
    gradient's scale (SSD has no guidance factor in it), or all above a threshold (LucidDreamer:
    7.5e-4, tuned to ISM at scale 7.5)."""
    quantile: Share = 0.97
    threshold: Annotated[float, Bounds(0, 1e6)] = 7.5e-4
    """Mean norm of the screen gradient over the views that saw the Gaussian, NDC units."""
    split_above: Annotated[float, Bounds(0, 1e6)] = 0.0105
    """Larger ones (largest scale, world units) are split, smaller ones cloned."""
    prune_opacity: Annotated[float, Bounds(0, 1, below=True)] = 0.005
    prune_scale: Positive = 0.35
    prune_scale_after_share: Share = 0.06
    reset_every: Often = 300
    """Steps between two resets of the opacities; 0: never."""
    reset_opacity: Annotated[float, Bounds(0, 1, above=True, below=True)] = 0.01
    max_splats: Count = 500_000


class AdaptivePolicy(Policy):
    """3DGS's adaptive density control (Kerbl et al. 2023, section 5) with a cap.

    Departures from LucidDreamer: all V views count (it kept the last one's), Adam steps before
    surgery, the test on the screen radius is left out (it never fired there), and the number of
    splats has a ceiling.
    """

    def __init__(self, config: AdaptiveConfig) -> None:
        self.config = config

    def begin(self, splat: TrainedSplat) -> None:
        """Running sum of gradient norms and number of sightings."""
        for key in ("gradient_sum", "sightings"):
            splat.statistics.setdefault(key, torch.zeros(len(splat), device=splat.gaussians.device))

    def observe(
        self,
        splat: TrainedSplat,
        screen_gradient: Float[Tensor, "v n 2"],
        visible: Bool[Tensor, "v n"],
    ) -> None:
        """Add this step's norms where a view saw the Gaussian."""
        norms = screen_gradient.norm(dim=-1)
        splat.statistics["gradient_sum"] += torch.where(visible, norms, 0.0).sum(dim=0)
        splat.statistics["sightings"] += visible.sum(dim=0)

    def refine(self, splat: TrainedSplat, step: TrainingStep) -> dict[str, int]:
        """Grow and prune every `every` steps, reset opacities every `reset_every`; counted from 1,
        as in the recipe."""
        config, iteration = self.config, step.index + 1
        start, stop, last_reset, prune_scale_after = (
            round(share * step.num_steps)
            for share in (
                config.start_share,
                config.stop_share,
                LAST_RESET,
                config.prune_scale_after_share,
            )
        )
        done: dict[str, int] = {}
        if iteration >= stop:
            return done
        if iteration >= start and iteration % config.every == 0:
            done |= self._grow(splat, step.generator)
            done["pruned"] = self._prune(splat, with_scale=iteration > prune_scale_after)
            for value in splat.statistics.values():
                value.zero_()
        if config.reset_every and iteration % config.reset_every == 0 and iteration < last_reset:
            surgery.reset_opacities(splat, config.reset_opacity)
            done["reset"] = len(splat)
        return done

    def _grow(self, splat: TrainedSplat, generator: torch.Generator) -> dict[str, int]:
        config = self.config
        mean = splat.statistics["gradient_sum"] / splat.statistics["sightings"].clamp_min(1)
        room = max(config.max_splats - len(splat), 0)
        seen = int((mean > 0).sum())
        if config.select == "quantile":
            wanted = round((1 - config.quantile) * seen)
        else:
            wanted = int((mean >= config.threshold).sum())
        chosen = mean.topk(min(wanted, room, seen)).indices.sort().values
        large = splat.gaussians.scales.detach()[chosen].amax(dim=-1) > config.split_above
        surgery.clone(splat, chosen[~large])
        surgery.split(splat, chosen[large], generator)
        return {"cloned": int((~large).sum()), "split": int(large.sum())}

    def _prune(self, splat: TrainedSplat, *, with_scale: bool) -> int:
        gaussians = splat.gaussians.detach()
        good = gaussians.opacities >= self.config.prune_opacity
        if with_scale:
            good &= gaussians.scales.amax(dim=-1) <= self.config.prune_scale
        return surgery.keep(splat, good)
