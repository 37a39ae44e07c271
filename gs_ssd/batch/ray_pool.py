"""Workers as Ray actors: each a process of its own with a loaded prior, on any node of a cluster.

An actor that dies is replaced as soon as the cluster has room for it. Ray schedules; we only hand
out tasks.
"""

import contextlib
import dataclasses
import logging
import os
import time
from pathlib import Path
from typing import Any

from gs_ssd.batch.pool import Idle
from gs_ssd.batch.storage import Store
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome
from gs_ssd.errors import UserError

LOOK_S = 5.0  #: between looks at how large the cluster is
BEAT_S = 2.0  #: the longest wait for signs of life
MOST_FAILED_STARTS = 10  #: in a row, before the cluster is taken to be unable


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What each worker gets."""

    workers: int | None = None
    """None: as many as the cluster has room for."""
    threads: int = 1
    gpus: float = 0.0
    memory_gb: float | None = None


@dataclasses.dataclass
class _Actor:
    number: int
    handle: Any
    ready: Any
    """What Ray owes us: its name of host (starting), then the outcome of its task."""
    host: str = ""
    task: Task | None = None
    run: Any = None
    beat: Any = None
    ticks: int = 0


class RayPool:
    """The workers of one batch on a cluster.

    Args:
        folder: where tasks' folders are made, the same on all nodes.
        address: of a running cluster (`auto`, `ray://...`, `host:port`); None starts one here.

    Raises:
        UserError: Ray is missing, or the cluster cannot be reached or has no room for one worker.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Wanted,
        *,
        address: str | None = None,
        store: Store | None = None,
    ) -> None:
        self.ray = _ray()
        self.folder, self.wanted, self.store = folder, wanted, store
        self._connected_here = not self.ray.is_initialized()
        if self._connected_here:
            _connect(self.ray, address, wanted)
        self._actors: dict[int, _Actor] = {}
        self._next = self._failed_starts = 0
        self._looked = float("-inf")
        self.size = 0
        self._remote = self._actor_class()
        self._grow()
        if not self.size:
            self.close()
            raise UserError(
                f"the cluster has no room for a worker with {_needs(wanted)};"
                " ask for less (--threads, --gpus-per-worker, --memory-per-worker)"
            )

    def idle(self) -> list[Idle]:
        self._grow()
        return [
            Idle(actor.number, actor.host)
            for actor in self._actors.values()
            if actor.host and actor.task is None
        ]

    def begin(self, worker: Idle, task: Task) -> None:
        actor = self._actors[worker.number]
        actor.task, actor.ticks, actor.beat = task, 0, None
        actor.run = actor.handle.run.remote(task, str(self.folder / task.name))

    def wait(self, seconds: float) -> list[Outcome]:
        owed = {
            (actor.ready if actor.task is None else actor.run): actor
            for actor in self._actors.values()
            if actor.task is not None or not actor.host
        }
        if not owed:
            time.sleep(min(seconds, 0.2))
            return []
        ready, _ = self.ray.wait(list(owed), num_returns=1, timeout=seconds)
        if ready:  # and whatever else is there by now
            ready, _ = self.ray.wait(list(owed), num_returns=len(owed), timeout=0)
        outcomes = [self._collect(owed[reference], reference) for reference in ready]
        return [outcome for outcome in outcomes if outcome is not None]

    def _collect(self, actor: _Actor, reference: Any) -> Outcome | None:
        task, errors = actor.task, self.ray.exceptions
        try:
            found = self.ray.get(reference)
        except (errors.RayActorError, errors.WorkerCrashedError) as error:
            self._actors.pop(actor.number)
            if task is None:
                self._count_failed_start(error)
                return None
            node = "node has died" in str(error) or "node was terminated" in str(error)
            where = f" on {actor.host}" if actor.host else ""
            reason = f"its node was lost{where}" if node else f"its worker died{where}"
            return Outcome(task.name, "lost", reason, again=True, node_lost=node, host=actor.host)
        except errors.RayError as error:
            self._kill(actor)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
            if task is None:
                self._count_failed_start(error)
                return None
            return Outcome(task.name, "failed", reason, again=True, host=actor.host)
        if task is None:
            actor.host, self._failed_starts = found, 0
            return None
        actor.task = actor.run = None
        return found

    def _count_failed_start(self, error: Exception) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            said = [line for line in str(error).splitlines() if line.strip()]
            raise UserError(
                f"{self._failed_starts} workers in a row did not start:"
                f" {(said or ['no reason given'])[-1][:300]}; is gs-ssd installed on every node?"
            )

    def beats(self) -> dict[str, int]:
        running = [actor for actor in self._actors.values() if actor.task is not None]
        for actor in running:
            if actor.beat is None:
                actor.beat = actor.handle.beat.remote()
        asked = {actor.beat: actor for actor in running}
        if asked:
            answered, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=BEAT_S)
            for reference in answered:
                asked[reference].beat = None
                with contextlib.suppress(self.ray.exceptions.RayError):  # `wait` tells of it
                    asked[reference].ticks = self.ray.get(reference)
        return {actor.task.name: actor.ticks for actor in running if actor.task is not None}

    def end(self, name: str) -> None:
        for actor in list(self._actors.values()):
            if actor.task is not None and actor.task.name == name:
                self._kill(actor)

    def stop(self) -> None:
        self.wanted = dataclasses.replace(self.wanted, workers=0)
        self._looked = float("-inf")
        for actor in self._actors.values():
            if actor.task is not None:
                actor.handle.stop.remote()

    def close(self) -> None:
        for actor in list(self._actors.values()):
            self._kill(actor)
        if self._connected_here:
            self.ray.shutdown()

    def _kill(self, actor: _Actor) -> None:
        self._actors.pop(actor.number, None)
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(actor.handle, no_restart=True)

    def _grow(self) -> None:
        """As many workers as asked for and as there is room; those that wait for room in vain
        go."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked, self.size = now, self._room()
        waiting = [actor for actor in self._actors.values() if not actor.host]
        for actor in waiting[: max(len(self._actors) - self.size, 0)]:
            self._kill(actor)
        while len(self._actors) < self.size:
            handle = self._remote.remote(self.wanted.threads, self.store)
            self._actors[self._next] = _Actor(self._next, handle, handle.hello.remote())
            self._next += 1

    def _room(self) -> int:
        wanted, room = self.wanted, 0
        for node in self.ray.nodes():
            if not node["Alive"]:
                continue
            has = node["Resources"]
            fits = [int(has.get("CPU", 0) // wanted.threads)]
            if wanted.gpus:
                fits.append(int(has.get("GPU", 0) / wanted.gpus + 1e-6))
            if wanted.memory_gb:
                fits.append(int(has.get("memory", 0) // (wanted.memory_gb * 1e9)))
            room += min(fits)
        return room if wanted.workers is None else min(wanted.workers, room)

    def _actor_class(self) -> Any:
        options: dict[str, Any] = {"num_cpus": self.wanted.threads, "num_gpus": self.wanted.gpus}
        if self.wanted.memory_gb:
            options["memory"] = int(self.wanted.memory_gb * 1e9)
        # One thread works at a task; others answer whether it lives, and tell it to stop.
        options |= {"max_concurrency": 3, "max_restarts": 0, "max_task_retries": 0}
        return self.ray.remote(**options)(_RayWorker)


class _RayWorker:
    """The actor: a `Worker`, made where it runs."""

    def __init__(self, threads: int, store: Store | None) -> None:
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        from gs_ssd.batch.worker import Worker

        self.worker = Worker(threads, store)

    def hello(self) -> str:
        """Where this is."""
        import socket

        return socket.gethostname()

    def run(self, task: Task, folder: str) -> Outcome:
        return self.worker.run(task, Path(folder))

    def beat(self) -> int:
        return self.worker.beat()

    def stop(self) -> None:
        self.worker.stop()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # 30 are few on a busy machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "workers need Ray: pip install 'gs-ssd[ray]' (--workers 0 makes one asset after the"
            " other in this process, without it)"
        ) from error
    return ray


def _connect(ray: Any, address: str | None, wanted: Wanted) -> None:
    if address is not None and not address.strip():
        raise UserError("--address is empty; name a cluster (auto, HOST:PORT), or leave it out")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers = wanted.workers or max(cores // wanted.threads, 1)
        # More workers than cores is the user's word, and Ray must not wait for room.
        options |= {"num_cpus": max(cores, workers * wanted.threads), "include_dashboard": False}
        address = "local"
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--address {address}: no Ray cluster answers ({reason})") from error


def _needs(wanted: Wanted) -> str:
    parts = [f"{wanted.threads} CPU"]
    parts += [f"{wanted.gpus:g} GPU"] if wanted.gpus else []
    parts += [f"{wanted.memory_gb:g} GB"] if wanted.memory_gb else []
    return ", ".join(parts)
