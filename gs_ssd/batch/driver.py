"""Hands out tasks, takes what comes back, and writes it down: nothing lost, nothing done twice."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence

from gs_ssd.batch.ledger import Ledger
from gs_ssd.batch.pool import Pool
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome

REST_S = 30.0  #: a machine whose disk refused gets no task for so long
STOP_PATIENCE_S = 60.0  #: what workers have for saving after Ctrl-C
LOOK_S = 5.0  #: between looks for signs of life


@dataclasses.dataclass(frozen=True)
class Limits:
    """When a task is given up."""

    retries: int = 2
    """Attempts beside the first one that raised."""
    deaths: int = 3
    """Workers that may die with it; a node lost does not count."""
    hang_s: float = 900.0
    """Without a step or a file."""


@dataclasses.dataclass
class _Running:
    task: Task
    ticks: int
    since: float
    began: float


class Driver:
    """Runs a batch in a ledger on a pool.

    Args:
        finished: told of every task that is done, with its outcome.
        tick: called a few times a second at most, with this driver.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        ledger: Ledger,
        pool: Pool,
        limits: Limits,
        *,
        finished: Callable[[Task, Outcome], None] = lambda *_: None,
        say: Callable[[str], None] = print,
        tick: Callable[["Driver"], None] = lambda *_: None,
    ) -> None:
        self.ledger, self.pool, self.limits = ledger, pool, limits
        self.finished, self.say, self.tick = finished, say, tick
        ledger.queue(tasks)
        self.total = len(tasks)
        states = {task.name: ledger.records[task.name].state for task in tasks}
        self.queue = deque(task for task in tasks if states[task.name] != "done")
        self.done = self.done_before = self.total - len(self.queue)
        self.failed = 0
        self.running: dict[str, _Running] = {}
        self._faults: dict[str, int] = {}
        self._deaths: dict[str, int] = {}
        self._resting: dict[str, float] = {}
        self._looked = time.monotonic()
        self._stop_by: float | None = None
        self._stop_asked = False

    def stop(self) -> None:
        """Let the workers save what they do, then end; may be called from a signal handler."""
        self._stop_asked = True

    @property
    def stopped(self) -> bool:
        """Whether it was asked to end early."""
        return self._stop_asked

    def run(self) -> None:
        """Until every task is done or given up, or all are saved after `stop`.

        Raises:
            UserError: the ledger cannot be written, or no worker starts.
        """
        while self.running or (self.queue and not self._stop_asked):
            if self._stop_asked and self._stop_by is None:
                self._stop_by = time.monotonic() + STOP_PATIENCE_S
                self.pool.stop()
            if self._stop_by is None:
                self._hand_out()
            elif time.monotonic() > self._stop_by:
                self._abandon()
            for outcome in self.pool.wait(0.5):
                self._take(outcome)
            if self._stop_by is None:
                self._watch()
            self.tick(self)

    def _hand_out(self) -> None:
        now = time.monotonic()
        for worker in self.pool.idle():
            if not self.queue:
                return
            if self._resting.get(worker.host, 0.0) > now:
                continue
            task = self.queue.popleft()
            self.running[task.name] = _Running(task, 0, now, now)
            attempt = self.ledger.records[task.name].attempts + 1
            self.ledger.append(task.name, "running", wait=False, attempt=attempt, host=worker.host)
            self.pool.begin(worker, task)

    def _take(self, outcome: Outcome) -> None:
        running = self.running.pop(outcome.name)
        task, seconds = running.task, outcome.seconds or time.monotonic() - running.began
        cost = {
            "host": outcome.host,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(outcome.cpu_seconds, 3),
        }
        if outcome.state == "done":
            self.done += 1
            record = self.ledger.records[task.name]
            self.ledger.append(
                task.name,
                "done",
                attempts=record.attempts,
                steps=outcome.steps,
                counts=outcome.counts,
                files=list(outcome.files),
                **cost,
            )
            self.finished(task, outcome)
        elif outcome.state == "stopped":
            self.ledger.append(task.name, "queued", steps=outcome.steps, **cost)
        elif self._may_try_again(outcome):
            if outcome.disk:
                self._resting[outcome.host] = time.monotonic() + REST_S
            self.ledger.append(task.name, "retry", reason=outcome.reason, **cost)
            self.say(f"{task.name}: {outcome.reason}; tried again")
            self.queue.append(task)
        else:
            self.failed += 1
            self.ledger.append(
                task.name,
                "failed",
                attempts=self.ledger.records[task.name].attempts,
                reason=outcome.reason,
                **cost,
            )
            self.say(f"{task.name}: FAILED, {outcome.reason}")

    def _may_try_again(self, outcome: Outcome) -> bool:
        if not outcome.again:
            return False
        if outcome.node_lost:
            return True
        if outcome.state == "lost":
            deaths = self._deaths[outcome.name] = self._deaths.get(outcome.name, 0) + 1
            return deaths < self.limits.deaths
        faults = self._faults[outcome.name] = self._faults.get(outcome.name, 0) + 1
        return faults <= self.limits.retries

    def _watch(self) -> None:
        """End workers that have given no sign of life for too long."""
        now = time.monotonic()
        if now - self._looked < min(LOOK_S, self.limits.hang_s / 4):
            return
        self._looked = now
        beats = self.pool.beats()
        for name, running in list(self.running.items()):
            ticks = beats.get(name, running.ticks)
            if ticks != running.ticks:
                running.ticks, running.since = ticks, now
            elif now - running.since > self.limits.hang_s:
                self.pool.end(name)
                reason = f"no step for {now - running.since:.0f} s; its worker was ended"
                self._take(Outcome(name, "hung", reason, again=True))

    def _abandon(self) -> None:
        """After `stop`, workers that do not save in time: their checkpoints stay."""
        for name in list(self.running):
            self.pool.end(name)
            self._take(Outcome(name, "stopped"))
