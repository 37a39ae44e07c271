"""One worker, many assets: the same bytes as single runs, whatever came before or between."""

import errno
from pathlib import Path

import numpy as np
import pytest

from gs_ssd import config as configs
from gs_ssd import memory
from gs_ssd.batch import worker as workers
from gs_ssd.batch.storage import Store
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Worker
from gs_ssd.errors import UserError
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
SHORT = ("num_steps=4", "output.turntable_frames=0", "output.preview_every=0")
SHORT += ("output.checkpoint_every=2", "initialize.num_points=50")
FILES = ("point_cloud.ply", "index.html", "views.png", "config.yaml")


def task(name: str, *settings: str) -> Task:
    return Task(name, configs.load(SMOKE, [*SHORT, *settings]))


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def single(folder: Path, task: Task) -> list[bytes]:
    Trainer(task.config, folder).fit()
    return content(folder)


def test_a_shared_prior_changes_no_byte(tmp_path: Path) -> None:
    loads, worker = [], Worker(threads=1)
    tasks = [task("a"), task("b", "prompt=a blue disc", "seed=3"), task("c", "guidance.M=900")]
    for one in tasks:
        outcome = worker.run(one, tmp_path / one.name)
        assert (outcome.state, outcome.steps) == ("done", 4), outcome.reason
        assert set(FILES) <= set(outcome.files)
        loads.append(worker.prior(one))
    assert loads[0] is loads[1] is loads[2]
    for one in tasks:
        assert content(tmp_path / one.name) == single(tmp_path / f"{one.name}-single", one)


def test_another_prior_is_loaded_where_a_task_wants_one() -> None:
    worker = Worker()
    first = worker.prior(task("a"))
    assert worker.prior(task("b", "prior.dtype=float32")) is not first


def test_a_half_made_asset_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    one = task("a")
    Trainer(one.config, tmp_path / "a").fit(until=2)
    outcome = Worker().run(one, tmp_path / "a")
    assert (outcome.state, outcome.steps) == ("done", 4)
    assert content(tmp_path / "a") == single(tmp_path / "single", one)


def test_stopped_it_saves_and_takes_nothing_more(tmp_path: Path) -> None:
    worker = Worker()
    worker.stop()
    outcome = worker.run(task("a"), tmp_path / "a")
    assert (outcome.state, outcome.steps) == ("stopped", 1)
    assert list((tmp_path / "a" / "checkpoints").glob("step_*.pt"))
    assert Worker().run(task("a"), tmp_path / "a").state == "done"


def test_a_worker_that_has_grown_too_large_says_so_and_is_replaced(tmp_path: Path) -> None:
    room = (memory.resident() + 400e6) / 1e9
    outcome = Worker(memory_gb=room).run(task("a"), tmp_path / "a")
    assert (outcome.state, outcome.worn) == ("done", False)
    ballast = np.ones(500_000_000, np.uint8)
    outcome = Worker(memory_gb=room).run(task("b"), tmp_path / "b")
    assert (outcome.state, outcome.again, outcome.worn) == ("failed", True, True)
    assert f"--memory-per-worker is {room:g}" in outcome.reason
    del ballast
    assert Worker(memory_gb=room).run(task("b"), tmp_path / "b").state == "done"


def test_what_is_wrong_with_a_task_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, real = Worker(), workers.Trainer

    def trainer(*args: object, **kwargs: object) -> Trainer:
        raise errors.pop()

    full = UserError("cannot write")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    errors: list[Exception] = [full, UserError("no such file"), ZeroDivisionError("by zero")]
    monkeypatch.setattr(workers, "Trainer", trainer)
    found = [worker.run(task("a"), tmp_path / "a") for _ in range(3)]
    assert [(one.again, one.disk) for one in found] == [(True, False), (False, False), (True, True)]
    assert "ZeroDivisionError" in found[0].reason
    monkeypatch.setattr(workers, "Trainer", real)
    assert worker.run(task("a"), tmp_path / "a").state == "done"


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_behind_a_url_lies_what_a_folder_would_hold(tmp_path: Path, kind: str) -> None:
    url = f"file://{tmp_path}/there" if kind == "file" else f"memory://batch-{tmp_path.name}"
    behind_a_url(Store(url), tmp_path)


def behind_a_url(store: Store, tmp_path: Path) -> None:
    """A task stopped on one machine goes on, on another, to the bytes of a single run."""
    store.check()
    assert store.names() == set()
    one, first, second = task("a"), Worker(store=store), Worker(store=store)
    first.stop()
    assert first.run(one, tmp_path / "node1" / "a").state == "stopped"
    assert not (tmp_path / "node1" / "a").exists()
    outcome = second.run(one, tmp_path / "node2" / "a")
    assert (outcome.state, outcome.steps) == ("done", 4), outcome.reason
    assert store.names() == {"a"}
    store.pull("a", tmp_path / "back" / "a")
    assert content(tmp_path / "back" / "a") == single(tmp_path / "single", one)
    steps = sorted(path.name for path in (tmp_path / "back" / "a" / "checkpoints").iterdir())
    assert steps == ["step_000002.pt", "step_000004.pt"]  # old ones went there too


def test_an_s3_server_is_such_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for name, value in (
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="assets")
        behind_a_url(Store("s3://assets/batch"), tmp_path)
        with pytest.raises(UserError, match="cannot be used"):
            Store("s3://elsewhere/batch").check()
    finally:
        server.stop()
