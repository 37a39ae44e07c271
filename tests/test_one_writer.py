"""One run a folder: a second changes nothing, and a resumed one takes only a sound checkpoint."""

import random
import threading
from pathlib import Path

import pytest
import torch

from gs_ssd import cli
from gs_ssd.files import TEMPORARY
from gs_ssd.locks import NAME, held

SMOKE = str(Path(__file__).parents[1] / "configs" / "smoke.yaml")
SHORT = ["output.turntable_frames=0", "output.preview_every=0"]


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
