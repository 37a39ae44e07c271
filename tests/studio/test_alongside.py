"""`gs-ssd train --viewer`: the page over a training in its own process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gs_ssd.run import checkpoint as checkpoints

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")


@pytest.fixture
def training(tmp_path, client):
    """A training with its page, and a client of its server."""
    command = [sys.executable, "-m", "gs_ssd.cli", "train", "--config", SMOKE]
    command += ["--viewer", "--viewer-port", "0", "--out", str(tmp_path / "a-disc")]
    process = subprocess.Popen(
        [*command, "num_steps=5000", "output.checkpoint_every=1000"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "#/run/a-disc" in line
    page = client(process, line.split("live view: ")[1].split("/#")[0])
    page.wait_for_folder("a-disc")
    yield page
    if process.poll() is None:
        process.kill()
    process.wait()


def test_it_is_watched_paused_exported_and_stopped(training, tmp_path):
    training.wait("a-disc", lambda run: run["completed"] > 3)
    assert training.ask("GET", "/api/runs/a-disc/frame")[0] == 200
    training.ask("POST", "/api/runs/a-disc/pause")
    paused = training.wait("a-disc", lambda run: run["state"] == "paused")
    status, written = training.ask("POST", "/api/runs/a-disc/exports/blender")
    assert status == 200, written
    assert (tmp_path / "a-disc" / "exports" / written["file"]).is_file()
    assert f".step_{paused['completed']:06d}.blender.ply" in written["file"]
    assert (tmp_path / "a-disc" / "live.ply").is_file()
    status, refused = training.ask("POST", "/api/runs", {"prompt": "a disc", "preset": "tiny"})
    assert (status, "studio" in refused["error"]) == (400, True)
    assert training.ask("GET", "/api/runs/a-disc")[1]["completed"] == paused["completed"]
    training.ask("POST", "/api/runs/a-disc/continue")
    training.wait("a-disc", lambda run: run["completed"] > paused["completed"])
    training.ask("POST", "/api/runs/a-disc/stop")
    output, _ = training.process.communicate(timeout=120)
    assert "Continue with" in output
    assert training.process.returncode == 130
    saved = checkpoints.listing(tmp_path / "a-disc" / "checkpoints")
    assert checkpoints.load(saved[-1]).step > paused["completed"]
    assert not (tmp_path / "a-disc" / "live.ply").exists()  # of the step before
    assert not (tmp_path / ".gs-ssd-studio").exists()


def test_a_pause_does_not_swallow_ctrl_c(training, tmp_path):
    training.wait("a-disc", lambda run: run["completed"] > 0)
    training.ask("POST", "/api/runs/a-disc/pause")
    training.wait("a-disc", lambda run: run["state"] == "paused")
    training.process.send_signal(signal.SIGINT)
    training.process.communicate(timeout=120)
    assert training.process.returncode == 130
    assert checkpoints.listing(tmp_path / "a-disc" / "checkpoints")


@pytest.mark.parametrize("options", [("--viewer-host", "no.such.host.invalid"),
                                     ("--viewer-port", "70000")])  # fmt: skip
def test_an_address_that_is_not_ours_is_a_sentence(tmp_path, options, capsys):
    from gs_ssd import cli

    command = ["train", "--config", SMOKE, "--viewer", *options, "--out", str(tmp_path / "a")]
    assert cli.main(command) == 2
    assert options[0] in capsys.readouterr().err
