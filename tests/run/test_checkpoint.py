"""Checkpoints: whole or not at all, the last n kept, and damage is named."""

from pathlib import Path

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.run import checkpoint
from gs_ssd.run.checkpoint import Checkpoint


def example(step: int) -> Checkpoint:
    asset = {"colors": torch.full((3,), float(step)), "adam": {0: {"step": torch.tensor(2.0)}}}
    return Checkpoint(
        {"seed": 1}, {"step": step, "kind": "disc", "asset": asset, "guidance": {}, "bad_steps": 0}
    )


def test_the_newest_are_kept_and_come_back_equal(tmp_path):
    for step in (5, 10, 100, 1000):
        checkpoint.save(example(step), tmp_path, keep=2)
    assert [path.name for path in checkpoint.listing(tmp_path)] == [
        "step_000100.pt",
        "step_001000.pt",
    ]
    loaded = checkpoint.load(checkpoint.latest(tmp_path))
    assert loaded.step == 1000
    assert loaded.config == {"seed": 1}
    assert torch.equal(loaded.state["asset"]["colors"], torch.full((3,), 1000.0))


def test_the_newest_is_the_one_of_most_steps(tmp_path):
    for step in (999_999, 1_000_000):
        checkpoint.save(example(step), tmp_path, keep=2)
    assert checkpoint.load(checkpoint.latest(tmp_path)).step == 1_000_000


def test_one_that_makes_room_while_it_is_read_is_passed_over(tmp_path, monkeypatch):
    checkpoint.save(example(1), tmp_path, keep=1)
    load, read = checkpoint.load, []

    def load_late(path: Path) -> Checkpoint:
        read.append(path.name)
        if len(read) == 1:
            checkpoint.save(example(2), tmp_path, keep=1)
        return load(path)

    monkeypatch.setattr(checkpoint, "load", load_late)
    assert checkpoint.load_newest(tmp_path).step == 2
    assert read == ["step_000001.pt", "step_000002.pt"]
    (tmp_path / "step_000002.pt").unlink()
    (tmp_path / "step_000003.pt").symlink_to("nowhere")
    with pytest.raises(UserError, match="there is no checkpoint"):  # and no search without end
        checkpoint.load_newest(tmp_path)


def test_a_disk_that_fills_up_leaves_the_earlier_one_alone(tmp_path, monkeypatch):
    checkpoint.save(example(1), tmp_path, keep=1)

    def full(content: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="disk full"):
        checkpoint.save(example(2), tmp_path, keep=1)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001.pt"]
    assert checkpoint.load(checkpoint.latest(tmp_path)).step == 1


@pytest.mark.parametrize(
    "damage", ["truncated", "garbage", "other version", "lacks its state", "missing"]
)
def test_damage_is_named(tmp_path, damage):
    path = checkpoint.save(example(7), tmp_path, keep=1)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "garbage":
        path.write_text("nothing of the kind")
    elif damage == "missing":
        path.unlink()
    else:
        content = torch.load(path)
        content["version"] = 99 if damage == "other version" else content["version"]
        content.pop("state")
        torch.save(content, path)
    with pytest.raises(UserError, match=r"step_000007\.pt"):
        checkpoint.load(path)


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(UserError, match=r"without --resume \(with --overwrite"):
        checkpoint.latest(tmp_path / "checkpoints")


def test_a_closed_folder_is_not_taken_for_one_without_checkpoints(tmp_path, monkeypatch):
    """Whoever was told that there is nothing to resume would start over, and overwrite it."""
    (tmp_path / "step_000004.pt").touch()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    for ask in (checkpoint.latest, checkpoint.listing):
        with pytest.raises(UserError, match=r"cannot look into .*Permission denied"):
            ask(tmp_path)
