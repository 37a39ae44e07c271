"""The command line: dry runs, folders, exit codes, and bad input that leaves earlier results
alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from gs_ssd import cli
from gs_ssd.interrupts import Interrupted

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
FAST = ["num_steps=2", "output.turntable_frames=0", "output.preview_every=0"]


def run(arguments: list[str]) -> int:
    return cli.main(["train", *arguments])


def test_a_dry_run_prints_all_settings_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        run(["--config", SMOKE, "seed=5", "--prompt", "a blue disc", "guidance.M=9", "--dry-run"])
        == 0
    )
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["seed"], printed["prompt"], printed["guidance"]["M"]) == (5, "a blue disc", 9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a red disc #1", "on", "Zombie: head"])
def test_prompt_as_an_option_and_as_a_setting_are_the_same(capsys, text):
    for words in (["--prompt", text], [f"prompt={text}"]):
        assert run(["--config", SMOKE, *words, "--dry-run"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["prompt"] == text


def test_a_prompt_that_is_no_text_is_refused_before_the_run(tmp_path, capsys):
    assert (
        run(["--config", SMOKE, "--prompt", "a \udcff disc", "--out", str(tmp_path / "run")]) == 2
    )
    assert "it holds bytes that are no text" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_says_how_to_begin(capsys):
    with pytest.raises(SystemExit) as stop:
        run(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(
        word in text
        for word in ("--resume", "point_cloud.ply", "guidance.estimator", "quickstart.yaml")
    )


def test_a_run_a_refusal_to_overwrite_and_an_overwrite(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["--config", SMOKE, "--out", str(out), *FAST]) == 0
    before = (out / "point_cloud.ply").read_bytes()
    assert run(["--config", SMOKE, "--out", str(out), *FAST, "seed=1"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (out / "point_cloud.ply").read_bytes() == before
    assert run(["--config", SMOKE, "--out", str(out), *FAST, "seed=1", "--overwrite"]) == 0
    assert (out / "point_cloud.ply").read_bytes() != before


LEFT = (
    "point_cloud.ply",
    "index.html",
    "turntable.mp4",
    "turntable.webp",
    "views.png",
    "process.mp4",
    "metrics.jsonl",
)
FULL = (
    "output.turntable_frames=2",
    "output.test_views=2",
    "output.process_frames=2",
    "output.preview_every=1",
)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "bad",
    [
        ["guidance.estimator=sdss"],
        ["--prompt", " "],
        ["device=cuda:99"],
        ["prior.model=/no/such/model"],
        ["viewpoints.radius=[5,4]"],
        ["output.wandb=mine"],
        ["--resume"],
    ],
)
def test_an_overwrite_that_is_refused_leaves_the_old_run_whole(tmp_path, capsys, monkeypatch, bad):
    monkeypatch.setitem(sys.modules, "wandb", None)
    out = tmp_path / "run"
    assert run(["--config", SMOKE, "--out", str(out), *FAST]) == 0
    before = contents(out)
    assert run(["--config", SMOKE, "--out", str(out), *FAST, *bad, "--overwrite"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert contents(out) == before


def test_an_overwrite_that_ends_early_leaves_nothing_of_the_old_asset(tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert run(["--config", SMOKE, "--out", str(out), "num_steps=2", *FULL]) == 0
    assert all((out / name).is_file() for name in LEFT)
    assert list((out / "test_views").iterdir())
    (out / "a-red-disc.unity.ply").write_text("what the user exported is the user's")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gs_ssd.job.Job.step", killed)
    assert (
        cli.main(
            [
                "train",
                "--config",
                SMOKE,
                "--out",
                str(out),
                "--prompt",
                "a blue disc",
                "--overwrite",
            ]
        )
        == 130
    )
    left = {str(path.relative_to(out)) for path in contents(out)}
    aside = {f"earlier/exported/{name}" for name in ("config.yaml", "environment.json")}
    aside.add("earlier/exported/a-red-disc.unity.ply")
    assert left == {"config.yaml", "environment.json", "metrics.jsonl", *aside}
    kept = yaml.safe_load((out / "earlier/exported/config.yaml").read_text())
    assert kept["prompt"] == "a red disc"
    assert (out / "metrics.jsonl").read_text() == ""
    assert yaml.safe_load((out / "config.yaml").read_text())["prompt"] == "a blue disc"


def test_an_old_file_that_cannot_be_deleted_is_named(tmp_path, capsys):
    out = tmp_path / "run"
    (out / "views.png").mkdir(parents=True)
    (out / "config.yaml").write_text(Path(SMOKE).read_text())
    assert run(["--config", SMOKE, "--out", str(out), *FAST, "--overwrite"]) == 2
    assert f"cannot delete {out / 'views.png'}" in capsys.readouterr().err


def test_without_out_each_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(["--config", SMOKE, *FAST]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a-red-disc",
        "a-red-disc-2",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.yaml"], "no config file"),
        (["--config", SMOKE, "sed=1"], "did you mean seed?"),
        (["--config", SMOKE, "--prompt", "  "], "prompt is empty"),
        (["--config", SMOKE, "device=cuda:99"], "device=cuda:99"),
        (["--config", SMOKE, "prior.model=/no/such/model"], "prior.model"),
        (["--config", SMOKE, "guidance.estimator=sdss"], "guidance.estimator"),
        (["--config", SMOKE, "initialize.shape=points", "initialize.file=no.ply"], "no.ply"),
        (["--resume"], "--resume needs --out"),
        (["--resume", "--out", "never"], "nothing to resume"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.ply"))


def test_a_gpu_that_is_too_small_is_a_sentence(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\n(more)")

    monkeypatch.setattr("gs_ssd.job.Job.step", full)
    assert run(["--config", SMOKE, "--out", str(tmp_path / "run"), *FAST]) == 2
    error = capsys.readouterr().err
    assert "Tried to allocate 20 GiB)" in error
    assert "guidance.views_per_pass=1 prior.sliced_vae=true" in error
    assert "Traceback" not in error


def test_killed_before_its_first_checkpoint_a_run_can_be_begun_anew(tmp_path, capsys):
    """Neither message may send the user in a circle."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text(Path(SMOKE).read_text())
    assert run(["--resume", "--out", str(out)]) == 2
    assert "with --overwrite" in capsys.readouterr().err
    assert run(["--config", SMOKE, "--out", str(out), *FAST, "--overwrite"]) == 0


