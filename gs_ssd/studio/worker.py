"""The process that trains one run: `python -m gs_ssd.studio.worker`, started by the server alone.

It loads what most runs need while it waits for its one job, and then tells what happens as it
happens. When the server goes, however it goes, the run is saved and ends: no orphan stays behind.

Out: `began`, `step`, `frame` (with the splats' bytes, only while somebody looks),
`previewed`, `saved`, `paused`, `ended` (`outcome`: done, stopped or failed; `message`), `log`.
In: `job`, then `watch`, `pause`, `snapshot`, `stop`.
"""

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from gs_ssd import config as configs
from gs_ssd import memory
from gs_ssd.errors import UserError
from gs_ssd.events import Event, Finished, Previewed, Saved, Stepped, Stopped
from gs_ssd.export.ply import write_ply
from gs_ssd.locks import held
from gs_ssd.studio import stream
from gs_ssd.studio.channel import Channel
from gs_ssd.studio.runs import SNAPSHOT

log = logging.getLogger(__name__)

SHARE = 1 / 30  #: of the time may go into showing; what that displaces from caches costs as much
FRAME_S, STEP_S = 0.4, 0.2  #: the least time between two frames, two messages about steps
PAUSE_S = 0.2  #: in a pause, between two looks at whether it was interrupted
MOST_SHOWN = 100_000  #: splats in a frame


class Steering:
    """What the server wants of a run, as it last said so."""

    def __init__(self) -> None:
        self.watched = self.paused = self.stopping = self.snapshot = False
        self.changed = threading.Condition()

    def take(self, wish: dict[str, Any]) -> None:
        """One wish of the server's."""
        with self.changed:
            self.watched = wish.get("watch", self.watched)
            self.paused = wish.get("pause", self.paused)
            self.snapshot |= bool(wish.get("snapshot"))
            self.stopping |= bool(wish.get("stop"))
            self.changed.notify_all()

    def follow(self, channel: Channel) -> None:
        """Take wishes until the server is gone, which is the wish to stop."""
        while (message := channel.receive()) is not None:
            self.take(message[0])
        self.take({"stop": True})


class Reporter:
    """Tells the server what happens in the run, and shows it, at most `SHARE` of the time."""

    def __init__(self, channel: Channel, steering: Steering, trainer: Any) -> None:
        self.channel, self.steering, self.trainer = channel, steering, trainer
        self._next_frame = self._next_step = 0.0
        self.shown = -1

    def tell(self, event: Event) -> None:
        """One event of the trainer's."""
        folder = self.trainer.folder
        if isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Previewed):
            names = [path.relative_to(folder).as_posix() for path in event.paths]
            self._send("previewed", completed=event.completed, files=names)
        elif isinstance(event, Saved):
            self._send("saved", completed=event.completed)

    def _step(self, event: Stepped) -> None:
        now = time.monotonic()
        if now >= self._next_step or event.completed == self.trainer.config.num_steps:
            self._next_step = now + STEP_S
            self._send(
                "step",
                completed=event.completed,
                seconds=event.seconds,
                counts=self.trainer.asset.counts(),
                loss=_number(event.metrics.get("grad_norm")),
            )
        if self.steering.watched and now >= self._next_frame:
            self._frame(event.completed)

    def _frame(self, completed: int) -> None:
        began = time.monotonic()
        try:
            splats = self.trainer.asset.splats()
        except UserError:  # a field that is not solid anywhere yet
            splats = None
        if splats is not None and len(splats):
            about = {"completed": completed}
            data = stream.to_bytes(splats, at_most=MOST_SHOWN, about=about)
            self.channel.send({"event": "frame", "completed": completed}, data)
        cost = time.monotonic() - began
        self.shown = completed
        self._next_frame = began + cost + max(FRAME_S, cost / SHARE)

    def between_steps(self) -> None:
        """What was asked for meanwhile: a snapshot, a pause."""
        steering = self.steering
        if steering.paused and not (steering.stopping or self.trainer.stopping):
            self._send("paused", completed=self.trainer.completed)
        while True:
            if steering.snapshot:
                steering.snapshot = False
                self._snapshot()
            if steering.paused and steering.watched and self.shown != self.trainer.completed:
                self._frame(self.trainer.completed)
            with steering.changed:
                if steering.stopping or not steering.paused or self.trainer.stopping:
                    return
                steering.changed.wait(timeout=PAUSE_S)

    def _snapshot(self) -> None:
        """Write what there is now to a file, for an export in the middle of a run.

        What forbids it is the asker's to hear; the run goes on."""
        fault = ""
        try:
            splats = self.trainer.asset.splats()
            if splats is not None:
                write_ply(self.trainer.folder / SNAPSHOT, splats.to_frame("inria"))
        except UserError as error:  # a field that is not solid anywhere yet, a full disk
            fault = str(error)
        self._send("snapshot", completed=self.trainer.completed, fault=fault)

    def _send(self, event: str, **more: Any) -> None:
        self.channel.send({"event": event, **more})


class _Notes(logging.Handler):
    """Warnings go to the page too: they say what of a prompt or a setting does nothing."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("gs_ssd"):
            self._channel.send({"event": "log", "message": record.getMessage()})


def train(job: dict[str, Any], channel: Channel, steering: Steering) -> str:
    """Train the job to its end; returns the outcome: done or stopped.

    Raises:
        UserError: anything that the user can fix.
    """
    from gs_ssd.trainer import Trainer

    folder = Path(job["folder"])
    config = configs.from_mapping(job["settings"], "the job")
    with held(folder, "gs-ssd studio"), memory.explained():
        trainer = Trainer(config, folder, resume=job["resume"], anyway=job["anyway"])
        reporter = Reporter(channel, steering, trainer)
        channel.send({"event": "began", "completed": trainer.completed})
        for event in trainer.events():
            reporter.tell(event)
            if isinstance(event, Stopped):
                return "stopped"
            if isinstance(event, Finished):
                return "done"
            reporter.between_steps()
            if steering.stopping:
                trainer.stop()
    return "done"


def main() -> None:
    """Wait for a job, and do it."""
    channel, steering = Channel(os.dup(0), os.dup(1)), Steering()
    os.dup2(2, 1)  # what a library prints must not come among the messages
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then says so
    signal.signal(signal.SIGTERM, lambda *_: setattr(steering, "stopping", True))
    if not channel.has_message():
        _warm_up()
    message = channel.receive()
    if message is None:
        return
    logging.getLogger().addHandler(_Notes(channel))
    threading.Thread(target=steering.follow, args=(channel,), daemon=True).start()
    try:
        outcome, text = train(message[0]["job"], channel, steering), ""
    except UserError as error:
        outcome, text = "failed", str(error)
    except OSError as error:
        outcome, text = "failed", f"{error.filename or 'a file'}: {error.strerror or error}"
    except Exception as error:
        log.exception("the run ended with a fault of the program")
        first = (str(error).splitlines() or [""])[0]
        outcome, text = "failed", f"a fault of the program: {type(error).__name__}: {first}"
    channel.send({"event": "ended", "outcome": outcome, "message": text})


def _warm_up() -> None:
    """Import what a run on a model imports: seconds that nobody then waits for."""
    import gs_ssd.prior.pipelines
    import gs_ssd.prior.volume_prior
    import gs_ssd.trainer  # noqa: F401


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


if __name__ == "__main__":
    main()
