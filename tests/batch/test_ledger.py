"""The ledger: the last whole line of a task counts, whatever a killed driver left."""

import json
from pathlib import Path

import pytest

from gs_ssd.batch.ledger import Ledger
from gs_ssd.batch.task import Task
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError


def task(name: str, **settings: int) -> Task:
    return Task(name, ExperimentConfig(prompt=name, **settings))


def test_it_reads_back_what_was_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "jobs.jsonl")
    ledger.queue([task("a"), task("b")])
    ledger.append("a", "running", attempt=1)
    ledger.append("a", "retry", reason="x", seconds=2.0)
    ledger.append("a", "running", attempt=2)
    ledger.append("a", "done", seconds=3.0, files=["f"])
    ledger.close()
    again = Ledger(tmp_path / "jobs.jsonl")
    a, b = again.records["a"], again.records["b"]
    assert (a.state, a.attempts, a.seconds, a.last["files"]) == ("done", 2, 5.0, ["f"])
    assert (b.state, b.attempts) == ("queued", 0)
    again.queue([task("a"), task("b"), task("c")])
    assert len((tmp_path / "jobs.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_did_not_happen_and_spoils_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "jobs.jsonl"
    ledger = Ledger(path)
    ledger.queue([task("a")])
    ledger.append("a", "running", attempt=1)
    ledger.append("a", "done", seconds=3.0, host="somewhere")
    ledger.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Ledger(path)
    assert again.records["a"].state == ("done" if cut == 1 else "running")
    again.append("a", "done", seconds=1.0)
    again.close()
    assert Ledger(path).records["a"].state == "done"
    assert json.loads(path.read_text().splitlines()[-1])["seconds"] == 1.0


def test_a_line_of_nothing_but_brackets_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text("[" * 100_000 + "\n")
    ledger = Ledger(path)
    ledger.queue([task("a")])
    ledger.close()
    assert Ledger(path).records["a"].state == "queued"


def test_other_settings_under_the_same_name_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "jobs.jsonl")
    ledger.queue([task("a", num_steps=3)])
    with pytest.raises(UserError, match="other settings"):
        ledger.queue([task("b"), task("a", num_steps=4)])
    assert "b" not in ledger.records
