"""Floor 6: the loop. `Trainer.step` is the method on one screen; the rest saves, shows and ends well."""

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gs_ssd import config as configs
from gs_ssd import devices, finish, interrupts
from gs_ssd.config import ExperimentConfig
from gs_ssd.densify import choice, surgery
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError
from gs_ssd.guidance.distill import Distillation, DistillationResult
from gs_ssd.guidance.estimators import Estimator
from gs_ssd.interrupts import Interrupted
from gs_ssd.maths import anneal
from gs_ssd.memory import Gauge
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior import load as load_prior
from gs_ssd.render import augment, regularizers
from gs_ssd.render.renderer import disparity, render, shrink
from gs_ssd.run import boards, provenance, results
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.run.checkpoint import Checkpoint
from gs_ssd.run.folder import clear
from gs_ssd.run.metrics import Recorder
from gs_ssd.run.pictures import pictures, write_sheet
from gs_ssd.run.process_video import ProcessVideo
from gs_ssd.run.step_pictures import StepPictures, collage
from gs_ssd.scene import optimizers, viewpoints
from gs_ssd.scene.gaussians import PARAMETERS, Gaussians
from gs_ssd.start import first_gaussians

log = logging.getLogger(__name__)

Watch = Callable[[int, Gaussians, Mapping[str, Any], Sequence[int]], bool]
"""Told after each step its number, the splat, the metrics and the signals received so far; True ends the run as
Ctrl-C does."""

SETUP_STREAM = -1
"""Stands for the step in the generator of everything that is drawn before the first one."""


