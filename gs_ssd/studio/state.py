"""What is known of a run beyond its folder, and how a journal is read back."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from gs_ssd.studio.runs import Facts
from gs_ssd.studio.worker_process import WorkerProcess

WAITING, ACTIVE = ("queued",), ("starting", "running", "paused", "stopping", "finishing")
SMOOTH = 0.2  #: weight of the newest step in the mean time of a step
ATTEMPTS = 3
"""How often a job is taken up by itself after its worker or the server died."""
MOST_NOTES = 20
MOST_PREVIEWS = 200  #: names that are told, the newest


@dataclasses.dataclass
class Live:
    """One run's part in the queue."""

    state: str = ""
    """queued, starting, running, paused, finishing, stopping; or failed, interrupted; or nothing:
    the folder says all."""
    anyway: bool = True
    """Try a prompt that the prior does not know; a run that was begun has passed that check."""
    message: str = ""
    notes: tuple[str, ...] = ()
    completed: int = 0
    num_steps: int = 0
    step_seconds: float = 0.0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    starred: bool = False
    attempts: int = 0
    source: dict[str, Any] | None = None
    """The run and the checkpoint that this one was forked from."""
    frame: bytes = b""
    frame_number: int = 0
    watched: bool = False
    watched_until: float = 0.0
    worker: WorkerProcess | None = None

    def begin(self) -> None:
        """A worker takes it up."""
        self.state, self.message, self.notes = "starting", "", ()
        self.completed, self.step_seconds, self.frame = 0, 0.0, b""
        self.attempts += 1

    def receive(self, message: dict[str, Any], data: bytes) -> None:
        """One message of the worker's."""
        event = message.get("event")
        if event == "began":
            self.completed = message["completed"]
            self.state = "running" if self.state == "starting" else self.state
        elif event == "step":
            self._step(message)
        elif event == "frame":
            self.frame, self.frame_number = data, self.frame_number + 1
        elif event == "snapshot":
            self.completed = message["completed"]
        elif event == "paused":
            self.completed = message["completed"]
            self.state = "paused" if self.state == "running" else self.state
        elif event == "log" and len(self.notes) < MOST_NOTES:
            self.notes = (*self.notes, str(message["message"]))

    def _step(self, message: dict[str, Any]) -> None:
        mean, last = self.step_seconds, message["seconds"]
        self.step_seconds = last if not mean else mean + SMOOTH * (last - mean)
        self.completed, self.counts = message["completed"], message["counts"]
        if self.completed >= self.num_steps and self.state == "running":
            self.state = "finishing"


def recall(lines: Iterable[dict[str, Any]]) -> tuple[dict[str, Live], list[str]]:
    """The runs as a journal leaves them, and the names of those that wait, in their order.

    What had been started and not ended is `interrupted`.
    """
    live: dict[str, Live] = {}
    waiting: dict[str, None] = {}
    for line in lines:
        name, event = line["run"], line.get("event")
        run = live.setdefault(name, Live())
        if event != "starred" and event != "unstarred":
            waiting.pop(name, None)
        if event == "queued":
            waiting[name] = None
            run.state, run.anyway = "queued", bool(line.get("anyway", True))
            source = line.get("source")
            run.source = source if isinstance(source, dict) else run.source
        elif event == "started":
            attempt = line.get("attempt")
            run.state, run.attempts = "interrupted", attempt if isinstance(attempt, int) else 1
        elif event in ("starred", "unstarred"):
            run.starred = event == "starred"
        elif event in ("thrown away", "restored"):
            live[name] = Live(starred=run.starred)
        elif event in ("done", "stopped"):
            run.state, run.attempts = "", 0
        elif event in ("failed", "interrupted"):
            run.state, run.message = event, str(line.get("message", ""))
    return live, list(waiting)


def after(outcome: str, message: str, attempts: int, *, closing: bool) -> tuple[str, str]:
    """What becomes of a run whose worker has ended: the event for the journal, and what is said.

    Args:
        outcome: done, stopped, failed or died.
        attempts: that have been made.
        closing: the server ends; nothing is taken up any more.
    """
    if outcome == "died" and not closing:
        if attempts < ATTEMPTS:
            return "queued", f"{message}; it continues by itself (attempt {attempts + 1})"
        return "failed", f"{message}, {attempts} times"
    if closing and outcome in ("died", "stopped"):  # by nobody's wish
        return "interrupted", message
    return outcome, message


def describe(name: str, live: Live, facts: Facts, state: str, place: int | None) -> dict[str, Any]:
    """All that the page shows of a run, as plain values.

    Args:
        state: as the queue sees it.
        place: in the queue, from 0; None: it does not wait.
    """
    active = state in ACTIVE
    completed = max(live.completed, facts.completed) if active else facts.completed
    num_steps = facts.setting("num_steps")
    left = max((num_steps if isinstance(num_steps, int) else 0) - completed, 0)
    prompt = facts.setting("prompt")
    counts = {key: n for key, n in facts.metrics.items() if key.startswith("num_")}
    return {
        "name": name,
        "prompt": prompt if isinstance(prompt, str) and prompt.strip() else name,
        "state": state,
        "message": live.message,
        "notes": live.notes,
        "position": place,
        "completed": completed,
        "num_steps": num_steps,
        "seconds_left": left * live.step_seconds if active and live.step_seconds else None,
        "counts": (active and live.counts) or counts,
        "estimator": facts.setting("guidance.estimator"),
        "seed": facts.setting("seed"),
        "model": facts.setting("prior.model"),
        "asset": facts.setting("asset"),
        "starred": live.starred,
        "source": live.source,
        "frame": live.frame_number,
        "checkpoints": facts.checkpoints,
        "files": facts.has,
        "previews": facts.previews[-MOST_PREVIEWS:],
        "changed": facts.changed,
    }
