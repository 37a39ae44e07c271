"""The driver's promises, on a pool whose workers do what the test says."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gs_ssd.batch import driver as drivers
from gs_ssd.batch.driver import Driver, Limits
from gs_ssd.batch.ledger import Ledger
from gs_ssd.batch.pool import Idle
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome
from gs_ssd.config import ExperimentConfig

Act = Callable[[Task, int, str], Outcome | None]
"""What becomes of a task, at its attempt, on a host; None: it hangs."""


class Scripted:
    """Two workers on two hosts."""

    size = 2
    waiting = ""

    def __init__(self, act: Act) -> None:
        self.act, self.attempts = act, Counter[str]()
        self.hosts: dict[str, str] = {}
        self.tasks: dict[str, Task] = {}
        self.ended: list[str] = []
        self.stopping = False

    def idle(self) -> list[Idle]:
        busy = set(self.hosts.values())
        return [Idle(i, host) for i, host in enumerate(("one", "two")) if host not in busy]

    def begin(self, worker: Idle, task: Task) -> None:
        self.attempts[task.name] += 1
        self.hosts[task.name], self.tasks[task.name] = worker.host, task

    def wait(self, seconds: float) -> list[Outcome]:
        found = []
        for name in list(self.tasks):
            outcome = self.act(self.tasks[name], self.attempts[name], self.hosts[name])
            if self.stopping:
                outcome = Outcome(name, "stopped", steps=1)
            if outcome is not None:
                self.end(name)
                found.append(outcome)
        return found

    def beats(self) -> dict[str, int]:
        return dict.fromkeys(self.tasks, 1)

    def end(self, name: str) -> None:
        self.ended.append(name)
        self.tasks.pop(name)
        self.hosts.pop(name)

    def stop(self) -> None:
        self.stopping = True

    def close(self) -> None:
        pass


def run(tmp_path: Path, act: Act, count: int = 4, **limits: float) -> tuple[Driver, Ledger]:
    ledger = Ledger(tmp_path / "jobs.jsonl")
    driver = Driver(tasks(count), ledger, Scripted(act), Limits(**limits), say=lambda _: None)
    driver.run()
    return driver, ledger


def tasks(count: int) -> list[Task]:
    return [Task(f"t{i}", ExperimentConfig(prompt=f"t{i}")) for i in range(count)]


def done(task: Task) -> Outcome:
    return Outcome(task.name, "done", host="one", seconds=1.0)


def test_what_raises_is_tried_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    def act(task: Task, attempt: int, host: str) -> Outcome:
        if task.name == "t0" or (task.name == "t1" and attempt < 3):
            return Outcome(task.name, "failed", "boom", again=True)
        return done(task)

    driver, ledger = run(tmp_path, act, retries=2)
    assert (driver.done, driver.failed) == (3, 1)
    assert (ledger.records["t0"].state, ledger.records["t0"].attempts) == ("failed", 3)
    assert ledger.records["t0"].last["reason"] == "boom"
    assert (ledger.records["t1"].state, ledger.records["t1"].attempts) == ("done", 3)


def test_a_mistake_of_the_users_is_not_tried_again(tmp_path: Path) -> None:
    driver, ledger = run(
        tmp_path, lambda task, *_: Outcome(task.name, "failed", "no such file"), count=1
    )
    assert driver.failed == ledger.records["t0"].attempts == 1


def test_a_task_that_kills_its_worker_three_times_is_set_aside(tmp_path: Path) -> None:
    def act(task: Task, attempt: int, host: str) -> Outcome:
        lost = Outcome(task.name, "lost", "its worker died", again=True)
        return lost if task.name == "t2" else done(task)

    driver, ledger = run(tmp_path, act)
    assert (driver.done, driver.failed) == (3, 1)
    assert (ledger.records["t2"].state, ledger.records["t2"].attempts) == ("failed", 3)


def test_a_lost_node_is_no_fault_of_its_task(tmp_path: Path) -> None:
    def act(task: Task, attempt: int, host: str) -> Outcome:
        lost = Outcome(task.name, "lost", "its node was lost", again=True, node_lost=True)
        return lost if attempt <= 7 else done(task)

    driver, _ = run(tmp_path, act, retries=0, deaths=1)
    assert (driver.done, driver.failed) == (4, 0)


def test_a_machine_whose_disk_is_full_rests(tmp_path: Path) -> None:
    seen = Counter[str]()

    def act(task: Task, attempt: int, host: str) -> Outcome:
        seen[host] += 1
        if host == "one":
            return Outcome(task.name, "failed", "disk full", again=True, disk=True, host="one")
        return done(task)

    driver, _ = run(tmp_path, act, count=6)
    assert (driver.done, driver.failed) == (6, 0)
    assert seen == {"one": 1, "two": 6}


def test_a_task_that_hangs_is_ended_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 3))
    monkeypatch.setattr(drivers.time, "monotonic", lambda: float(next(clock)))

    def act(task: Task, attempt: int, host: str) -> Outcome | None:
        return None if task.name == "t0" and attempt == 1 else done(task)

    driver, ledger = run(tmp_path, act, count=2, hang_s=60.0)
    assert driver.done == 2
    assert ledger.records["t0"].attempts == 2
    assert "no step for" in (tmp_path / "jobs.jsonl").read_text()


def test_a_second_call_makes_what_is_not_done(tmp_path: Path) -> None:
    run(tmp_path, lambda task, *_: Outcome(task.name, "failed", "x"), count=2)
    driver, _ = run(tmp_path, lambda task, *_: done(task), count=3)
    assert (driver.done, driver.done_before) == (3, 0)
    made: list[str] = []

    def act(task: Task, attempt: int, host: str) -> Outcome:
        made.append(task.name)
        return done(task)

    driver, _ = run(tmp_path, act, count=4)
    assert driver.done_before == 3
    assert made == ["t3"]


def test_after_stop_nothing_begins_and_what_runs_is_saved(tmp_path: Path) -> None:
    ledger, pool = Ledger(tmp_path / "jobs.jsonl"), Scripted(lambda *_: None)
    driver = Driver(tasks(4), ledger, pool, Limits(), tick=Driver.stop)
    driver.run()
    assert pool.stopping
    assert {record.state for record in ledger.records.values()} == {"queued"}
    assert sum(record.attempts for record in ledger.records.values()) == 2
