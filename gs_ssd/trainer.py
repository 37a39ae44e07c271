"""A job in a folder: it resumes, and leaves metrics, previews, checkpoints and results there as it
goes."""

import contextlib
import logging
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from gs_ssd import config as configs
from gs_ssd import interrupts
from gs_ssd.assets.base import Asset
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.events import Event, Finished, Previewed, Saved, Stepped, Stopped, Trained
from gs_ssd.files import sweep
from gs_ssd.guidance.estimators import Estimator
from gs_ssd.interrupts import Interrupted
from gs_ssd.job import Job
from gs_ssd.locks import held, refuse_if_lost
from gs_ssd.memory import Gauge
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior import load as load_prior
from gs_ssd.render import device as rendering_device
from gs_ssd.render.step_pictures import collage
from gs_ssd.run import boards, provenance, results
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.run.checkpoint import Checkpoint
from gs_ssd.run.folder import clear, remove_after, set_aside
from gs_ssd.run.metrics import Recorder
from gs_ssd.run.pictures import pictures, write_sheet
from gs_ssd.run.process_video import ProcessVideo

log = logging.getLogger(__name__)

UNLIKE_SETTINGS = ("num_steps", "device", "output.")
"""What may change in a resumed run without making another asset."""
OF_THE_END = ("finish.", "nerf.conversion.", "avatar.shown")
"""What is done after the last step: it may change when no step is left."""


