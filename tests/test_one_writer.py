"""One run a folder: a second changes nothing, and a resumed one takes only a sound checkpoint."""

import json
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from gs_ssd import cli, config
from gs_ssd.errors import UserError
from gs_ssd.files import TEMPORARY
from gs_ssd.locks import NAME, held
from gs_ssd.run import checkpoint
from gs_ssd.trainer import Trainer

SMOKE = str(Path(__file__).parents[1] / "configs" / "smoke.yaml")
SHORT = ["output.turntable_frames=0", "output.preview_every=0"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_a_thread(words):
    """As another process would; the lock does not let other threads in either."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(words)))
    thread.start()
    thread.join()
    return codes[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps."""
    run = tmp_path_factory.mktemp("one") / "run"
    assert cli.main(["train", "--config", SMOKE, "--out", str(run), "num_steps=2", *SHORT]) == 0
    assert not (run / NAME).exists()
    return run


@pytest.mark.parametrize(
    "words", [["--config", SMOKE], ["--overwrite", "--config", SMOKE, "num_steps=1"], ["--resume"]]
)
def test_a_second_run_is_refused_and_changes_nothing(finished, words, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with held(finished, "gs-ssd train"):
        assert in_a_thread(["train", "--out", str(finished), *words, *SHORT]) == 2
    assert f"{finished} is in use by" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_two_runs_of_one_prompt_without_a_folder_get_one_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with held(Path("out") / "a-red-disc", "gs-ssd train"):
        assert in_a_thread(["train", "--config", SMOKE, "num_steps=1", *SHORT]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["a-red-disc-2"]


def test_a_resumed_run_sweeps_what_a_killed_one_left(finished):
    left = finished / "checkpoints" / f"{TEMPORARY}99999999-abc.pt"
    left.write_bytes(b"half")
    assert cli.main(["train", "--resume", "--out", str(finished), *SHORT]) == 0
    assert not left.exists()


def test_a_flipped_bit_in_a_tensor_is_never_trained_on(finished, capsys):
    (path,) = (finished / "checkpoints").glob("*.pt")
    good, rng = path.read_bytes(), random.Random(0)
    means = torch.load(path)["state"]["asset"]["parameters"]["means"].numpy().tobytes()
    start = good.index(means)
    try:
        for _ in range(3):
            bad = bytearray(good)
            bad[start + rng.randrange(len(means))] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
            assert cli.main(["train", "--resume", "--out", str(finished), *SHORT]) == 2
            assert f"{path} is damaged" in capsys.readouterr().err
    finally:
        path.write_bytes(good)


def state(content, *names):
    """What lies at the end of these names, in a checkpoint's state."""
    inner = content["state"]
    for name in names:
        inner = inner[name]
    return inner


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda c: state(c).update(step=-3), "step is -3"),
        (lambda c: state(c).update(step=10**9), "step is 1000000000"),
        (lambda c: state(c).pop("guidance"), "lacks guidance"),
        (lambda c: state(c, "asset", "parameters")["means"].fill_(torch.nan), "means holds NaN"),
        (lambda c: state(c, "asset").pop("adam"), "lacks parameters, Adam's moments"),
        (lambda c: state(c, "asset", "parameters").update(means=torch.zeros(7, 3)), "of shape"),
        (lambda c: state(c).update(guidance={"weights": 3}), "guidance"),
        (lambda c: c.pop("state"), "lacks its config or its state"),
        (lambda c: c.update(version=99), "version 99"),
    ],
)
def test_a_checkpoint_that_no_run_can_go_on_from_is_one_sentence(finished, damage, word, capsys):
    (path,) = (finished / "checkpoints").glob("*.pt")
    good = path.read_bytes()
    content = torch.load(path)
    damage(content)
    torch.save(content, path)
    try:
        assert cli.main(["train", "--resume", "--out", str(finished), *SHORT]) == 2
        error = capsys.readouterr().err
        assert word in error
        assert "Traceback" not in error
    finally:
        path.write_bytes(good)


