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


BEFORE = """\
{"name": "a", "state": "queued", "time": 1.5, "line": 1, "prompt": "a", "seed": 0, \
"fingerprint": "f", "tags": ["x"]}
{"name": "b", "state": "queued", "time": 1.5, "line": 2, "prompt": "b", "seed": 0, \
"fingerprint": "g"}
{"name": "a", "state": "running", "time": 2.0, "attempt": 1, "host": "h"}
{"name": "a", "state": "retry", "time": 3.0, "reason": "it died", "host": "h", "seconds": 1.25, \
"cpu_seconds": 1.0}
{"name": "a", "state": "runn
{"name": "a", "state": "running", "time": 4.0, "attempt": 2, "host": "h"}
{"name": "a", "state": "done", "time": 6.0, "attempts": 2, "steps": 9, "counts": {"n": 1}, \
"files": ["f"], "host": "h", "seconds": 2.0, "cpu_seconds": 1.5}
{"name": "b", "state": "running", "time": 7.0, "attempt": 1, "host": "h"}
{"name": "b", "state": "done", "time": 9.0, "att"""


def test_a_ledger_of_the_version_before_reads_the_same(tmp_path: Path) -> None:
    """With a line that one kill left half written, and another at the end."""
    path = tmp_path / "jobs.jsonl"
    path.write_text(BEFORE)
    ledger = Ledger(path)
    a, b = ledger.records["a"], ledger.records["b"]
    assert (a.state, a.attempts, a.fingerprint, a.seconds, a.cpu_seconds) == (
        "done", 2, "f", 3.25, 2.5,
    )  # fmt: skip
    assert (a.last["files"], a.last["counts"]) == (["f"], {"n": 1})
    assert (b.state, b.attempts, b.fingerprint, b.last) == ("running", 1, "g", {})
    ledger.append("b", "failed", reason="x")
    ledger.close()
    assert path.read_text().startswith(BEFORE + "\n")
    assert Ledger(path).records["b"].state == "failed"


def test_seconds_of_another_type_count_nothing(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"name": "a", "state": "done", "seconds": "3", "cpu_seconds": [1]}\n')
    record = Ledger(path).records["a"]
    assert (record.state, record.seconds, record.cpu_seconds) == ("done", 0.0, 0.0)
