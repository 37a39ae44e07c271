"""One optimization: an asset, a prior, and the steps between them.

`Job._step` is the method on one screen.

A job knows no folder, no signal and no screen: it is driven step by step, or by iterating over
`Job.steps`.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.profiler import record_function

from gs_ssd import devices
from gs_ssd.assets import choice
from gs_ssd.assets.base import Asset, TrainingStep
from gs_ssd.config import ExperimentConfig
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError
from gs_ssd.events import Stepped
from gs_ssd.guidance.distill import Distillation, DistillationResult
from gs_ssd.guidance.estimators import Estimator
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior.base import VariesProportions
from gs_ssd.prior.proportions import NUMBERS
from gs_ssd.render import augment, regularizers
from gs_ssd.render.output import RenderOutput, disparity, shrink
from gs_ssd.render.step_pictures import StepPictures
from gs_ssd.resolve import resolve
from gs_ssd.scene import viewpoints
from gs_ssd.scene.camera import Cameras

log = logging.getLogger(__name__)

SETUP_STREAM = -1
"""Stands for the step in the generator of everything that is drawn before the first one."""
PROPORTIONS_STREAM = -2
"""The same for the object's proportions, so that they change no other draw."""


def generator_at(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step.

    On the CPU whatever the device: the same run anywhere draws the same numbers."""
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 2) * 0xBF58476D1CE4E5B9) & 0x7FFF_FFFF_FFFF_FFFF
    return torch.Generator().manual_seed(mixed)


def _with_variety(prior: DiffusionPrior, config: ExperimentConfig) -> DiffusionPrior:
    """The prior with the proportions in mind that the run's seed gives; itself without variety."""
    if not config.prior.variety or not isinstance(prior, VariesProportions):
        return prior
    drawn = torch.randn(NUMBERS, generator=generator_at(config.seed, PROPORTIONS_STREAM))
    return prior.with_proportions(config.prior.variety * drawn)


class Job:
    """Distills a prompt into an asset.

    Args:
        config: the experiment.
        prior: a loaded one; many jobs may share it, one after the other.
        asset: one of your own, in place of the config's.
        estimator: a function of your own in place of `guidance.estimator` (see docs/library.md).
        anyway: try a prompt that the prior does not know.
        state: what `state_dict` of an earlier job gave; start from scratch without.

    Raises:
        UserError: a config that a component refuses, an unknown prompt, a device or file that is
            not there.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        prior: DiffusionPrior,
        *,
        asset: Asset | None = None,
        estimator: Estimator | None = None,
        anyway: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = devices.choose(config.device)
        self.resolved = resolve(config, prior, estimator)
        prior = _with_variety(prior, config)
        self.config, self.prior = config, prior
        self.viewpoints = self.resolved.viewpoints
        guidance = self.resolved.experiment.guidance
        self.distillation = Distillation(
            guidance,
            prior,
            config.prompt,
            num_steps=config.num_steps,
            anyway=anyway,
            estimator=estimator,
        )
        self.asset = choice.create(config, self.device, prior) if asset is None else asset
        self._check_body_picture()
        self.completed = 0
        self.bad_steps = self.bad_steps_in_a_row = 0
        self.finished = False
        if state is None:
            self.asset.initialize(generator_at(config.seed, SETUP_STREAM))
        else:
            self.load_state_dict(state)

    def steps(self, until: int | None = None) -> Iterator[Stepped]:
        """Take the steps that are left (or those before `until` are completed), one for each
        `next`."""
        last = self.config.num_steps if until is None else min(until, self.config.num_steps)
        while self.completed < last:
            yield self.step()

    def step(self) -> Stepped:
        """Take the next step.

        Raises:
            UserError: the gradient was not finite too often in a row, or the asset has nothing
                left.
            ValueError: all steps of the config are done.
        """
        started, index, num_steps = time.perf_counter(), self.completed, self.config.num_steps
        if index >= num_steps:
            raise ValueError(f"all {num_steps} steps (num_steps) are done")
        with record_function("gs_ssd.step"):
            metrics, pictures = self._step(
                TrainingStep(index, num_steps, generator_at(self.config.seed, index))
            )
        self.completed += 1
        return Stepped(self.completed, metrics, time.perf_counter() - started, pictures)

    def _step(self, step: TrainingStep) -> tuple[dict[str, Any], StepPictures | None]:
        """Look, distill, regularize, move. Returns what is worth logging, and what guidance saw."""
        config, asset = self.config, self.asset
        asset.begin_step(step)

        on_host = viewpoints.sample(self.viewpoints, step.index, step.num_steps, step.generator)
        cameras = on_host.to(self.device)
        background = to_device(
            augment.backgrounds(config.augment, len(cameras), step.generator), self.device
        )
        with record_function("gs_ssd.render"):
            output = asset.render(cameras, background, step.generator)

        near = disparity(output.depth, output.alpha, cameras.tan_half_fov)
        rgb, depth = (shrink(picture, self.prior.image_size) for picture in (output.rgb, near))
        guided = self.distillation.step(
            rgb,
            asset.towards(on_host),
            step.index,
            step.generator,
            depth=depth,
            image=self._body_picture(on_host),
        )
        pictures = self._pictures(output, near, guided)
        terms = asset.regularizers(output, cameras, step)
        with record_function("gs_ssd.backward"):
            values = regularizers.backward(
                guided.loss, output, cameras.tan_half_fov, config.regularize, step.progress, terms
            )
        done = self._move(step, output, guided)
        metrics = {
            "step": step.index,
            **asset.counts(),
            "grad_norm": guided.grad_norm,
            "t": guided.t,
            "unet_images": guided.unet_images,
            "alpha_mean": output.alpha.detach().mean(),
            "bad_steps": self.bad_steps,
            **values,
            **done,
        }
        return metrics, pictures

    def _check_body_picture(self) -> None:
        """Does the asset have the picture that the prior is told the pose by?"""
        wanted = self.prior.body_picture
        if wanted is None:
            return
        if wanted.kind not in self.asset.body_pictures:
            raise UserError(
                f"the prior is told a pose by a picture of the body ({wanted.kind}), and asset="
                f"{self.asset.kind} has no body; set asset=avatar, or name another prior"
            )
        if wanted.kind == "openpose" and self.distillation.config.flip:
            raise UserError(
                "guidance.flip would swap left and right of the skeleton; set it to 0 for an"
                " openpose ControlNet"
            )

    def _body_picture(self, cameras: Cameras) -> torch.Tensor | None:
        wanted = self.prior.body_picture
        if wanted is None:
            return None
        picture = self.asset.body_picture(wanted.kind, cameras, wanted.size)
        return to_device(picture, self.device)

    def _move(
        self, step: TrainingStep, output: RenderOutput, guided: DistillationResult
    ) -> Mapping[str, Any]:
        """Optimizers and hooks of the asset, where the gradient is finite; then forget it."""
        done: Mapping[str, Any] = {}
        optimizers = self.asset.optimizers
        if self._is_sound(guided, step.index):
            self.asset.after_backward(output, step)
            with record_function("gs_ssd.optimizers"):
                for optimizer in optimizers:
                    optimizer.step()
            done = self.asset.after_step(step)
        for optimizer in self.asset.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return done

    def _is_sound(self, guided: DistillationResult, step: int) -> bool:
        """Skip and count a step with NaN or infinity; give up after too many in a row, with the
        checkpoint intact."""
        groups = (group for optimizer in self.asset.optimizers for group in optimizer.param_groups)
        gradients = [
            tensor.grad for group in groups for tensor in group["params"] if tensor.grad is not None
        ]
        sound = [gradient.isfinite().all() for gradient in gradients]
        if bool(torch.stack([*sound, guided.bad_latents == 0, guided.bad_predictions == 0]).all()):
            self.bad_steps_in_a_row = 0
            return True
        self.bad_steps += 1
        self.bad_steps_in_a_row += 1
        culprit, fix = "the gradient", "smaller learning rates"
        if guided.bad_latents > 0:
            culprit, fix = (
                "what the VAE encoded",
                "prior.vae_dtype=float32, as half precision overflows",
            )
        elif guided.bad_predictions > 0:
            culprit, fix = "the prior's noise prediction", "prior.dtype=bfloat16 or float32"
        if self.bad_steps_in_a_row >= max(self.config.max_bad_steps, 1):
            raise UserError(
                f"{culprit} was not finite in {self.bad_steps_in_a_row} steps in a row (now"
                f" {step + 1}); try {fix} (the last checkpoint is intact)"
            )
        log.warning(
            "step %d: %s is not finite; skipped (%d so far)", step + 1, culprit, self.bad_steps
        )
        return False

    def preview_is_due(self, completed: int) -> bool:
        """Whether pictures belong to this many completed steps."""
        every = self.config.output.preview_every
        return every > 0 and completed % every == 0

    def _pictures(
        self, output: RenderOutput, near: torch.Tensor, guided: DistillationResult
    ) -> StepPictures | None:
        if not self.preview_is_due(self.completed + 1):
            return None
        rgb, alpha = output.rgb.detach(), output.alpha.detach()
        return StepPictures(rgb, near.detach(), alpha, guided.preview(), guided.gradient)

    def finish(self) -> bool:
        """The asset's last touch, once; a checkpoint should be written before, as it changes what
        is optimized."""
        if not self.finished:
            ranges = viewpoints.first_ranges(self.viewpoints)
            self.finished = self.asset.finish(
                ranges, generator_at(self.config.seed, self.config.num_steps)
            )
        return self.finished

    def state_dict(self) -> dict[str, Any]:
        """All that keeps changing; tensors are shared, not copied.

        Random numbers are made of (seed, step)."""
        return {
            "step": self.completed,
            "kind": self.asset.kind,
            "asset": self.asset.state_dict(),
            "guidance": self.distillation.state_dict(),
            "bad_steps": self.bad_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            UserError: it is the state of another kind of asset, or of an estimator that learns
                where this one does not.
        """
        if state["kind"] != self.asset.kind:
            raise UserError(
                f"the checkpoint holds an asset of the kind {state['kind']}, and this run optimizes"
                f" a {self.asset.kind}: resume it with the asset that it was made with"
            )
        try:
            self.asset.load_state_dict(state["asset"])
            self.distillation.load_state_dict(state["guidance"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            raise UserError(
                f"the newest checkpoint does not fit this run ({type(error).__name__}: {reason});"
                " resume it with the settings that it was made with, or delete it, and --resume"
                " takes the one before"
            ) from error
        self.completed, self.bad_steps = state["step"], state["bad_steps"]
