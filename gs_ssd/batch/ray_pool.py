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

from gs_ssd.batch import ray_cluster
from gs_ssd.batch.pool import Idle
from gs_ssd.batch.ray_cluster import Wanted
from gs_ssd.batch.storage import Store
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome
from gs_ssd.errors import UserError

LOOK_S = 5.0  #: between looks at how large the cluster is
BEAT_S = 2.0  #: the longest wait for signs of life
MOST_FAILED_STARTS = 10  #: in a row, before the cluster is taken to be unable


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an actor is."""

    host: str
    node: str
    """Ray's name of it."""
    devices: str | None
    """CUDA_VISIBLE_DEVICES there."""


@dataclasses.dataclass
class _Actor:
    number: int
    handle: Any
    ready: Any
    """What Ray owes us: its place (starting), then the outcome of its task."""
    host: str = ""
    node: str = ""
    devices: str | None = None
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
        self.ray = ray_cluster.load_ray()
        self.folder, self.store = folder, store
        self._connected_here = not self.ray.is_initialized()
        if self._connected_here:
            ray_cluster.connect(self.ray, address, wanted)
        self.wanted = ray_cluster.completed(wanted, self.ray.cluster_resources())
        self._began = time.monotonic()
        self._actors: dict[int, _Actor] = {}
        self._next = self._failed_starts = 0
        self._looked = float("-inf")
        self.size = 0
        self._remote = self._actor_class()
        self._grow()
        if not self.size:
            self.close()
            raise UserError(
                f"the cluster has no room for a worker with {self.wanted.needs};"
                " ask for less (--threads, --gpus-per-worker, --memory-per-worker)"
            )

    def idle(self) -> list[Idle]:
        self._grow()
        return [
            Idle(actor.number, actor.host, actor.devices)
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
            node = ray_cluster.is_gone(self.ray.nodes(), actor.node)
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
            actor.host, actor.node, actor.devices = found.host, found.node, found.devices
            self._failed_starts = 0
            return None
        actor.task = actor.run = None
        if found.worn:
            self._kill(actor)
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

    @property
    def waiting(self) -> str:
        """That no worker has started yet, and whether others hold the room."""
        if not self._actors or any(actor.host for actor in self._actors.values()):
            self._began = time.monotonic()
            return ""
        free, there = self.ray.available_resources(), self.ray.cluster_resources()
        kinds = ("CPU", "GPU") if self.wanted.gpus else ("CPU",)
        rooms = ", ".join(f"{free.get(k, 0):g} of {there.get(k, 0):g} {k}s free" for k in kinds)
        return f"no worker yet after {time.monotonic() - self._began:.0f} s ({rooms})"

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
            self._looked, self.size = now, ray_cluster.room(self.ray.nodes(), self.wanted)
        waiting = [actor for actor in self._actors.values() if not actor.host]
        for actor in waiting[: max(len(self._actors) - self.size, 0)]:
            self._kill(actor)
        while len(self._actors) < self.size:
            handle = self._remote.remote(self.wanted, self.store)
            self._actors[self._next] = _Actor(self._next, handle, handle.place.remote())
            self._next += 1

    def _actor_class(self) -> Any:
        options: dict[str, Any] = {"num_cpus": self.wanted.threads, "num_gpus": self.wanted.gpus}
        if self.wanted.memory_gb:
            options["memory"] = int(self.wanted.memory_gb * 1e9)
        # One thread works at a task; others answer whether it lives, and tell it to stop.
        options |= {"max_concurrency": 3, "max_restarts": 0, "max_task_retries": 0}
        return self.ray.remote(**options)(_RayWorker)


class _RayWorker:
    """The actor: a `Worker`, made where it runs."""

    def __init__(self, wanted: Wanted, store: Store | None) -> None:
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(wanted.threads))
        if not wanted.gpus:  # reserved none, so it must not use one: `device: auto` would
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        from gs_ssd.batch.worker import Worker

        self.worker = Worker(wanted.threads, store, wanted.memory_gb)

    def place(self) -> Place:
        """Where this is."""
        import socket

        import ray

        node = ray.get_runtime_context().get_node_id()
        return Place(socket.gethostname(), node, os.environ.get("CUDA_VISIBLE_DEVICES"))

    def run(self, task: Task, folder: str) -> Outcome:
        return self.worker.run(task, Path(folder))

    def beat(self) -> int:
        return self.worker.beat()

    def stop(self) -> None:
        self.worker.stop()
