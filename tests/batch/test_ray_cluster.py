"""Which clusters are refused, in how many words and seconds, and where workers land on one."""

import http.server
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gs_ssd import cli, interrupts
from gs_ssd import config as configs
from gs_ssd.batch import ray_cluster
from gs_ssd.batch.ray_cluster import Wanted, completed, room
from gs_ssd.batch.ray_pool import RayPool
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome
from gs_ssd.errors import UserError

ray = pytest.importorskip("ray")
SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


@pytest.fixture
def mute() -> Iterator[str]:
    """Accepts connections and says nothing, as a head that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *words: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """Something else that speaks."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("mute", "has not answered"),
        ("web", "has not answered"),
        ("closed", "refused"),
        ("nowhere.invalid:6379", "no Ray cluster answers"),
        ("127.0.0.1:99999", "no Ray cluster answers"),
    ],
)
def test_an_address_where_no_cluster_answers_is_said_in_a_sentence(
    place: str,
    word: str,
    scheme: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(ray_cluster, "ANSWER_S", 1.0)
    address = scheme + (place if ":" in place else request.getfixturevalue(place))
    began = time.monotonic()
    said = refused(tmp_path, address, capsys)
    assert address in said
    assert word in said
    assert time.monotonic() - began < 20  # Ray's own patience is more than a minute


@pytest.mark.parametrize("address", ["nonsense", "a:b", " ", "gopher://localhost:1"])
def test_an_address_that_is_none_is_said_in_a_sentence(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--address" in refused(tmp_path, address, capsys)


def refused(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> str:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red disc\n")
    out = tmp_path / "out"
    words = [str(prompts), "--config", str(SMOKE), "--out", str(out), "--address", address]
    assert cli.main(["batch", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    assert not list(out.glob("*/"))
    return said


def node(**resources: Any) -> dict[str, Any]:
    return {"Alive": True, "Resources": {kind: float(much) for kind, much in resources.items()}}


def test_room_is_counted_node_by_node() -> None:
    nodes = [node(CPU=8, GPU=2, memory=20e9), node(CPU=3), {"Alive": False, "Resources": {}}]
    assert room(nodes, Wanted(gpus=0.0)) == 11
    assert room(nodes, Wanted(gpus=0.0, threads=2)) == 5
    assert room(nodes, Wanted(gpus=0.0, workers=4)) == 4
    assert room(nodes, Wanted(gpus=1.0)) == 2
    assert room(nodes, Wanted(gpus=0.5)) == 4
    assert room(nodes, Wanted(gpus=0.4)) == 4  # two to a GPU; what is left of each is too small
    assert room(nodes, Wanted(gpus=0.0, memory_gb=6.0)) == 3
    assert room(nodes, Wanted(gpus=2.0, threads=9)) == 0


def test_workers_get_a_gpu_each_where_a_cluster_has_some() -> None:
    assert completed(Wanted(), {"CPU": 4.0}).gpus == 0
    assert completed(Wanted(), {"CPU": 4.0, "GPU": 2.0}).gpus == 1
    assert completed(Wanted(gpus=0.25), {"GPU": 2.0}).gpus == 0.25


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node that says it has two cores and a GPU, joined."""
    from ray.cluster_utils import Cluster

    with interrupts.kept():  # a node started in this process handles SIGTERM in its own way
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
        ray_cluster.connect(ray, made.address, Wanted())
        yield made
        ray.shutdown()
        made.shutdown()


def test_joining_a_cluster_leaves_the_handlers_of_signals_alone(cluster: Any) -> None:
    ray.shutdown()
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        ray_cluster.connect(ray, cluster.address, Wanted())
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def workers_of(pool: RayPool, count: int) -> list[str | None]:
    """The GPUs that its workers see, once there are so many."""
    end = time.monotonic() + 120
    while len(pool.idle()) < count:
        assert time.monotonic() < end, pool.waiting
        pool.wait(0.5)
    return [worker.devices for worker in pool.idle()]


def test_two_workers_share_a_gpu_and_those_without_see_none(cluster: Any, tmp_path: Path) -> None:
    pool = RayPool(tmp_path, Wanted(gpus=0.5), address=cluster.address)
    assert pool.size == 2
    assert workers_of(pool, 2) == ["0", "0"]
    pool.close()
    pool = RayPool(tmp_path, Wanted(gpus=0.0, workers=1), address=cluster.address)
    assert workers_of(pool, 1) == [""]
    pool.close()
    with pytest.raises(UserError, match=r"no room for a worker with 1 CPU, 2 GPU"):
        RayPool(tmp_path, Wanted(gpus=2.0), address=cluster.address)
    with pytest.raises(UserError, match=r"no room for a worker with 3 CPU;"):
        RayPool(tmp_path, Wanted(gpus=0.0, threads=3), address=cluster.address)


def test_a_cluster_that_others_fill_is_waited_for_and_said(cluster: Any, tmp_path: Path) -> None:
    @ray.remote(num_cpus=2)
    class Other:
        def here(self) -> bool:
            return True

    other = Other.remote()
    assert ray.get(other.here.remote())
    pool = RayPool(tmp_path, Wanted(gpus=0.0, workers=1), address=cluster.address)
    assert pool.wait(1.0) == []
    assert "0 of 2 CPUs free" in pool.waiting
    ray.kill(other)
    workers_of(pool, 1)
    assert not pool.waiting
    pool.close()


def test_a_worker_that_dies_with_its_node_is_told_from_one_that_dies_alone(
    cluster: Any, tmp_path: Path
) -> None:
    """Only the second counts against its asset. Ray itself notices a lost node much later."""
    task = Task("long", configs.load(SMOKE, ["num_steps=100000", "output.preview_every=0"]))
    for number in range(2):
        node = cluster.add_node(num_cpus=3)
        pool = RayPool(tmp_path, Wanted(1, threads=3, gpus=0.0), address=cluster.address)
        workers_of(pool, 1)
        pool.begin(pool.idle()[0], task)
        end = time.monotonic() + 120
        while pool.beats()["long"] < 2:
            assert time.monotonic() < end
        if number:
            os.kill(pid_of_worker(), signal.SIGKILL)
        else:
            cluster.remove_node(node, allow_graceful=False)
        outcomes: list[Outcome] = []
        while not outcomes:
            assert time.monotonic() < end
            outcomes = pool.wait(1.0)
        assert (outcomes[0].state, outcomes[0].again) == ("lost", True)
        assert outcomes[0].node_lost == (number == 0)
        pool.close()
        if number:
            cluster.remove_node(node, allow_graceful=False)


def pid_of_worker() -> int:
    """Of the one that works at a task in this session."""
    own = psutil.Process().children(recursive=True)
    return next(one.pid for one in own if "ray::_RayWorker" in " ".join(one.cmdline()))
