"""The runs of a folder, what was asked for, and what is remembered of it.

What is on the disk counts: a run's folder, and the journal, which says what was asked for. A
registry that is made over a folder where another was killed shows what waited as waiting, and what
ran as interrupted, to be continued from its newest checkpoint.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gs_ssd import config as configs
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, slug
from gs_ssd.locks import owner_of, refuse_if_lost
from gs_ssd.studio import state
from gs_ssd.studio.journal import Journal
from gs_ssd.studio.runs import MOVED, OWN, RunsFolder
from gs_ssd.studio.state import ACTIVE, ATTEMPTS, WAITING, Live

MOST_WAITING = 10_000


class Registry:
    """All that can be known and asked of runs without a worker.

    Args:
        runs: the folder.
        journal: what is remembered; None: nothing.
        requeue: after a restart, put what was running back into the queue.
    """

    def __init__(
        self, runs: RunsFolder, journal: Journal | None = None, *, requeue: bool = False
    ) -> None:
        self.runs, self.journal = runs, journal
        self.live: dict[str, Live] = {}
        self.order: list[str] = []  # of those that wait
        self.running: list[str] = []  # in the order in which they were begun
        self._listeners: set[Callable[[str], None]] = set()
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
            UserError: a name that is taken or none, a checkpoint that is not there, a full queue, a
                full disk, a folder of runs that was moved away. Nothing of the run is left.
        """
        refuse_if_lost(self.runs.root / OWN, MOVED)
        checkpoint = self.check(name, fork)
        name = name or self.runs.free_name(slug(config.prompt))
        folder = self.runs.place(name)
        folder.mkdir(parents=True)
        try:
            if checkpoint is not None:
                (folder / "checkpoints").mkdir()
                with atomic_path(folder / "checkpoints" / checkpoint.name) as temporary:
                    shutil.copyfile(checkpoint, temporary)
            configs.save(config, folder / "config.yaml")
            source = None if fork is None else {"run": fork[0], "completed": fork[1]}
            self.live[name] = Live(anyway=anyway, source=source)
            self._enqueue(name)
        except UserError:  # a full disk, a checkpoint that has made room for a newer one
            self.live.pop(name, None)
            shutil.rmtree(folder, ignore_errors=True)
            raise
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

    def star(self, name: str, *, on: bool) -> None:
        """Mark a run, or take the mark away."""
        live = self._of(name)
        self._note("starred" if on else "unstarred", name)
        live.starred = on
        self._changed(name)

    def discard(self, name: str) -> str:
        """Move a run to the trash; returns its name there.

        Raises:
            UserError: it runs, here or elsewhere.
        """
        live = self._of(name)
        if live.state in ACTIVE or owner_of(self.runs.folder(name)) is not None:
            raise UserError(f"{name} is running; stop it first")
        trashed = self.runs.discard(name)
        try:
            self._note("thrown away", name, trashed=trashed)
        except UserError:
            self.runs.restore(trashed)
            raise
        if live.state in WAITING:
            self.order.remove(name)
        del self.live[name]
        self._changed(name)
        return trashed

    def restore(self, trashed: str) -> str:
        """Take a run out of the trash; returns its name."""
        name = self.runs.restore(trashed)
        self._note("restored", name, trashed=trashed)
        self._changed(name)
        return name

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
        first = [*self.running, *self.order]
        changed: dict[str, float] = {}
        for name in self.runs.names():
            if name not in first:
                with contextlib.suppress(UserError, OSError):  # others delete folders, too
                    changed[name] = self.runs.facts(name).changed
        return [*first, *sorted(changed, key=lambda name: changed[name], reverse=True)]

    # What it remembers

    def _note(self, event: str, name: str, **more: Any) -> None:
        if self.journal is not None:
            self.journal.append(event, name, **more)

    def _enqueue(self, name: str) -> None:
        live = self._of(name)
        self._note("queued", name, anyway=live.anyway, source=live.source)
        live.state = "queued"
        self.order.append(name)
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