def train(*words):
    return cli.main(["train", *map(str, words), *SHORT])


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run of two steps."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_checkpoint_under_another_steps_name_is_refused(run, capsys):
    """Else it would be the newest for ever: each resume begins there, later ones are pruned."""
    (path,) = (run / "checkpoints").glob("*.pt")
    path.rename(path.with_name("step_000099.pt"))
    assert train("--resume", "--out", run, "num_steps=3") == 2
    assert "step_000099.pt holds step 2" in capsys.readouterr().err


def test_the_newest_checkpoint_is_never_the_one_that_is_pruned(tmp_path):
    checkpoint.save(checkpoint.Checkpoint({}, {"step": 9}), tmp_path, keep=1)
    made = checkpoint.save(checkpoint.Checkpoint({}, {"step": 3}), tmp_path, keep=1)
    assert checkpoint.listing(tmp_path) == [made]


def test_a_folder_in_a_checkpoints_place_is_named(run, capsys):
    (run / "checkpoints" / "step_000009.pt").mkdir()
    assert train("--resume", "--out", run) == 2
    assert "step_000009.pt: a folder, not a file" in capsys.readouterr().err


def test_steps_cannot_be_taken_back(run, capsys):
    before = contents(run)
    assert train("--resume", "--out", run, "num_steps=1") == 2
    assert "holds 2 steps, which num_steps=1 cannot take back" in capsys.readouterr().err
    assert contents(run) == before


@pytest.mark.parametrize("damage", [b"\xff\xfe{}\n", b"[" * 100_000 + b"\n", b'{"step": 1e999}\n'])
def test_lines_that_are_no_numbers_do_not_stop_a_resumed_run(run, damage):
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes() + damage)
    (run / "environment.json").write_bytes(damage)
    assert train("--resume", "--out", run, "num_steps=3") == 0
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_results_of_other_settings_do_not_stay_beside_the_new_ones(run):
    splat, settings = (run / "point_cloud.ply").read_bytes(), (run / "config.yaml").read_bytes()
    words = ["--resume", "--out", run, "num_steps=4", "prompt=a green disc"]
    trainer = Trainer(config.load(run / "config.yaml", [*map(str, words[3:])]), run, resume=True)
    events = trainer.events()
    next(events)
    events.close()  # as a kill would end it
    assert not (run / "point_cloud.ply").exists()
    earlier = run / "earlier" / "step_000002"
    assert (earlier / "point_cloud.ply").read_bytes() == splat
    assert (earlier / "config.yaml").read_bytes() == settings
    assert train(*words) == 0
    assert (run / "point_cloud.ply").exists()
    assert (earlier / "point_cloud.ply").read_bytes() == splat


def test_results_of_fewer_steps_do_not_stay_beside_more(run):
    """Nor what was exported from them: else a video, an export or a page may be older than the
    splat."""
    splat = (run / "point_cloud.ply").read_bytes()
    (run / "turntable.mp4").write_bytes(b"of two steps")  # and no turntable is asked for now
    assert cli.main(["export", str(run), "--for", "blender"]) == 0
    assert train("--resume", "--out", run, "num_steps=4", "output.turntable_frames=0") == 0
    assert not [*run.glob("turntable.*"), *run.glob("*.blender.ply*")]
    earlier = run / "earlier" / "step_000002"
    assert (earlier / "point_cloud.ply").read_bytes() == splat
    assert (earlier / "turntable.mp4").exists()
    assert [path.name for path in earlier.glob("*.blender.ply")] == ["a-red-disc.blender.ply"]
    assert config.load(earlier / "config.yaml").num_steps == 2
    assert (run / "point_cloud.ply").read_bytes() != splat


def test_an_unfinished_run_says_where_its_earlier_results_are(run, capsys):
    trainer = Trainer(config.load(run / "config.yaml", ["num_steps=4"]), run, resume=True)
    events = trainer.events()
    next(events)
    events.close()  # as a kill would end it
    assert cli.main(["export", str(run), "--for", "blender"]) == 2
    assert f"what it was before is in {run / 'earlier' / 'step_000002'}" in capsys.readouterr().err