class Trainer:
    """Distills a prompt into an asset, in a folder of its own.

    `fit` does all of it. `events` does the same one event at a time, for callers with a loop of
    their own (a live page, a batch worker); `step` takes a single step and writes nothing.

    Args:
        config: the experiment.
        folder: where results go; it must not hold another run, unless this one resumes or
            overwrites it.
        resume: continue from the folder's newest checkpoint.
        overwrite: start from scratch; what another run left in the folder is deleted when this one
            writes its first file.
        prior: one that is loaded already (library use, many jobs in one process); by default the
            config's.
        asset: one of your own, in place of the config's.
        estimator: a function of your own in place of `guidance.estimator` (see docs/library.md).
        anyway: try a prompt that the prior does not know.

    Raises:
        UserError: a folder with another run's checkpoints, a config that a component refuses, an
            unknown prompt, a device or file that is not there.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path | str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        prior: DiffusionPrior | None = None,
        asset: Asset | None = None,
        estimator: Estimator | None = None,
        anyway: bool = False,
    ) -> None:
        self.config = config
        self.folder, self.makes_room = Path(folder), overwrite and not resume
        self.checkpoints = self.folder / "checkpoints"
        if not resume and not overwrite and checkpoints.listing(self.checkpoints):
            # This run's own, of fewer steps, would be pruned beside them, and a resume would take
            # the other run's.
            raise UserError(
                f"{self.folder} holds the checkpoints of a run already; resume it (resume=True),"
                " replace it (overwrite=True), or choose another folder"
            )
        boards.check(tensorboard=config.output.tensorboard, wandb=config.output.wandb)
        device = rendering_device.choose(config.device)
        self.memory = Gauge(device)
        self.estimator_name = (
            config.guidance.estimator if estimator is None else provenance.name_of(estimator)
        )
        if resume:
            provenance.refuse_another_estimator(self.folder, self.estimator_name)
        self._newest = checkpoints.latest(self.checkpoints) if resume else None
        saved = None if self._newest is None else checkpoints.load(self._newest)
        if saved is not None and saved.step > config.num_steps:
            raise UserError(
                f"{self._newest} holds {saved.step} steps, which num_steps={config.num_steps} "
                "cannot take back; name at least as many, or begin a run in another folder"
            )
        loaded = load_prior(config.prior, device) if prior is None else prior
        state = None if saved is None else saved.state
        self.job = Job(config, loaded, asset=asset, estimator=estimator, anyway=anyway, state=state)
        if prior is None:
            self.job.prior.release_text_encoder()  # every prompt is embedded by now
        differs = [] if saved is None else self._say_what_differs(saved)
        self._ends_otherwise = any(key.startswith(OF_THE_END) for key in differs)
        self._stop_wanted = False

    @property
    def asset(self) -> Asset:
        """What is optimized, as it is now."""
        return self.job.asset

    @property
    def completed(self) -> int:
        """Steps so far."""
        return self.job.completed

    @property
    def resolved(self) -> ExperimentConfig:
        """The config with its open settings (null) as the estimator, the prior and the ranges have
        filled them."""
        return self.job.resolved.experiment

    def step(self) -> Stepped:
        """Take the next step, and write nothing."""
        return self.job.step()

    def stop(self) -> None:
        """Ask the run to save itself and end after the current step; may be called from
        anywhere."""
        self._stop_wanted = True

    @property
    def stopping(self) -> bool:
        """Whether it has been asked to stop."""
        return self._stop_wanted

    def fit(
        self, *, until: int | None = None, listeners: Sequence[Callable[[Event], None]] = ()
    ) -> list[Path]:
        """Train to the end (or until `until` steps are complete), then write the results; returns
        their paths.

        Every listener is told every event. Ctrl-C, SIGTERM and SIGHUP stop the run after the step
        at hand.

        Raises:
            Interrupted: the run was stopped; a checkpoint has been written.
            UserError: the disk is full, the gradient is not finite, nothing is left to optimize.
        """
        paths: tuple[Path, ...] = ()
        with (
            contextlib.ExitStack() as signals,
            contextlib.closing(self.events(until=until)) as events,
        ):
            received = signals.enter_context(interrupts.collected(self.stop))
            for event in events:
                for listener in listeners:
                    listener(event)
                if isinstance(event, Trained):
                    # from here on Ctrl-C ends the process: a checkpoint has everything
                    signals.close()
                elif isinstance(event, Stopped):
                    raise Interrupted(received[0] if received else signal.SIGINT, event.completed)
                elif isinstance(event, Finished):
                    paths = event.paths
        return list(paths)

    def events(self, *, until: int | None = None) -> Generator[Event, None, None]:
        """Train, and say what happened: steps, previews and checkpoints as they come.

        The last event is `Finished` (after `Trained`) or `Stopped`.

        A caller that leaves the iteration before its end leaves no checkpoint of the steps since
        the last one. Until it ends the folder is locked against other runs.
        """
        with held(self.folder, "a run"):
            sweep(self.folder)
            self._refuse_if_overtaken()
            yield from self._events(until)

    def _events(self, until: int | None) -> Iterator[Event]:
        config, output, job = self.config, self.config.output, self.job
        last = config.num_steps if until is None else min(until, config.num_steps)
        self._make_room()
        self._begin_where_it_stands(last)
        # Before this run writes anything: where a board refuses, nothing of it stays behind.
        opened = boards.open_boards(
            self.folder,
            job.completed,
            configs.to_mapping(config),
            tensorboard=output.tensorboard,
            wandb=output.wandb,
        )
        configs.save(config, self.folder / "config.yaml")
        settings, done = (config, self.resolved), job.completed
        provenance.write(
            self.folder, job.device, job.prior, self.estimator_name, settings, completed=done
        )
        cameras, size = self.output_cameras, output.turntable_size
        video = ProcessVideo(self.folder, cameras, output.process_frames, size, config.num_steps)
        with Recorder(self.folder, job.completed, config.num_steps, opened) as recorder:
            for event in job.steps(last):
                if event.completed % output.log_every == 0 or event.completed == last:
                    cost = {
                        "seconds_per_step": event.seconds,
                        "peak_memory_mib": self.memory.peak_mib,
                    }
                    recorder.log({**event.metrics, **cost})
                recorder.advance(job.asset.counts(), event.seconds)
                yield event
                # The frame and the sheet of this step come before a stop: no resumed run passes
                # here again.
                video.take(event.completed, job.asset)
                if job.preview_is_due(event.completed):
                    yield Previewed(event.completed, self._write_preview(event, recorder))
                if self._stop_wanted:
                    recorder.sync()
                    yield Saved(event.completed, self.save())
                    yield self._stopped()
                    return
                if output.checkpoint_every and event.completed % output.checkpoint_every == 0:
                    recorder.sync()
                    yield Saved(event.completed, self.save())
        yield from self._end(last, video)

    def _end(self, last: int, video: ProcessVideo) -> Iterator[Event]:
        """After the last step of this call: the checkpoint; where it was the run's last, the finish
        and the results."""
        job = self.job
        where = (
            "allocated on the GPU"
            if job.device.type == "cuda"
            else "of the process, beyond what its imports hold"
        )
        log.info("peak memory: %d MiB (%s)", self.memory.peak_mib, where)
        if not job.finished:
            yield Saved(job.completed, self.save())
        if self._stop_wanted:
            yield self._stopped()
            return
        yield Trained(job.completed)
        if job.completed < self.config.num_steps:
            yield Finished(job.completed, ())
            return
        if job.bad_steps:
            log.warning(
                "%d of %d steps had a gradient that was not finite and were skipped",
                job.bad_steps,
                last,
            )
        job.finish()
        refuse_if_lost(self.folder)
        yield Finished(job.completed, (*self.write_results(), *video.write()))

    def _stopped(self) -> Stopped:
        self._stop_wanted = False
        return Stopped(self.job.completed)

    def save(self) -> Path:
        """Write a checkpoint of the steps completed so far."""
        self._make_room()
        refuse_if_lost(self.folder)
        state = Checkpoint(configs.to_mapping(self.config), self.job.state_dict())
        keep = self.config.output.keep_checkpoints
        self._newest = checkpoints.save(state, self.checkpoints, keep=keep)
        return self._newest

    def _make_room(self) -> None:
        """Delete the run that this one overwrites: once, and after all that could have refused this
        one."""
        if self.makes_room:
            clear(self.folder)
            self.makes_room = False

    def _refuse_if_overtaken(self) -> None:
        """Another run may have been here since this one looked: it had no lock until now.

        Raises:
            UserError: the newest checkpoint is not the one that this run continues from.
        """
        found = checkpoints.listing(self.checkpoints)
        if not self.makes_room and found[-1:] != [path for path in (self._newest,) if path]:
            raise UserError(
                f"another run was in {self.folder} since this one was set up; set it up again to "
                "continue from that one's checkpoint, or choose another folder"
            )

    def _begin_where_it_stands(self, last: int) -> None:
        """Nothing of an earlier end, or of steps beyond the checkpoint, lies beside what this run
        writes."""
        completed = self.job.completed
        others = completed < last or self._ends_otherwise
        aside = set_aside(self.folder, completed) if others else None
        if aside is not None:
            log.warning("the results so far are in %s now", aside)
        remove_after(self.folder, completed)

    def _say_what_differs(self, saved: Checkpoint) -> list[str]:
        """Every setting that is not the checkpoint's, by its dotted name.

        Raises:
            UserError: no step is left that would be taken with the new ones.
        """
        try:
            before = configs.from_mapping(saved.config, "the checkpoint")
        except UserError as error:  # written by an older version, whose settings had other names
            log.warning(
                "resuming with settings that cannot be compared with the run's own (%s)", error
            )
            return []
        differences = configs.differences(before, self.config)
        harmless = (*UNLIKE_SETTINGS, *OF_THE_END, "prior.")  # weights may lie elsewhere now
        others = [
            key for key in differences if key == "prior.variety" or not key.startswith(harmless)
        ]
        if others and saved.step == self.config.num_steps:
            raise UserError(
                f"{self.folder} has taken all {saved.step} steps with another {', '.join(others)};"
                " name more num_steps, leave that as it was, or begin a run in another folder"
            )
        for key, (old, new) in differences.items():
            log.warning(
                "resuming with %s=%s (it was %s): not the numbers of one uninterrupted run",
                key,
                new,
                old,
            )
        return list(differences)

    @property
    def output_cameras(self) -> results.OutputCameras:
        """The cameras of pictures and videos."""
        resolved = self.job.resolved
        return results.OutputCameras(resolved.polar_rad, resolved.radius, resolved.fov_y_rad)

    def _write_preview(self, event: Stepped, recorder: Recorder) -> tuple[Path, ...]:
        """Contact sheets of eight views of the asset as it is now, and of what guidance saw in the
        step."""
        refuse_if_lost(self.folder)
        folder = self.folder / "previews"
        views = pictures(self.asset, self.output_cameras.ring(8, 128))
        sheets = {folder / f"step_{event.completed:06d}.png": ("views", [views[:4], views[4:]])}
        if event.pictures is not None:
            sheet = collage(event.pictures)
            sheets[folder / f"guidance_{event.completed:06d}.png"] = ("guidance", [sheet[None]])
        for path, (name, rows) in sheets.items():
            sheet = write_sheet(path, rows)
            recorder.show(
                name, sheet, event.completed - 1
            )  # as the numbers: by the step that was taken last
        return tuple(sheets)

    def write_results(self) -> list[Path]:
        """The asset's own files, the video, the contact sheet and the test views."""
        output = self.config.output
        return results.write_all(
            self.folder,
            self.asset,
            self.output_cameras,
            title=self.config.prompt,
            frames=output.turntable_frames,
            size=output.turntable_size,
            depth=output.depth,
            test_views=output.test_views,
        )
