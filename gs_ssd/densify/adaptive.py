"""Floor 2: clone, split, prune and reset as in 3DGS and LucidDreamer, on the statistics of all views."""

import dataclasses
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.bounds import POSITIVE, SHARE, Bounds, bounded
from gs_ssd.densify import surgery
from gs_ssd.densify.policy import Policy
from gs_ssd.densify.surgery import Moment, Patient


@dataclasses.dataclass(frozen=True)
class AdaptiveConfig:
    """Steps are counted from 1 here, as in the recipe. World sizes assume an object of about one unit."""

    every: int = bounded(100, Bounds(1))
    start: int = 200
    stop: int = 3000
    """First step at which nothing happens any more; in runs of another length than 5000 write it down."""
    select: Literal["quantile", "absolute"] = "quantile"
    """Whom to densify: the share with the largest gradients, which does not hang on the gradient's scale (SSD has no
    guidance factor in it), or all above a threshold (LucidDreamer: 7.5e-4, tuned to ISM at scale 7.5)."""
    quantile: float = bounded(0.97, SHARE)
    threshold: float = bounded(7.5e-4, Bounds(0))
    """Mean norm of the screen gradient over the views that saw the Gaussian, NDC units."""
    split_above: float = bounded(0.0105, Bounds(0))
    """Larger ones (largest scale, world units) are split, smaller ones cloned."""
    prune_opacity: float = bounded(0.005, Bounds(0, 1, below=True))
    prune_scale: float = bounded(0.35, POSITIVE)
    prune_scale_after: int = 300
    reset_every: int = bounded(300, Bounds(0))
    """0 never resets."""
    reset_opacity: float = bounded(0.01, Bounds(0, 1, above=True, below=True))
    max_splats: int = bounded(500_000, Bounds(1))


class AdaptivePolicy(Policy):
    """3DGS's adaptive density control (Kerbl et al. 2023, section 5) with a cap.

    Departures from LucidDreamer: all V views count (it kept the last one's), Adam steps before surgery, the test on
    the screen radius is left out (it never fired there), and the number of splats has a ceiling.
    """

    def __init__(self, config: AdaptiveConfig) -> None:
        self.config = config

    def begin(self, patient: Patient) -> None:
        """Running sum of gradient norms and number of sightings."""
        for key in ("gradient_sum", "sightings"):
            patient.statistics.setdefault(key, torch.zeros(len(patient), device=patient.gaussians.device))

    def observe(self, patient: Patient, screen_gradient: Float[Tensor, "v n 2"], visible: Bool[Tensor, "v n"]) -> None:
        """Add this step's norms where a view saw the Gaussian."""
        norms = screen_gradient.norm(dim=-1)
        patient.statistics["gradient_sum"] += torch.where(visible, norms, 0.0).sum(dim=0)
        patient.statistics["sightings"] += visible.sum(dim=0)

    def refine(self, patient: Patient, moment: Moment) -> dict[str, int]:
        """Grow and prune every `every` steps, reset opacities every `reset_every`, from `start` until `stop`."""
        config, iteration = self.config, moment.step + 1
        done: dict[str, int] = {}
        if iteration >= config.stop:
            return done
        if iteration >= config.start and iteration % config.every == 0:
            done |= self._grow(patient, moment.generator)
            done["pruned"] = self._prune(patient, iteration)
            for value in patient.statistics.values():
                value.zero_()
        if config.reset_every and iteration % config.reset_every == 0:
            surgery.reset_opacities(patient, config.reset_opacity)
            done["reset"] = len(patient)
        return done

    def _grow(self, patient: Patient, generator: torch.Generator) -> dict[str, int]:
        config = self.config
        mean = patient.statistics["gradient_sum"] / patient.statistics["sightings"].clamp_min(1)
        room = max(config.max_splats - len(patient), 0)
        seen = int((mean > 0).sum())
        if config.select == "quantile":
            wanted = round((1 - config.quantile) * seen)
        else:
            wanted = int((mean >= config.threshold).sum())
        chosen = mean.topk(min(wanted, room, seen)).indices.sort().values
        large = patient.gaussians.scales.detach()[chosen].amax(dim=-1) > config.split_above
        surgery.clone(patient, chosen[~large])
        surgery.split(patient, chosen[large], generator)
        return {"cloned": int((~large).sum()), "split": int(large.sum())}

    def _prune(self, patient: Patient, iteration: int) -> int:
        gaussians = patient.gaussians.detach()
        good = gaussians.opacities >= self.config.prune_opacity
        if iteration > self.config.prune_scale_after:
            good &= gaussians.scales.amax(dim=-1) <= self.config.prune_scale
        return surgery.keep(patient, good)
