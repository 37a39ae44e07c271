"""What the driver needs of workers, wherever they are; and the one in the driver's own process."""

import dataclasses
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from gs_ssd.batch.storage import Store
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome, Worker


@dataclasses.dataclass(frozen=True)
class Idle:
    """A worker that waits for a task."""

    number: int
    host: str
    devices: str | None = None
    """CUDA_VISIBLE_DEVICES there."""


@runtime_checkable
class Pool(Protocol):
    """Workers that come and go."""

    def idle(self) -> Sequence[Idle]:
        """Those that could begin a task now."""
        ...

    def begin(self, worker: Idle, task: Task) -> None:
        """Give a task to an idle worker."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Tasks that have ended; waits for the first one so long. A worker that died or that
        `end` took away counts as an ended task too."""
        ...

    def beats(self) -> dict[str, int]:
        """By running task, a number that grows with its signs of life (see `Worker.beat`)."""
        ...

    def end(self, name: str) -> None:
        """Kill the worker of a task; `wait` says nothing of it any more."""
        ...

    def stop(self) -> None:
        """Ask all workers to save and end what they do."""
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...

    @property
    def size(self) -> int:
        """Workers that there are or will be."""
        ...

    @property
    def waiting(self) -> str:
        """What the pool waits for while it has no worker at all; else empty."""
        ...


class OwnProcess:
    """One worker, in this very process: no Ray, and no watchdog."""

    size = 1
    waiting = ""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        store: Store | None = None,
        memory_gb: float | None = None,
    ) -> None:
        self.folder, self.worker = folder, Worker(threads, store, memory_gb)
        self._task: Task | None = None

    def idle(self) -> list[Idle]:
        return [] if self._task else [Idle(0, socket.gethostname())]

    def begin(self, worker: Idle, task: Task) -> None:  # noqa: ARG002 -- the one
        self._task = task

    def wait(self, seconds: float) -> list[Outcome]:  # noqa: ARG002 -- works meanwhile
        task, self._task = self._task, None
        return [] if task is None else [self.worker.run(task, self.folder / task.name)]

    def beats(self) -> dict[str, int]:
        return {}

    def end(self, name: str) -> None:  # noqa: ARG002
        self._task = None

    def stop(self) -> None:
        self.worker.stop()

    def close(self) -> None:
        pass
