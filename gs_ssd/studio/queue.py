"""Runs wait their turn, run at most so many at once, and nothing of that is lost with the process.

Everything here happens on one event loop.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.studio import state
from gs_ssd.studio.journal import Journal
from gs_ssd.studio.registry import Registry
from gs_ssd.studio.runs import SNAPSHOT, RunsFolder
from gs_ssd.studio.state import ACTIVE, WAITING, Live
from gs_ssd.studio.worker_process import WarmWorker

WATCHED_S = 5.0
"""After the last request for a frame a run counts as watched."""


class Queue(Registry):
    """A registry with workers, which take up what waits.

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
        super().__init__(runs, journal, requeue=requeue)
        self.at_once, self.spare = at_once, spare
        self.closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._warm = WarmWorker()
        self._wake = asyncio.Event()
        self._snapshots: dict[str, asyncio.Future[str]] = {}

    # What is asked of those that run

    def stop(self, name: str) -> None:
        """Save a run and end it; take one that waits out of the queue.

        Raises:
            UserError: it neither runs nor waits.
        """
        live = self._of(name)
        if live.state in WAITING:
            self._note("stopped", name)
            self.order.remove(name)
            live.state = ""
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

    async def snapshot(self, name: str, patience_s: float = 60.0) -> Path | None:
        """The splat of a run as it is now, from its worker; None: it does not run (any more).

        Raises:
            UserError: there is no splat to be had of it now; says why.
        """
        live = self._of(name)
        if live.worker is None or live.state not in ("running", "paused"):
            return None
        fresh = asyncio.get_running_loop().create_future()
        answer = self._snapshots.setdefault(name, fresh)
        live.worker.send(snapshot=True)
        try:  # others may wait for the same answer
            fault = await asyncio.wait_for(asyncio.shield(answer), patience_s)
        except TimeoutError:
            return None
        if fault:
            raise UserError(fault)
        path = self.runs.folder(name) / SNAPSHOT
        return path if path.is_file() else None

    def _answer_snapshot(self, name: str, fault: str = "") -> None:
        """Let those go on who wait for a run's snapshot."""
        answer = self._snapshots.pop(name, None)
        if answer is not None:
            answer.set_result(fault)

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
        """A run that is over is not what it was in the middle, and makes no snapshot any more."""
        with contextlib.suppress(OSError, UserError):
            (self.runs.folder(name) / SNAPSHOT).unlink(missing_ok=True)
        self._answer_snapshot(name)

    # How it continues

    async def serve(self) -> None:
        """Start what can be started, until cancelled."""
        while not self.closing:
            self._wake.clear()
            while self.order and len(self.running) < self.at_once:
                name = self.order.pop(0)
                self.running.append(name)
                task = asyncio.create_task(self._work(name))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            for name in self.order:
                self._changed(name)
            if self.spare and self._soon_free():
                self._warm.prepare()
            await self._wake.wait()

    def _soon_free(self) -> bool:
        """Whether warming up takes nothing from a run: all there are write their results."""
        return all(self.live[name].state == "finishing" for name in self.running)

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
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
            self.running.remove(name)
            try:
                self._ended(name, live, outcome, text)
            except UserError as error:  # no room in the journal, or the folder was taken away
                if live.state in ACTIVE:
                    live.state, live.message = "failed", f"{text}; {error}"
                self._changed(name)
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
        live.frame_number += 1
        event, live.message = state.after(outcome, text, live.attempts, closing=self.closing)
        if event == "queued":
            self._enqueue(name)
            return
        live.state = event if event in ("failed", "interrupted") else ""
        self._note(event, name, message=live.message)
        self._changed(name)

    def receive(self, name: str, message: dict[str, Any], data: bytes) -> None:
        """One message of a run's worker."""
        live = self._of(name)
        live.receive(message, data)
        self._stop_watching_if_due(live)
        if live.state == "finishing":
            self._wake.set()
        if message.get("event") == "snapshot":
            self._answer_snapshot(name, message["fault"])
        self._changed(name)

    def _enqueue(self, name: str) -> None:
        super()._enqueue(name)
        self._wake.set()
