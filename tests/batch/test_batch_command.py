"""`gs-ssd batch` as a user calls it, on real Ray workers, some of which are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from gs_ssd import cli
from gs_ssd import config as configs
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


def start(call: list[str], tmp_path: Path) -> subprocess.Popen[bytes]:
    with (tmp_path / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gs_ssd.cli", *call], stdout=log, stderr=log, env=os.environ
        )


def wait_for(condition: Any, driver: subprocess.Popen[bytes], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, "the driver ended too early"
        assert time.monotonic() < end, "too slow"
        time.sleep(0.1)


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
