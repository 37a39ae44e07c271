"""`gs-ssd batch` as a user calls it, on real Ray workers, some of which are killed."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from fsspec.implementations.local import LocalFileSystem

from gs_ssd import cli
from gs_ssd import config as configs
from gs_ssd.commands import batch
from gs_ssd.locks import held
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
SHORT = ("num_steps=4", "output.turntable_frames=0", "output.preview_every=0")
SHORT += ("output.checkpoint_every=2", "initialize.num_points=50")
FILES = ("point_cloud.ply", "index.html", "views.png", "config.yaml")


def words(tmp_path: Path, count: int, *more: str) -> list[str]:
    prompts = tmp_path / "prompts.csv"
    rows = "".join(f"a red disc,{i}\n" for i in range(count))
    prompts.write_text(f"prompt,seed\n{rows}")
    out = str(tmp_path / "out")
    return ["batch", str(prompts), "--config", str(SMOKE), *SHORT, "--out", out, *more]


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "out" / "jobs.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def states(tmp_path: Path, state: str) -> Counter[str]:
    return Counter(line["name"] for line in lines(tmp_path) if line["state"] == state)


def test_in_this_process_then_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(tmp_path, 2, "--workers", "0")) == 0
    assert states(tmp_path, "done") == {"a-red-disc-seed0": 1, "a-red-disc-seed1": 1}
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'href="a-red-disc-seed1/index.html"' in page
    assert 'src="a-red-disc-seed1/views.png"' in page
    assert "2 of 2 done" in page
    assert cli.main(words(tmp_path, 3, "--workers", "0")) == 0
    assert "2 of 3 assets are there already" in capsys.readouterr().out
    assert states(tmp_path, "running").total() == states(tmp_path, "done").total() == 3


@pytest.mark.parametrize("behind_url", [False, True])
def test_what_somebody_deleted_is_made_again(
    behind_url: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = words(tmp_path, 2, "--workers", "0", "--scratch", str(tmp_path / "scratch"))
    call[call.index("--out") + 1] = f"{'file://' * behind_url}{tmp_path / 'out'}"
    assert cli.main(call) == 0
    made = (tmp_path / "out" / "a-red-disc-seed0" / "point_cloud.ply").read_bytes()
    shutil.rmtree(tmp_path / "out" / "a-red-disc-seed0")
    capsys.readouterr()
    assert cli.main(call) == 0
    said = capsys.readouterr().out
    assert "made again, as their folders are gone: a-red-disc-seed0" in said
    assert "1 of 2 assets are there already" in said
    assert (tmp_path / "out" / "a-red-disc-seed0" / "point_cloud.ply").read_bytes() == made
    assert states(tmp_path, "done") == {"a-red-disc-seed0": 2, "a-red-disc-seed1": 1}


def test_bad_rows_are_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = words(tmp_path, 1, "--workers", "0")
    prompts = Path(call[1])
    prompts.write_text('prompt,seed\na red disc,0\na red disc,0\n,1\n"a disc",x\n')
    assert cli.main(call) == 2
    said = capsys.readouterr().err
    assert [f"line {i}" in said for i in (2, 3, 4, 5)] == [True, True, True, True]
    assert not (tmp_path / "out").exists()
    assert cli.main([*call, "--skip-bad"]) == 0
    assert list(states(tmp_path, "done")) == ["a-red-disc-seed0"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--gpus-per-worker", "nan"),
        ("--gpus-per-worker", "inf"),
        ("--gpus-per-worker", "1.5"),
        ("--gpus-per-worker", "-1"),
        ("--memory-per-worker", "inf"),
        ("--hang", "nan"),
        ("--hang", "inf"),
        ("--threads", "0"),
        ("--threads", "9" * 30),
    ],
)
def test_numbers_that_no_worker_can_have_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert cli.main([*words(tmp_path, 1, "--workers", "0", "--dry-run"), option, value]) == 2
    assert f"{option} is " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_batch_that_runs_is_not_called_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path / "out", "gs-ssd batch"):
        code = subprocess.run(
            [sys.executable, "-m", "gs_ssd.cli", *words(tmp_path, 1, "--workers", "0")],
            capture_output=True,
            text=True,
            check=False,
        )
    assert code.returncode == 2
    assert "in use by process" in code.stderr


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(words(tmp_path, 1)) == 2
    assert "gs-ssd[ray]" in capsys.readouterr().err


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_doubled_when_workers_and_the_driver_are_killed(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray")
    count = 6
    call = words(tmp_path, count, "--workers", "2", "--deaths", "9")
    driver = start(call, tmp_path)
    wait_for(lambda: states(tmp_path, "done").total() >= 1, driver)
    kill_a_worker(driver, tmp_path)
    wait_for(lambda: states(tmp_path, "retry").total() >= 1, driver)
    wait_for(lambda: states(tmp_path, "done").total() >= 2, driver)
    driver.kill()
    driver.wait()
    before = set(states(tmp_path, "done"))
    assert len(before) < count
    driver = start(call, tmp_path)
    assert driver.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert set(states(tmp_path, "done").values()) == {1}
    assert len(states(tmp_path, "done")) == count
    for name in (sorted(before)[0], sorted(set(states(tmp_path, "retry")))[0]):
        single, made = tmp_path / f"single-{name}", tmp_path / "out" / name
        Trainer(configs.load(made / "config.yaml"), single).fit()
        assert [(made / f).read_bytes() for f in FILES] == [
            (single / f).read_bytes() for f in FILES
        ]


@pytest.mark.timeout(600)
def test_asked_to_stop_it_saves_and_the_same_call_goes_on_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray")
    # Long enough that an idle machine is asked in the middle of it, both times.
    call = words(tmp_path, 2, "--workers", "1", "num_steps=800", "output.checkpoint_every=200")
    first, made = "a-red-disc-seed0", tmp_path / "out" / "a-red-disc-seed0"
    # A terminal sends Ctrl-C to all processes of the group, `kill` to one.
    for number, send in ((signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)):
        steps = sum(line.get("steps", 0) for line in lines(tmp_path))
        driver = start(call, tmp_path)
        wait_for(lambda steps=steps: steps_of(made) > steps + 2, driver)
        asked = time.monotonic()
        send(driver.pid, number)
        assert driver.wait(timeout=120) == 128 + number, (tmp_path / "log").read_text()
        assert time.monotonic() - asked < 60
        ended = [line for line in lines(tmp_path) if "steps" in line]
        assert [line["state"] for line in ended] == ["queued"] * len(ended)
        assert (made / "checkpoints" / f"step_{ended[-1]['steps']:06d}.pt").is_file()
        assert "the same call again continues" in (tmp_path / "log").read_text()
    driver = start(call, tmp_path)
    assert driver.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert states(tmp_path, "running") == {first: 3, "a-red-disc-seed1": 1}
    assert states(tmp_path, "done").total() == 2
    Trainer(configs.load(made / "config.yaml"), tmp_path / "single").fit()
    assert [(made / f).read_bytes() for f in FILES] == [
        (tmp_path / "single" / f).read_bytes() for f in FILES
    ]


def steps_of(folder: Path) -> int:
    """Taken and written down, of an asset that is being made."""
    path = folder / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def start(
    call: list[str], tmp_path: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with (tmp_path / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gs_ssd.cli", *call],
            stdout=log,
            stderr=log,
            env=os.environ | (env or {}),
            start_new_session=True,
        )


def wait_for(condition: Any, driver: subprocess.Popen[bytes], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, "the driver ended too early"
        assert time.monotonic() < end, "too slow"
        time.sleep(0.1)


FAULTS = """
import importlib.abc, importlib.util, os, pathlib, signal, sys, time

class AfterImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "gs_ssd.batch.worker":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), change(module.Worker))
        return spec

def change(worker):
    train = worker._train
    def faulty(self, task, folder):
        first = not (folder.with_suffix(".tried")).exists()
        folder.with_suffix(".tried").touch()
        if "dies" in task.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "sleeps" in task.name and first:
            time.sleep(3600)
        if "stops" in task.name and first:
            os.kill(os.getpid(), signal.SIGSTOP)
        return train(self, task, folder)
    worker._train = faulty

sys.meta_path.insert(0, AfterImport())
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_that_kills_its_worker_is_set_aside_and_one_that_hangs_is_tried_again(
    tmp_path: Path,
) -> None:
    """Real workers: one asset always kills its process, of one the first attempt sleeps, of one it
    stops the whole process, so that not even a question is answered."""
    pytest.importorskip("ray")
    call = words(tmp_path, 0, "--workers", "2", "--hang", "40", "--retries", "1")
    names = ("dies", "sleeps", "stops", "good")
    rows = "".join(f"a red disc,{name}\n" for name in names)
    Path(call[1]).write_text(f"prompt,name\n{rows}")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FAULTS)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    driver = start(call, tmp_path, {"PYTHONPATH": path})
    assert driver.wait(timeout=500) == 1, (tmp_path / "log").read_text()
    assert set(states(tmp_path, "done")) == {"sleeps-seed0", "stops-seed0", "good-seed0"}
    assert states(tmp_path, "failed") == {"dies-seed0": 1}
    tried = states(tmp_path, "running")
    assert tried["dies-seed0"] == 3
    assert tried["sleeps-seed0"] == tried["stops-seed0"] == 2
    reasons = {line["name"]: line["reason"] for line in lines(tmp_path) if "reason" in line}
    assert "its worker died" in reasons["dies-seed0"]
    for name in ("sleeps-seed0", "stops-seed0"):
        assert "no step for" in reasons[name]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_asset_for_which_the_disk_has_no_room_fails_and_the_ledger_says_so(
    tmp_path: Path,
) -> None:
    """A real file system of one megabyte, in a name space of its own; OUT is elsewhere."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mount = f"mount -t tmpfs -o size=100k tmpfs {scratch}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this system lets nobody mount a small file system")
    call = words(tmp_path, 1, "--workers", "0", "--scratch", str(scratch), "--retries", "1")
    call[call.index("--out") + 1] = f"file://{tmp_path}/out"
    rest = (
        "import gs_ssd.batch.driver as d, gs_ssd.cli as c, sys; d.REST_S = 1.0; sys.exit(c.main())"
    )
    batch = shlex.join([sys.executable, "-c", rest, *call])
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && {batch}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    assert states(tmp_path, "running") == {"a-red-disc-seed0": 2}
    assert "No space left" in lines(tmp_path)[-1]["reason"]
    assert not states(tmp_path, "done")


def test_a_place_that_cannot_be_reached_for_a_while_does_not_end_the_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = words(tmp_path, 2, "--workers", "0", "--scratch", str(tmp_path / "scratch"))
    call[call.index("--out") + 1] = f"file://{tmp_path}/out"
    calls, put = [], LocalFileSystem.put_file

    def put_file(self: Any, here: str, there: str, **more: Any) -> None:
        if Path(there).name == "jobs.jsonl":
            calls.append(there)
            if len(calls) in away:
                raise TimeoutError("connect timeout on endpoint")
        put(self, here, there, **more)

    monkeypatch.setattr(LocalFileSystem, "put_file", put_file)
    monkeypatch.setattr(batch, "SAVE_S", 0.0)
    away = {1}
    assert cli.main(call) == 0
    assert "connect timeout on endpoint; check name and access; tried" in capsys.readouterr().err
    assert states(tmp_path, "done").total() == 2
    away, calls[:] = {1}, []
    monkeypatch.setattr(batch, "SAVE_S", 1000.0)
    assert cli.main(call) == 2  # the very last one
    assert "the same call again" in capsys.readouterr().err
    assert states(tmp_path, "done").total() == 2


def test_a_folder_that_is_moved_takes_the_batch_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the assets to come lie where it was, and the ledger that says so does not."""
    finished = batch.Progress.finished

    def move(self: batch.Progress, task: Any, outcome: Any) -> None:
        finished(self, task, outcome)
        (tmp_path / "out").rename(tmp_path / "moved")

    monkeypatch.setattr(batch.Progress, "finished", move)
    call = words(tmp_path, 3, "--workers", "0")
    assert cli.main(call) == 2
    assert "out was moved or deleted" in (said := capsys.readouterr().err)
    assert "call it again with --out where" in said
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    (tmp_path / "moved").rename(tmp_path / "out")
    assert cli.main(call) == 0
    assert states(tmp_path, "running").total() == states(tmp_path, "done").total() == 3


def kill_a_worker(driver: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """One that has a task at that moment."""
    busy: list[psutil.Process] = []
    while not busy:
        assert driver.poll() is None, "the driver ended too early"
        children = psutil.Process(driver.pid).children(recursive=True)
        for child in children:
            try:
                if "_RayWorker.run" in " ".join(child.cmdline()):
                    busy.append(child)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    busy[0].send_signal(signal.SIGKILL)
