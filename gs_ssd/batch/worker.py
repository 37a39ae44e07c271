"""A worker loads a prior once and makes asset after asset with it. It knows nothing of Ray.

worker = Worker(threads=1)
outcome = worker.run(task, Path("out/a-red-mug-seed0"))
"""

import contextlib
import dataclasses
import errno
import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gs_ssd import config as configs
from gs_ssd import memory
from gs_ssd.batch.storage import Store
from gs_ssd.batch.task import Task
from gs_ssd.errors import UserError
from gs_ssd.events import Finished, Saved, Stepped, Stopped
from gs_ssd.locks import held, owner_of
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior import load as load_prior
from gs_ssd.render import device as rendering_device
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.trainer import Trainer

LOCK_PATIENCE_S = 60.0
"""How long a predecessor on the same folder may take to end; a killed driver's workers do soon."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one attempt at a task ended."""

    name: str
    state: str
    """done | stopped (saved, to be continued) | failed | lost (its worker died) | hung."""
    reason: str = ""
    again: bool = False
    """Whether another attempt may end differently."""
    disk: bool = False
    """Whether the machine's disk refused, which another machine's may not."""
    node_lost: bool = False
    host: str = ""
    pid: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    steps: int = 0
    """Completed steps, of all attempts together."""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """What the asset consists of (`num_splats`)."""
    files: tuple[str, ...] = ()
    """Names in the task's folder."""
    worn: bool = False
    """Whether the worker's process holds more memory than it may, so that another should follow."""


class _TooMuchMemory(Exception):  # noqa: N818 -- told in a sentence
    """The worker has grown beyond what it may have; its text says by how much."""


class Worker:
    """Makes one asset at a time; `beat` and `stop` may be called from other threads meanwhile.

    Args:
        threads: of PyTorch; None leaves the setting alone.
        store: where results go that have no folder which all machines see; None: the folders given
            to `run` are the results.
        memory_gb: the most that this process may have resident; looked at after every step.
    """

    def __init__(
        self,
        threads: int | None = None,
        store: Store | None = None,
        memory_gb: float | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.store, self.memory_gb = store, memory_gb
        self._prior: tuple[str, DiffusionPrior] | None = None
        self._trainer: Trainer | None = None
        self._ticks = 0
        self._stopping = threading.Event()

    def beat(self) -> int:
        """A number that grows with every sign of life: steps, files, the begin of a task."""
        return self._ticks

    def stop(self) -> None:
        """End the task at hand after its step, with a checkpoint, and take no other."""
        self._stopping.set()
        if (trainer := self._trainer) is not None:
            trainer.stop()

    def run(self, task: Task, folder: Path) -> Outcome:
        """Make the asset, or what is left of it; never raises for what concerns this task alone."""
        began, cpu = time.monotonic(), time.process_time()
        self._ticks += 1
        try:
            outcome = self._run(task, folder)
        except _TooMuchMemory as error:
            outcome = Outcome(task.name, "failed", str(error), again=True)
        except UserError as error:
            disk = _is_disk(error)
            outcome = Outcome(task.name, "failed", str(error), again=disk, disk=disk)
        except Exception as error:
            outcome = self._fault(task, error)
        finally:
            self._trainer = None
        return dataclasses.replace(
            outcome,
            host=socket.gethostname(),
            pid=os.getpid(),
            seconds=time.monotonic() - began,
            cpu_seconds=time.process_time() - cpu,
            worn=self._excess() is not None,
        )

    def _excess(self) -> str | None:
        """By how much this process has grown beyond what it may have."""
        if self.memory_gb is None or memory.resident() <= self.memory_gb * 1e9:
            return None
        return (
            f"its worker took {memory.resident() / 1e9:.2f} GB, and --memory-per-worker is"
            f" {self.memory_gb:g}"
        )

    def _run(self, task: Task, folder: Path) -> Outcome:
        with _held_soon(folder), memory.explained():
            if self.store is not None:
                self.store.pull(task.name, folder)
            outcome = self._train(task, folder)
            if self.store is not None:
                self.store.push(task.name, folder)
        if self.store is not None:
            self.store.forget(folder)
        return outcome

    def _train(self, task: Task, folder: Path) -> Outcome:
        resume = bool(checkpoints.listing(folder / "checkpoints"))
        prior = self.prior(task)
        trainer = self._trainer = Trainer(
            task.config,
            folder,
            resume=resume,
            overwrite=not resume,
            prior=prior,
            anyway=task.anyway,
        )
        if self._stopping.is_set():
            trainer.stop()
        for event in trainer.events():
            self._ticks += 1
            if isinstance(event, Saved) and self.store is not None:
                self.store.push(task.name, folder)
            if isinstance(event, Stopped):
                return Outcome(task.name, "stopped", steps=event.completed)
            if isinstance(event, Stepped | Saved) and self._stopping.is_set():
                trainer.stop()
            if isinstance(event, Finished):
                break
            if isinstance(event, Stepped) and (excess := self._excess()):
                raise _TooMuchMemory(excess)
        counts = {name: int(count) for name, count in trainer.asset.counts().items()}
        files = tuple(sorted(path.name for path in folder.iterdir() if path.is_file()))
        files = tuple(name for name in files if not name.startswith("."))
        return Outcome(task.name, "done", steps=trainer.completed, counts=counts, files=files)

    def prior(self, task: Task) -> DiffusionPrior:
        """The task's prior: the one that is loaded, if it is that of the task before."""
        device = rendering_device.choose(task.config.device)
        wanted = json.dumps([configs.to_mapping(task.config)["prior"], str(device)])
        if self._prior is None or self._prior[0] != wanted:
            self._prior = None  # its memory goes before the next one comes
            self._prior = wanted, load_prior(task.config.prior, device)
        return self._prior[1]

    def _fault(self, task: Task, error: Exception) -> Outcome:
        disk = _is_disk(error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = (str(error).splitlines() or [""])[0][:300]
        reason = f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"
        return Outcome(task.name, "failed", reason, again=True, disk=disk)


@contextlib.contextmanager
def _held_soon(folder: Path) -> Iterator[None]:
    """The folder's lock; a worker whose driver was killed may hold it for some moments more."""
    end = time.monotonic() + LOCK_PATIENCE_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(folder, "gs-ssd batch"))
                break
            except UserError:
                if owner_of(folder) is None or time.monotonic() >= end:
                    raise
                time.sleep(0.2)
        yield


def _is_disk(error: BaseException) -> bool:
    """Whether a full or failing disk is at the bottom of it."""
    seen: Any = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in DISK:
            return True
        if isinstance(seen, RuntimeError) and "PytorchStreamWriter" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
