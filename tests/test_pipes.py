"""A named pipe in the place of a file is refused, by every command that reads one: none waits for
somebody to write into it."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from gs_ssd import cli

SMOKE = str(Path(__file__).parents[1] / "configs" / "smoke.yaml")
QUICK = ["num_steps=1", "output.turntable_frames=0", "output.preview_every=0"]
PATIENCE_S = 60

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("avatar") / "run"
    words = ["asset=avatar", "avatar.surface_points=500", "initialize.num_points=20", *QUICK]
    assert cli.main(["train", "--config", SMOKE, "--out", str(run), *words]) == 0
    return run


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "prompts.txt").write_text("a red disc\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_of(words):
    """Of a call in a thread of its own; None: it waits."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(words)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return codes[0] if codes else None


@pytest.mark.parametrize(
    ("pipe", "words"),
    [
        ("a.ply", ["export", "a.ply", "-o", "b.spz"]),
        ("a.ply", ["view", "a.ply", "--no-browser"]),
        ("a.ply", ["inspect", "a.ply"]),
        ("a.json", ["export", "axes", "-o", "b.html", "--views", "a.json"]),
        ("a.bvh", ["export", "run", "--clip", "a.bvh", "-o", "frames/b.ply"]),
        ("a.bvh", ["train", "--config", SMOKE, "asset=avatar", "avatar.poses.files=[a.bvh]"]),
        ("a.yaml", ["train", "--config", "a.yaml"]),
        ("a.jsonl", ["batch", "a.jsonl", "--dry-run"]),
        ("a.json", ["bench", "--suite", "a.json", "--config", SMOKE]),
        ("results.jsonl", ["bench", "--suite", "dev", "--config", SMOKE, "--out", ".", "--report"]),
        ("run/metrics.jsonl", ["train", "--resume", "--out", "run"]),
        ("run/environment.json", ["train", "--resume", "--out", "run"]),
        ("run/avatar.npz", ["export", "run", "--pose", "t", "-o", "b.ply"]),
        ("run/.gs-ssd.lock", ["train", "--resume", "--out", "run"]),
        ("jobs.jsonl", ["batch", "prompts.txt", "--config", SMOKE, "--out", ".", "--workers", "0"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_it_is_refused(folder, pipe, words):
    (folder / pipe).unlink(missing_ok=True)
    os.mkfifo(folder / pipe)
    assert code_of(words) == 2


def test_a_gallery_goes_without_the_picture(folder):
    (folder / "run" / "views.png").unlink()
    os.mkfifo(folder / "run" / "views.png")
    assert code_of(["gallery", "."]) == 0


def test_the_studio_is_told_of_no_settings(folder):
    from gs_ssd.studio.runs import RunsFolder

    for name in ("config.yaml", "metrics.jsonl"):
        (folder / "run" / name).unlink()
        os.mkfifo(folder / "run" / name)
    facts = RunsFolder(folder).facts("run")
    assert (facts.settings, facts.metrics) == ({}, {})