def test_a_damaged_checkpoint_is_named_and_results_stay(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["--config", SMOKE, "--out", str(out), *FAST]) == 0
    newest = out / "checkpoints" / "step_000002.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    before = (out / "point_cloud.ply").read_bytes()
    assert run(["--resume", "--out", str(out)]) == 2
    assert "step_000002.pt is damaged" in capsys.readouterr().err
    assert (out / "point_cloud.ply").read_bytes() == before


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert run(["--config", SMOKE, "--out", str(blocked / "run"), *FAST]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert blocked.read_text() == "in the way"


@pytest.mark.parametrize(("options", "said"), [([], ""), (["--anyway"], " --anyway")])
def test_the_command_to_go_on_with_can_be_typed_as_it_is_printed(
    tmp_path, capsys, monkeypatch, options, said
):
    monkeypatch.setattr("gs_ssd.trainer.Trainer.fit", _stopped)
    out = tmp_path / "a run"
    assert run(["--config", SMOKE, "--out", str(out), *FAST, *options]) == 130
    command = capsys.readouterr().out.strip().partition("Continue with: ")[2]
    assert command == f"gs-ssd train --resume --out '{out}'{said}"


def _stopped(*_, **__):
    raise Interrupted(signal.SIGINT, 1)


def test_sigterm_ends_the_process_with_143_and_a_sentence(tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "--config",
        SMOKE,
        "--out",
        str(out),
        "num_steps=100000",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = out / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size > 0:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"--resume --out {out}" in printed
    assert list((out / "checkpoints").glob("step_*.pt"))


@pytest.mark.parametrize("left", ["", "\n", "# settings\n", "{}", "null", "---\n", "seed: 3\n"])
@pytest.mark.parametrize("more", [[], ["--prompt", "a red disc"]], ids=["alone", "prompt"])
def test_a_run_whose_config_has_lost_its_settings_says_so_on_resume(left, more, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(left)
    assert run(["--resume", "--out", str(tmp_path), *more]) == 2
    assert f"{tmp_path / 'config.yaml'} names no prompt" in capsys.readouterr().err