def generator_at(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step. On the CPU whatever the device: the same run anywhere draws the same numbers."""
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 2) * 0xBF58476D1CE4E5B9) & 0x7FFF_FFFF_FFFF_FFFF
    return torch.Generator().manual_seed(mixed)


class Trainer:
    """Distills a prompt into Gaussians, in a folder of its own.

    Args:
        config: the experiment.
        folder: where results go; it must not hold another run, unless this one resumes or overwrites it.
        resume: continue from the folder's newest checkpoint.
        overwrite: begin afresh; what another run left in the folder is deleted when this one writes its first file.
        prior: one that is loaded already (library use); by default the config's.
        estimator: a function of your own in place of `guidance.estimator` (see docs/library.md).
        anyway: try a prompt that the prior does not know.

    Raises:
        UserError: a folder with another run's checkpoints, a config that a component refuses, an unknown prompt, a
            device or file that is not there.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path | str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        prior: DiffusionPrior | None = None,
        estimator: Estimator | None = None,
        anyway: bool = False,
    ) -> None:
        self.folder, self.makes_room = Path(folder), overwrite and not resume
        if not resume and not overwrite and checkpoints.listing(self.folder / "checkpoints"):
            # This run's own, of fewer steps, would be pruned beside them, and a resume would take the other run's.
            raise UserError(
                f"{self.folder} holds the checkpoints of a run already; resume it (resume=True), replace it "
                "(overwrite=True), or choose another folder"
            )
        self.device = devices.choose(config.device)
        self.memory = Gauge(self.device)
        self.prior = load_prior(config.prior, self.device) if prior is None else prior
        self.config = config
        self.estimator_name = config.guidance.estimator if estimator is None else provenance.name_of(estimator)
        if resume:
            provenance.refuse_another_estimator(self.folder, self.estimator_name)
        boards.check(tensorboard=config.output.tensorboard, wandb=config.output.wandb)
        self.viewpoints = viewpoints.resolve(config.viewpoints, self.prior.metadata, self.prior.image_size)
        self.distillation = Distillation(
            config.guidance,
            self.prior,
            config.prompt,
            num_steps=config.num_steps,
            anyway=anyway,
            estimator=estimator,
        )
        if prior is None:
            self.prior.release_text_encoder()  # every prompt is embedded by now
        self.policy = choice.create(config.densify)
        self.next_step = 0
        self.step_pictures: StepPictures | None = None
        self.bad_steps = self.bad_steps_in_a_row = 0
        self.finished = False
        if resume:
            self._restore(checkpoints.load(checkpoints.latest(self.folder / "checkpoints")))
        else:
            gaussians = first_gaussians(config, generator_at(config.seed, SETUP_STREAM), self.device).to(self.device)
            gaussians.requires_grad_()
            self.patient = surgery.Patient(gaussians, optimizers.build(gaussians, config.optimizer))
        self.policy.begin(self.patient)

    @property
    def gaussians(self) -> Gaussians:
        """The splat as it is now."""
        return self.patient.gaussians

    @property
    def resolved(self) -> ExperimentConfig:
        """The config with its open settings (null) as the estimator, the prior and the ranges have filled them."""
        return provenance.resolved(self.config, self.prior, self.distillation, self.viewpoints, self.output_cameras)

    def step(self, step: int) -> dict[str, Any]:
        """One iteration: look, distill, regularize, move, operate. Returns what is worth logging."""
        config, patient, generator = self.config, self.patient, generator_at(self.config.seed, step)
        progress = anneal.progress(step, config.num_steps)
        optimizers.set_learning_rates(patient.optimizer, config.optimizer, progress)

        on_host = viewpoints.sample(self.viewpoints, step, config.num_steps, generator)
        cameras = on_host.to(self.device)
        background = to_device(augment.backgrounds(config.augment, len(cameras), generator), self.device)
        scales = augment.noisy_scales(patient.gaussians.scales, config.augment, generator)
        output = render(patient.gaussians, cameras, background, scales=scales)

        near = disparity(output.depth, output.alpha, cameras.tan_half_fov)
        rgb, depth = (shrink(picture, self.prior.image_size) for picture in (output.rgb, near))
        guided = self.distillation.step(rgb, on_host, step, generator, depth=depth)
        if self._preview_is_due(step + 1):
            seen, alpha = output.rgb.detach(), output.alpha.detach()
            self.step_pictures = StepPictures(seen, near.detach(), alpha, guided.preview(), guided.gradient)
        terms = regularizers.backward(
            guided.loss, output, patient.gaussians, cameras.tan_half_fov, config.regularize, progress
        )
        done: dict[str, int] = {}
        if self._is_sound(guided, step):
            patient.optimizer.step()
            optimizers.project(patient.gaussians, config.optimizer, progress)
            self.policy.observe(patient, output.screen_gradient, output.radii > 0)
            done = self.policy.refine(patient, surgery.Moment(step, config.num_steps, generator))
        patient.optimizer.zero_grad(set_to_none=True)
        if len(patient) == 0:
            raise UserError(
                f"no splats are left after step {step + 1}: all were pruned; lower densify.adaptive.prune_opacity or "
                "regularize.opacity (the last checkpoint is intact)"
            )
        return {
            "step": step,
            "num_splats": len(patient),
            "grad_norm": guided.grad_norm,
            "t": guided.t,
            "unet_images": guided.unet_images,
            "alpha_mean": output.alpha.detach().mean(),
            "bad_steps": self.bad_steps,
            **terms,
            **done,
        }

    def _is_sound(self, guided: DistillationResult, step: int) -> bool:
        """Skip and count a step with NaN or infinity; give up after too many in a row, with the checkpoint intact."""
        gradients = [tensor.grad for tensor in self.gaussians.parameters().values() if tensor.grad is not None]
        sound = [gradient.isfinite().all() for gradient in gradients]
        if bool(torch.stack([*sound, guided.bad_latents == 0, guided.bad_predictions == 0]).all()):
            self.bad_steps_in_a_row = 0
            return True
        self.bad_steps += 1
        self.bad_steps_in_a_row += 1
        culprit, mend = "the gradient", "smaller learning rates"
        if guided.bad_latents > 0:
            culprit, mend = "what the VAE encoded", "prior.vae_dtype=float32, as half precision overflows"
        elif guided.bad_predictions > 0:
            culprit, mend = "the prior's noise prediction", "prior.dtype=bfloat16 or float32"
        if self.bad_steps_in_a_row >= max(self.config.max_bad_steps, 1):
            raise UserError(
                f"{culprit} was not finite in {self.bad_steps_in_a_row} steps in a row (now {step + 1}); try {mend} "
                "(the last checkpoint is intact)"
            )
        log.warning("step %d: %s is not finite; skipped (%d so far)", step + 1, culprit, self.bad_steps)
        return False

    def fit(self, *, until: int | None = None, watch: Watch | None = None) -> list[Path]:
        """Train to the end (or until `until` steps are complete), then write the results; returns their paths.

        `watch`, a live view, is called after every step and may end the run.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came; a checkpoint has been written.
            UserError: the disk is full, the gradient is not finite, no splats are left.
        """
        config, last = self.config, self.config.num_steps if until is None else min(until, self.config.num_steps)
        self._make_room()
        output = config.output
        # Before this run writes anything: where a board refuses, nothing of it stays behind.
        opened = boards.open_boards(
            self.folder, self.next_step, configs.to_mapping(config), tensorboard=output.tensorboard, wandb=output.wandb
        )
        configs.save(config, self.folder / "config.yaml")
        settings, resumed = (config, self.resolved), self.next_step > 0
        provenance.remember(self.folder, self.device, self.prior, self.estimator_name, settings, resumed=resumed)
        video = ProcessVideo(
            self.folder, self.output_cameras, output.process_frames, output.turntable_size, config.num_steps
        )
        recorder = Recorder(self.folder, self.next_step, config.num_steps, opened)
        with recorder, interrupts.collected() as received:
            while self.next_step < last:
                started = time.perf_counter()
                metrics = self.step(self.next_step)
                self.next_step += 1
                seconds = time.perf_counter() - started
                if self.next_step % output.log_every == 0 or self.next_step == last:
                    cost = {"seconds_per_step": seconds, "peak_memory_mib": self.memory.peak_mib}
                    recorder.log({**metrics, **cost})
                recorder.advance(len(self.patient), seconds)
                if watch is not None and watch(self.next_step - 1, self.gaussians, metrics, received):
                    received.append(signal.SIGINT)
                video.take(self.next_step, self.gaussians)
                if self._preview_is_due(self.next_step):
                    self.preview(recorder)
                if received:  # after the frame and the sheet of this step, which no resumed run comes by again
                    self.save()
                    raise Interrupted(received[0], self.next_step)
                if output.checkpoint_every and self.next_step % output.checkpoint_every == 0:
                    self.save()
        where = "allocated on the GPU" if self.device.type == "cuda" else "of the process, beyond what its imports hold"
        log.info("peak memory: %d MiB (%s)", self.memory.peak_mib, where)
        if not self.finished:
            self.save()
        if self.next_step < config.num_steps:
            return []
        if self.bad_steps:
            log.warning("%d of %d steps had a gradient that was not finite and were skipped", self.bad_steps, last)
        self.harden()
        return [*self.write_results(), *video.write()]

    def harden(self) -> None:
        """Harden the outlines, once. The checkpoint keeps what guidance left; resuming comes by here again."""
        if self.finished or self.config.finish.steps == 0:
            return
        ranges = viewpoints.first_ranges(self.viewpoints)
        generator = generator_at(self.config.seed, self.config.num_steps)
        log.info("finishing: %d steps without the prior", self.config.finish.steps)
        orbit = finish.Orbit(ranges.radius, ranges.fov_rad)
        hard = finish.harden(self.gaussians, self.config.finish, orbit, generator).requires_grad_()
        self.patient = surgery.Patient(hard, optimizers.build(hard, self.config.optimizer))
        self.finished = True

    def save(self) -> Path:
        """Write a checkpoint of the steps completed so far."""
        self._make_room()
        state = checkpoints.capture(
            self.next_step,
            configs.to_mapping(self.config),
            self.gaussians,
            self.patient.optimizer,
            self.patient.statistics,
            {"bad_steps": self.bad_steps, "guidance": self.distillation.state_dict()},
        )
        return checkpoints.save(state, self.folder / "checkpoints", keep=self.config.output.keep_checkpoints)

    def _make_room(self) -> None:
        """Delete the run that this one overwrites: once, and after all that could have refused this one."""
        if self.makes_room:
            clear(self.folder)
            self.makes_room = False

    def _restore(self, state: Checkpoint) -> None:
        gaussians = Gaussians(**{name: state.parameters[name] for name in PARAMETERS}).to(self.device)
        gaussians.requires_grad_()
        optimizer = optimizers.build(gaussians, self.config.optimizer)
        checkpoints.restore_optimizer(state, gaussians, optimizer)
        statistics = {name: value.to(self.device) for name, value in state.statistics.items()}
        self.patient = surgery.Patient(gaussians, optimizer, statistics)
        self.next_step = state.step
        self.bad_steps = state.extra["bad_steps"]
        self.distillation.load_state_dict(state.extra["guidance"])
        before = configs.from_mapping(state.config, "the checkpoint")
        for key, (old, new) in configs.differences(before, self.config).items():
            log.warning("resuming with %s=%s (it was %s): not the numbers of one uninterrupted run", key, new, old)

    def _preview_is_due(self, completed: int) -> bool:
        every = self.config.output.preview_every
        return every > 0 and completed % every == 0

    @property
    def output_cameras(self) -> results.OutputCameras:
        """Where the showing cameras stand: the config's, else the middle of the first step's ranges."""
        polar, radius, fov = viewpoints.centre(self.viewpoints)
        output = self.config.output
        return results.OutputCameras(
            tuple(math.radians(angle) for angle in output.polar_deg) if output.polar_deg else (polar,),
            radius if output.radius is None else output.radius,
            fov if output.fov_y_deg is None else math.radians(output.fov_y_deg),
        )

    def preview(self, recorder: Recorder | None = None) -> Path:
        """A contact sheet of eight views as the splat is now, and what the last step saw, if it was kept."""
        folder = self.folder / "previews"
        views = pictures(self.gaussians, self.output_cameras.ring(8, 128))
        path = folder / f"step_{self.next_step:06d}.png"
        sheets = {path: ("views", [views[:4], views[4:]])}
        if self.step_pictures is not None:
            seen = collage(self.step_pictures)
            sheets[folder / f"guidance_{self.next_step:06d}.png"] = ("guidance", [seen[None]])
            self.step_pictures = None
        for file, (name, rows) in sheets.items():
            sheet = write_sheet(file, rows)
            if recorder is not None:
                recorder.show(name, sheet, self.next_step - 1)  # as the numbers: by the step that was taken last
        return path

    def write_results(self) -> list[Path]:
        """The splat, the page, the video, the contact sheet and the test views."""
        output = self.config.output
        return results.write_all(
            self.folder,
            self.gaussians.detach(),
            self.output_cameras,
            title=self.config.prompt,
            frames=output.turntable_frames,
            size=output.turntable_size,
            depth=output.depth,
            test_views=output.test_views,
        )
