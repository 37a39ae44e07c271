"""Runs wait their turn, run at most so many at once, and nothing of that is lost with the process.

What is on the disk counts: a run's folder, and the journal, which says what was asked for. A queue
that is made over a folder where another was killed shows what waited as waiting, and what ran as
interrupted, to be continued from its newest checkpoint.

Everything here happens on one event loop.
"""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gs_ssd import config as configs
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, slug
from gs_ssd.locks import owner_of
from gs_ssd.studio import state
from gs_ssd.studio.journal import Journal
from gs_ssd.studio.runs import SNAPSHOT, RunsFolder
from gs_ssd.studio.state import ACTIVE, WAITING, Live
from gs_ssd.studio.worker_process import WarmWorker

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
WATCHED_S = 5.0
"""After the last request for a frame a run counts as watched."""
ATTEMPTS = 3
"""How often a job is taken up by itself after its worker or the server died."""


class Queue:
    """The runs of one folder, and what is to become of them.

    Args:
        runs: the folder.
        journal: what is remembered; None: nothing.
        at_once: runs at a time.
        requeue: after a restart, put what was running back into the queue.
        spare: keep one more worker warm, so that a run begins at once.
    """

    def __init__(
        self,
        runs: RunsFolder,
        journal: Journal | None = None,
        *,
        at_once: int = 1,
        requeue: bool = False,
        spare: bool = True,
    ) -> None:
        self.runs, self.at_once, self.spare = runs, at_once, spare
        self.journal = journal
        self.live: dict[str, Live] = {}
        self.order: list[str] = []
        self.closing = False
        self._listeners: set[Callable[[str], None]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._warm = WarmWorker()
        self._wake = asyncio.Event()
        self._snapshots: dict[str, asyncio.Event] = {}
        self._recall(requeue)

    # What is asked of it

    def submit(
        self,
        config: ExperimentConfig,
        *,
        name: str | None = None,
        anyway: bool = False,
        fork: tuple[str, int] | None = None,
    ) -> str:
        """Put a new run at the end of the queue; returns its name.

        Args:
            name: of its folder; by default made of the prompt.
            anyway: try a prompt that the prior does not know.
            fork: the run, and the number of steps in its checkpoint, to begin from.

        Raises:
            UserError: a name that is taken or none, a checkpoint that is not there, a full queue.
        """
        checkpoint = self.check(name, fork)
        name = name or self.runs.free_name(slug(config.prompt))
        folder = self.runs.place(name)
        folder.mkdir(parents=True)
        if checkpoint is not None:
            (folder / "checkpoints").mkdir()
            with atomic_path(folder / "checkpoints" / checkpoint.name) as temporary:
                shutil.copyfile(checkpoint, temporary)
        configs.save(config, folder / "config.yaml")
        source = None if fork is None else {"run": fork[0], "completed": fork[1]}
        self.live[name] = Live(anyway=anyway, source=source)
        self._enqueue(name)
        return name

    def check(self, name: str | None, fork: tuple[str, int] | None) -> Path | None:
        """Whether `submit` would take these; the checkpoint to begin from, if any.

        Raises:
            UserError: see `submit`.
        """
        if len(self.order) >= MOST_WAITING:
            raise UserError(f"{MOST_WAITING} runs are waiting already")
        if name is not None and (slug(name) != name or self.runs.place(name).exists()):
            raise UserError(
                f"the name {name!r} cannot be used: it is taken, or not made of small letters,"
                " digits and dashes"
            )
        return None if fork is None else self._checkpoint(*fork)

    def resume(self, name: str) -> None:
        """Continue a run from its newest checkpoint, or begin one that has none; it waits its turn.

        Raises:
            UserError: it runs or waits already, or is done.
        """
        live, facts = self._of(name), self.runs.facts(name)
        if live.state in (*WAITING, *ACTIVE):
            raise UserError(f"{name} is {live.state} already")
        if facts.done:
            raise UserError(f"{name} is done; fork it to continue with more steps")
        owner = owner_of(self.runs.folder(name))
        if owner is not None:
            raise UserError(f"{name} is in use by {owner}")
        configs.from_mapping(facts.settings, f"{name}/config.yaml")
        live.attempts = 0
        self._enqueue(name)

    def stop(self, name: str) -> None:
        """Save a run and end it; take one that waits out of the queue.

        Raises:
            UserError: it neither runs nor waits.
        """
        live = self._of(name)
        if live.state in WAITING:
            self.order.remove(name)
            live.state = ""
            self._note("stopped", name)
        elif live.state in ACTIVE:
            begun, live.state = live.state != "starting", "stopping"
            if live.worker is not None and begun:
                live.worker.send(stop=True)
            elif live.worker is not None:
                live.worker.kill()  # there is nothing yet to save, and it may take long to begin
        else:
            raise UserError(f"{name} is not running")
        self._changed(name)

    def pause(self, name: str, *, on: bool) -> None:
        """Hold a run between two steps, or let it go on.

        Raises:
            UserError: it does not run.
        """
        live = self._of(name)
        if live.worker is None or live.state not in ("running", "paused"):
            raise UserError(f"{name} is not running")
        live.worker.send(pause=on)
        if not on:
            live.state = "running"
        self._changed(name)

    def star(self, name: str, *, on: bool) -> None:
        """Mark a run, or take the mark away."""
        self._of(name).starred = on
        self._note("starred" if on else "unstarred", name)
        self._changed(name)

    def discard(self, name: str) -> str:
        """Move a run to the trash; returns its name there.

        Raises:
            UserError: it runs, here or elsewhere.
        """
        live = self._of(name)
        if live.state in ACTIVE or owner_of(self.runs.folder(name)) is not None:
            raise UserError(f"{name} is running; stop it first")
        if live.state in WAITING:
            self.order.remove(name)
        trashed = self.runs.discard(name)
        self._note("thrown away", name, trashed=trashed)
        del self.live[name]
        self._changed(name)
        return trashed

    def restore(self, trashed: str) -> str:
        """Take a run out of the trash; returns its name."""
        name = self.runs.restore(trashed)
        self._note("restored", name, trashed=trashed)
        self._changed(name)
        return name

    async def snapshot(self, name: str, patience_s: float = 60.0) -> Path | None:
        """The splat of a run as it is now, from its worker; None: it does not run."""
        live = self._of(name)
        if live.worker is None or live.state not in ("running", "paused"):
            return None
        ready = self._snapshots.setdefault(name, asyncio.Event())
        live.worker.send(snapshot=True)
        try:
            await asyncio.wait_for(ready.wait(), patience_s)
        except TimeoutError:
            return None
        path = self.runs.folder(name) / SNAPSHOT
        return path if path.is_file() else None

    def watching(self, name: str) -> Live:
        """Somebody looks at this run: for a while its worker sends frames."""
        live = self._of(name)
        live.watched_until = asyncio.get_running_loop().time() + WATCHED_S
        if live.worker is not None and not live.watched:
            live.watched = True
            live.worker.send(watch=True)
        return live

    def _stop_watching_if_due(self, live: Live) -> None:
        if live.watched and asyncio.get_running_loop().time() > live.watched_until:
            live.watched = False
            if live.worker is not None:
                live.worker.send(watch=False)

    def attach(self, name: str, worker: Any, num_steps: int, completed: int) -> None:
        """Show and steer a run that somebody else has started; `worker` takes what is sent to
        it and can be killed."""
        live = self.live.setdefault(name, Live())
        live.worker, live.state, live.num_steps = worker, "running", num_steps
        live.completed = completed
        self._changed(name)

    def detach(self, name: str) -> None:
        """An adopted run is over."""
        live = self.live[name]
        live.worker, live.state = None, ""
        live.frame_number += 1
        self._forget_snapshot(name)
        self._changed(name)

    def _forget_snapshot(self, name: str) -> None:
        """A run that is over is not what it was in the middle."""
        with contextlib.suppress(OSError, UserError):
            (self.runs.folder(name) / SNAPSHOT).unlink(missing_ok=True)

    # What it tells

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with a run's name whenever something about it changes; returns the end of
        it."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def describe(self, name: str) -> dict[str, Any] | None:
        """All that the page shows of a run, as plain values; None: there is no such run (any
        more)."""
        try:
            facts = self.runs.facts(name)
        except (UserError, OSError):
            return None
        live = self._of(name)
        place = self.order.index(name) if name in self.order else None
        return state.describe(name, live, facts, self._state(name, live, done=facts.done), place)

    def names(self) -> list[str]:
        """All runs: those that run, those that wait in their order, the others newest first."""
        first = [*self._tasks, *self.order]
        rest = [name for name in self.runs.names() if name not in first]
        rest.sort(key=lambda name: self.runs.facts(name).changed, reverse=True)
        return [*first, *rest]

    # How it continues

    async def serve(self) -> None:
        """Start what can be started, until cancelled."""
        while not self.closing:
            self._wake.clear()
            while self.order and len(self._tasks) < self.at_once:
                name = self.order.pop(0)
                self._tasks[name] = asyncio.create_task(self._work(name))
            for name in self.order:
                self._changed(name)
            if self.spare and self._soon_free():
                self._warm.prepare()
            await self._wake.wait()

    def _soon_free(self) -> bool:
        """Whether warming up takes nothing from a run: all there are write their results."""
        return all(self.live[name].state == "finishing" for name in self._tasks)

    def begin_shutdown(self) -> None:
        """Begin nothing more, and wake all who listen: they look at `closing`."""
        self.closing = True
        self._wake.set()
        self._changed("")

    async def close(self) -> None:
        """Save what runs and end all workers."""
        self.begin_shutdown()
        for live in self.live.values():
            if live.worker is not None:
                live.worker.send(stop=True)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._warm.close()
        if self.journal is not None:
            self.journal.close()

    async def _work(self, name: str) -> None:
        live = self._of(name)
        live.begin()
        self._changed(name)
        outcome, text = "failed", ""
        try:
            self._note("started", name, attempt=live.attempts)
            job = self._job(name, live)
            live.worker = await self._warm.take()
            live.worker.send(job=job)
            live.worker.send(watch=live.watched, stop=live.state == "stopping")
            outcome, text = await live.worker.work(
                lambda message, data: self.receive(name, message, data)
            )
            if outcome == "died" and live.state == "stopping":
                outcome, text = "stopped", ""
        except (OSError, UserError) as error:
            text = str(error)
        finally:
            live.worker = None
            self._tasks.pop(name, None)
            with contextlib.suppress(UserError):  # its folder was taken away
                self._ended(name, live, outcome, text)
            self._wake.set()

    def _job(self, name: str, live: Live) -> dict[str, Any]:
        """What a worker is told; the settings are those in the folder."""
        facts = self.runs.facts(name)
        config = configs.from_mapping(facts.settings, f"{name}/config.yaml")
        live.num_steps = config.num_steps
        return {
            "folder": str(self.runs.folder(name)),
            "settings": configs.to_mapping(config),
            "resume": bool(facts.checkpoints),
            "anyway": live.anyway,
        }

    def _ended(self, name: str, live: Live, outcome: str, text: str) -> None:
        self._forget_snapshot(name)
        live.message, live.frame_number = text, live.frame_number + 1
        if outcome == "died" and live.attempts < ATTEMPTS and not self.closing:
            live.message = f"{text}; it continues by itself (attempt {live.attempts + 1})"
            self._enqueue(name)
            return
        if outcome == "died" and not self.closing:
            outcome, live.message = "failed", f"{text}, {live.attempts} times"
        elif outcome == "died" or (outcome == "stopped" and self.closing):
            outcome = "interrupted"  # by nobody's wish: taken up again, where that is wished
        live.state = outcome if outcome in ("failed", "interrupted") else ""
        self._note(outcome, name, message=live.message)
        self._changed(name)

    def receive(self, name: str, message: dict[str, Any], data: bytes) -> None:
        """One message of a run's worker."""
        live = self._of(name)
        live.receive(message, data)
        self._stop_watching_if_due(live)
        if live.state == "finishing":
            self._wake.set()
        if message.get("event") == "snapshot" and name in self._snapshots:
            self._snapshots.pop(name).set()
        self._changed(name)

    # What it remembers

    def _note(self, event: str, name: str, **more: Any) -> None:
        if self.journal is not None:
            self.journal.append(event, name, **more)

    def _enqueue(self, name: str) -> None:
        live = self._of(name)
        self._note("queued", name, anyway=live.anyway, source=live.source)
        live.state = "queued"
        self.order.append(name)
        self._wake.set()
        self._changed(name)

    def _recall(self, requeue: bool) -> None:
        """What waited waits again; what ran was interrupted, and waits too where it is taken up."""
        known = set(self.runs.names())
        live, waiting = state.recall([] if self.journal is None else self.journal.read())
        self.live = {name: run for name, run in live.items() if name in known}
        self.order = [name for name in waiting if name in known]
        for name, run in self.live.items():
            if run.state != "interrupted":
                continue
            if self.runs.facts(name).done:
                run.state = ""  # killed between the last file and the journal
            elif requeue and run.attempts < ATTEMPTS:
                run.state = "queued"
                self.order.append(name)

    def _checkpoint(self, name: str, completed: int) -> Path:
        path = self.runs.folder(name) / "checkpoints" / f"step_{completed:06d}.pt"
        if not path.is_file():
            raise UserError(f"{name} has no checkpoint after {completed} steps")
        return path

    def _of(self, name: str) -> Live:
        self.runs.folder(name)
        return self.live.setdefault(name, Live())

    def _state(self, name: str, live: Live, *, done: bool) -> str:
        if live.state in (*WAITING, *ACTIVE):
            return live.state
        if done:
            return "done"
        owner = owner_of(self.runs.folder(name))
        if owner is not None and owner.pid != os.getpid():
            return "elsewhere"
        return live.state or "stopped"

    def _changed(self, name: str) -> None:
        for listener in list(self._listeners):
            listener(name)
