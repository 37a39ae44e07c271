"""The cluster that workers live on: joined, or refused in a sentence; how many it has room for."""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from gs_ssd import interrupts
from gs_ssd.errors import UserError

KNOCK_S, ANSWER_S = 5.0, 20.0
"""What a head may take to accept a connection, and to speak. Ray itself waits for minutes."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What each worker gets."""

    workers: int | None = None
    """None: as many as the cluster has room for."""
    threads: int = 1
    gpus: float | None = None
    """None: one where the cluster has any, else none."""
    memory_gb: float | None = None

    @property
    def needs(self) -> str:
        """In words."""
        parts = [f"{self.threads} CPU"]
        parts += [f"{self.gpus:g} GPU"] if self.gpus else []
        parts += [f"{self.memory_gb:g} GB"] if self.memory_gb else []
        return ", ".join(parts)


def load_ray() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # 30 are few on a busy machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # ours to say, see _RayWorker
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "workers need Ray: pip install 'gs-ssd[ray]' (--workers 0 makes one asset after the"
            " other in this process, without it)"
        ) from error
    return ray


def connect(ray: Any, address: str | None, wanted: Wanted) -> None:
    """Join the cluster at `address`; None starts one on this machine.

    Raises:
        UserError: none is there, or it does not answer.
    """
    if address is not None and not address.strip():
        raise UserError("--address is empty; name a cluster (auto, HOST:PORT), or leave it out")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers = wanted.workers or max(cores // wanted.threads, 1)
        # More workers than cores is the user's word, and Ray must not wait for room.
        options |= {"num_cpus": max(cores, workers * wanted.threads), "include_dashboard": False}
        address = "local"
    else:
        _knock(ray, address)
    try:
        with interrupts.kept():
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        reason = f"{said[0]} {said[-1].strip()}" if said[0].endswith(":") else said[0]
        raise UserError(f"--address {address}: no Ray cluster answers ({reason})") from error


def _knock(ray: Any, address: str) -> None:
    """See that a Ray head speaks at HOST:PORT; other addresses are for Ray to look up."""
    scheme, _, place = address.strip().rpartition("://")
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    if scheme not in ("", "ray") or not host or not port.isdigit():
        return
    # Ray binds a head to the machine's own address, and reads loopback as that.
    hosts = [host, ray.util.get_node_ip_address()] if host in LOOPBACK else [host]
    reason = ""
    for host in hosts:
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
            break
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    else:
        raise UserError(
            f"--address {address}: no Ray cluster answers ({reason}); start one there with"
            " `ray start --head`, or leave --address out"
        )
    if os.environ.get("RAY_USE_TLS", "0") in ("", "0") and importlib.util.find_spec("grpc"):
        _await_speech(f"{host}:{port}", address)


def _await_speech(place: str, address: str) -> None:
    import grpc

    channel = grpc.insecure_channel(place, options=(("grpc.enable_http_proxy", 0),))
    with contextlib.closing(channel):
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
        except grpc.FutureTimeoutError as error:
            raise UserError(
                f"--address {address}: something listens there, but for {ANSWER_S:g} s it has not"
                " answered as a Ray cluster does; is that the port of `ray start --head` (6379),"
                " and does `ray status` answer?"
            ) from error


def completed(wanted: Wanted, resources: Mapping[str, float]) -> Wanted:
    """With the GPUs that a worker gets on a cluster with these resources."""
    if wanted.gpus is not None:
        return wanted
    return dataclasses.replace(wanted, gpus=1.0 if resources.get("GPU", 0) >= 1 else 0.0)


def is_gone(nodes: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Whether a node has left the cluster. Ray itself sees a node that was cut off after half a
    minute, and its workers' ends at once; so the node is asked."""
    for node in nodes:
        if node["NodeID"] == name and node["Alive"]:
            try:
                place = node["NodeManagerAddress"], node["NodeManagerPort"]
                socket.create_connection(place, timeout=KNOCK_S).close()
            except OSError:
                return True
            return False
    return True


def room(nodes: Iterable[Mapping[str, Any]], wanted: Wanted) -> int:
    """How many workers there may be: as many as asked for, and as fit on these nodes."""
    found = 0
    for node in nodes:
        if not node["Alive"]:
            continue
        has = node["Resources"]
        fits = [int(has.get("CPU", 0.0) // wanted.threads)]
        if wanted.gpus:
            fits.append(_on_gpus(has.get("GPU", 0.0), wanted.gpus))
        if wanted.memory_gb:
            fits.append(int(has.get("memory", 0.0) // (wanted.memory_gb * 1e9)))
        found += min(fits)
    return found if wanted.workers is None else min(wanted.workers, found)


def _on_gpus(there: float, each: float) -> int:
    """A worker with a part of a GPU has it on one GPU."""
    return int(there) * int(1 / each + 1e-6) if each < 1 else int(there / each + 1e-6)