def test_a_finished_run_takes_no_settings_that_would_change_nothing(run, capsys):
    """Else its config.yaml tells of a seed and a prompt that its splat was not made with."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert train("--resume", "--out", run, "seed=5", "prompt=a blue disc") == 2
    assert "with another prompt, seed; name more num_steps" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_done_after_the_last_step_may_change(run):
    splat = (run / "point_cloud.ply").read_bytes()
    assert train("--resume", "--out", run, "finish.steps=2") == 0
    assert (run / "point_cloud.ply").read_bytes() != splat
    assert (run / "earlier" / "step_000002" / "point_cloud.ply").read_bytes() == splat


def test_pictures_of_steps_that_are_taken_again_go(run):
    previews, frames = run / "previews", run / "process"
    for folder in (previews, frames):
        folder.mkdir(exist_ok=True)
    for name in ("step_000001.png", "step_000003.png", "guidance_000003.png", "mine.png"):
        (previews / name).touch()
    (frames / "000003.png").touch()
    assert train("--resume", "--out", run, "num_steps=4", "output.preview_every=0") == 0
    assert {path.name for path in previews.iterdir()} == {"step_000001.png", "mine.png"}
    assert not frames.exists() or not list(frames.iterdir())


def moved(run):
    run.rename(run.with_name("moved"))


def unlocked(run):
    (run / NAME).unlink()


@pytest.mark.parametrize("lose", [moved, unlocked])
def test_a_folder_that_was_taken_away_is_not_made_again(run, lose):
    """Else checkpoints of one run lie where another may begin."""
    trainer = Trainer(config.load(run / "config.yaml", ["num_steps=4"]), run, resume=True)
    events = trainer.events()
    next(events)
    lose(run)
    here = contents(run / "checkpoints")
    with pytest.raises(UserError, match="was moved or deleted"):
        list(events)
    assert contents(run / "checkpoints") == here
    assert run.exists() == (lose is unlocked)


def test_of_two_that_looked_at_once_the_second_sees_that_it_is_late(run):
    """The lock is taken when steps begin, not when a `Trainer` is made."""
    settings = config.load(run / "config.yaml", ["num_steps=3"])
    first, second = (Trainer(settings, run, resume=True) for _ in range(2))
    first.fit()
    with pytest.raises(UserError, match="another run was in"):
        second.fit()


@pytest.mark.parametrize("name", ["index.html", "point_cloud.ply", "metrics.jsonl"])
def test_a_file_of_the_users_own_is_not_replaced_unasked(tmp_path, name, capsys):
    (tmp_path / name).write_text("mine")
    assert train("--config", SMOKE, "--out", tmp_path, "num_steps=1") == 2
    assert f"holds a {name}, which a run would replace" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


def test_overwriting_deletes_what_runs_write_and_nothing_else(run):
    mine = [run / "previews" / "holiday.png", run / "test_views" / "me.png"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (run / "previews" / "step_000007.png").write_text("a run's")
    assert train("--config", SMOKE, "--out", run, "num_steps=1", "--overwrite") == 0
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert not (run / "previews" / "step_000007.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["export", "{run}", "-o", "{run}/point_cloud.ply", "--max-splats", "3"],
        ["export", "axes", "-o", "{run}/point_cloud.ply"],
        ["gallery", "{run}", "-o", "{run}/index.html"],
        ["check-model", "--model", "analytic", "--out", "{run}/environment.json"],
    ],
)
def test_a_result_is_not_what_another_command_writes_over(run, words, capsys):
    before = contents(run)
    assert cli.main([word.format(run=run) for word in words]) == 2
    assert "choose another name" in capsys.readouterr().err
    assert contents(run) == before


def test_closed_streams_do_not_become_files(tmp_path):
    """With a standard stream closed the next file that is opened has its number."""
    command = [
        sys.executable,
        "-m",
        "gs_ssd.cli",
        "train",
        "--config",
        SMOKE,
        "num_steps=1",
        *SHORT,
    ]
    closed = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["bash", "-c", closed, "-", *command, "--out", tmp_path / "run"], check=False
    )
    assert done.returncode == 0
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 0
