import dataclasses
import json
import shutil
import subprocess
import sys
import threading
import time

import pytest

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate import trainings
from gs_ssd.lab.evaluate.benchmark import (
    LEDGER,
    Job,
    Variant,
    plan,
    read_ledger,
    recorded,
    run_jobs,
)
from gs_ssd.lab.evaluate.suite import Entry, Suite
from gs_ssd.lab.evaluate.summary import markdown
from gs_ssd.lab.evaluate.trainings import Cost, TrainingError, run_process
from gs_ssd.processes import is_running

SUITE = Suite(
    "toy", "", tuple(Entry(f"a {c} cube", "cube", c) for c in ("red", "blue", "green")), (0, 1)
)
SSD, CSD = Variant.parse("ssd"), Variant.parse("csd@wide:guidance.scale=2")


class FakeTrainer:
    """Writes the prompt where an asset would be; fails for the prompts it is told to."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.trained: list[str] = []

    def train(self, job, folder):
        self.trained.append(job.key)
        if job.entry.prompt in self.bad:
            raise TrainingError("exit code 2: no splats are left")
        folder.mkdir(parents=True)
        (folder / "asset").write_text(job.entry.prompt)
        return Cost(1.5, 1.0)

    def measure(self, job, folder):
        assert (folder / "asset").read_text() == job.entry.prompt
        return {"iou": 0.9}


def run(jobs, out, trainer, **options):
    return list(run_jobs(jobs, out, trainer.train, trainer.measure, say=lambda _: None, **options))


def test_a_variant_is_an_estimator_with_settings():
    assert Variant("csd@wide", ("guidance.estimator=csd", "guidance.scale=2")) == CSD
    with pytest.raises(UserError, match="key=value"):
        Variant.parse("ssd:M")


def test_the_plan_shows_a_prompt_to_all_variants_and_every_prompt_before_the_second_seed():
    jobs = plan(SUITE, [SSD, CSD], limit=2)
    assert [job.key for job in jobs[:4]] == [
        "ssd/a-red-cube/seed-0", "csd@wide/a-red-cube/seed-0", "ssd/a-blue-cube/seed-0",
        "csd@wide/a-blue-cube/seed-0",
    ]  # fmt: skip
    assert len(jobs) == 8
    assert len(plan(SUITE, [SSD], seeds=[5])) == 3


def test_every_job_leaves_one_line_and_is_not_run_twice(tmp_path):
    jobs, trainer = plan(SUITE, [SSD]), FakeTrainer()
    records = run(jobs[:4], tmp_path, trainer)
    assert [record["iou"] for record in records] == [0.9] * 4
    assert len(run(jobs, tmp_path, trainer, workers=3)) == 2
    assert sorted(trainer.trained) == sorted(job.key for job in jobs)
    assert len((tmp_path / LEDGER).read_text().splitlines()) == 6
    assert read_ledger(tmp_path)["ssd/a-red-cube/seed-1"]["seconds"] == 1.5


def test_a_failure_is_recorded_and_tried_again(tmp_path):
    jobs = plan(SUITE, [SSD], seeds=[0])
    records = run(jobs, tmp_path, FakeTrainer("a blue cube"))
    assert [("failed" in record) for record in records] == [False, True, False]
    second = FakeTrainer()
    run(jobs, tmp_path, second)
    assert second.trained == ["ssd/a-blue-cube/seed-0"]
    assert "failed" not in read_ledger(tmp_path)["ssd/a-blue-cube/seed-0"]


def test_other_settings_do_not_pass_for_the_old_ones(tmp_path):
    run(plan(SUITE, [SSD], seeds=[0]), tmp_path, FakeTrainer())
    with pytest.raises(UserError, match=r"settings .those were seed=0 guidance"):
        run(plan(SUITE, [SSD], seeds=[0], common=["num_steps=9"]), tmp_path, FakeTrainer())


def made_with(weights, config="c0"):
    """Jobs of one seed that are made with such weights and settings."""
    return plan(
        SUITE,
        [SSD],
        seeds=[0],
        origin=lambda _: {"weights": weights, "config": config},
        metrics="1",
    )


def test_other_weights_are_other_jobs_and_the_message_says_which(tmp_path):
    assert len(run(made_with("bundled aaaa"), tmp_path, FakeTrainer())) == 3
    assert read_ledger(tmp_path)["ssd/a-red-cube/seed-0"]["origin"]["weights"] == "bundled aaaa"
    assert run(made_with("bundled aaaa"), tmp_path, FakeTrainer()) == []
    with pytest.raises(
        UserError, match=r"other weights \(bundled aaaa, now bundled bbbb\); choose another --out"
    ):
        run(made_with("bundled bbbb"), tmp_path, FakeTrainer())
    with pytest.raises(UserError, match="other config"):
        recorded(made_with("bundled aaaa", "c1"), read_ledger(tmp_path))


def test_a_line_from_before_weights_were_recorded_is_not_reused(tmp_path):
    run(plan(SUITE, [SSD], seeds=[0]), tmp_path, FakeTrainer())
    with pytest.raises(UserError, match="not recorded, now bundled aaaa"):
        run(made_with("bundled aaaa"), tmp_path, FakeTrainer())


def test_new_metrics_measure_again_and_train_nothing(tmp_path):
    jobs, trainer = made_with("w"), FakeTrainer()
    run(jobs, tmp_path, trainer)
    newer = [dataclasses.replace(job, metrics="2") for job in jobs]
    records = list(
        run_jobs(newer, tmp_path, trainer.train, lambda *_: {"iou": 0.5}, say=lambda _: None)
    )
    assert [(r["iou"], r["seconds"], r["metrics"]) for r in records] == [(0.5, 1.5, "2")] * 3
    assert len(trainer.trained) == 3
    assert run(newer, tmp_path, trainer) == []


def test_new_metrics_train_again_what_only_a_line_is_left_of(tmp_path):
    """As in a fresh clone that continues from committed lines."""
    jobs, trainer = made_with("w"), FakeTrainer()
    run(jobs, tmp_path, trainer)
    shutil.rmtree(tmp_path / "runs" / jobs[1].key)
    newer = [dataclasses.replace(job, metrics="2") for job in jobs]
    assert {record["key"] for record in run(newer, tmp_path, trainer)} == {job.key for job in jobs}
    assert trainer.trained[3:] == [jobs[1].key]
    assert {record["metrics"] for record in read_ledger(tmp_path).values()} == {"2"}


def test_after_its_minutes_no_training_is_begun(tmp_path):
    jobs, trainer = plan(SUITE, [SSD], seeds=[0]), FakeTrainer()
    assert run(jobs, tmp_path, trainer, minutes=0.0) == []
    assert trainer.trained == []
    assert len(run(jobs, tmp_path, trainer, minutes=1.0)) == 3


def test_a_half_written_line_is_run_again(tmp_path):
    jobs = plan(SUITE, [SSD], seeds=[0])
    run(jobs, tmp_path, FakeTrainer())
    ledger = tmp_path / LEDGER
    ledger.write_text(ledger.read_text()[:-20])
    for folder in (tmp_path / "runs" / "ssd").glob("a-green-cube/*"):
        (folder / "asset").unlink()
        folder.rmdir()
    trainer = FakeTrainer()
    run(jobs, tmp_path, trainer)
    assert trainer.trained == ["ssd/a-green-cube/seed-0"]


def test_a_folder_that_is_moved_takes_the_benchmark_with_it(tmp_path):
    out, trained = tmp_path / "out", []

    def train(job, folder):
        trained.append(job)
        if len(trained) == 2:
            out.rename(tmp_path / "moved")
        return Cost(1.0, 1.0)

    jobs = run_jobs(plan(SUITE, [SSD]), out, train, lambda *_: {}, say=lambda _: None)
    with pytest.raises(UserError, match=r"out was moved or deleted.*call it again with --out"):
        list(jobs)
    assert len(trained) == 2
    assert not out.exists()
    assert list(read_ledger(tmp_path / "moved")) == [trained[0].key]


def test_two_workers_train_at_the_same_time(tmp_path):
    both = threading.Barrier(2, timeout=20)

    def train(job: Job, folder) -> Cost:
        both.wait()
        return Cost(0.0, 0.0)

    assert (
        len(list(run_jobs(plan(SUITE, [SSD], limit=2), tmp_path, train, lambda *_: {}, workers=2)))
        == 4
    )


def test_a_process_reports_its_cost_and_its_last_words(tmp_path):
    log = tmp_path / "deep" / "train.log"
    cost = run_process([sys.executable, "-c", "print(sum(range(1_000_000)))"], log)
    assert 0 < cost.cpu_seconds < 60
    assert log.read_text().strip() == "499999500000"
    with pytest.raises(TrainingError, match="exit code 2: a mistake"):
        run_process(
            [sys.executable, "-c", "import sys; print('a mistake'); sys.exit(2)"],
            log.with_name("bad.log"),
        )


def test_records_are_plain_json(tmp_path):
    run(plan(SUITE, [CSD], seeds=[3], limit=1), tmp_path, FakeTrainer())
    record = json.loads((tmp_path / LEDGER).read_text())
    assert record["overrides"] == ["seed=3", "guidance.estimator=csd", "guidance.scale=2"]
    assert record["variant"] == "csd@wide"


def test_a_torn_last_line_does_not_swallow_the_next(tmp_path):
    jobs = plan(SUITE, [SSD], seeds=[0])
    run(jobs[:1], tmp_path, FakeTrainer())
    torn = (tmp_path / LEDGER).read_bytes()[:-30]
    (tmp_path / LEDGER).write_bytes(torn)
    shutil.rmtree(tmp_path / "runs")
    run(jobs, tmp_path, FakeTrainer())
    assert set(read_ledger(tmp_path)) == {job.key for job in jobs}


def test_results_of_the_version_before_read_the_same(tmp_path):
    """With a line that one kill left half written, one made again, and another torn at the end."""
    (tmp_path / LEDGER).write_text(
        '{"key": "ssd/a/seed-0", "fingerprint": "f", "prompt": "a", "seconds": 1.5}\n'
        '{"key": "ssd/b/seed-0", "finger\n'
        '{"key": "ssd/b/seed-0", "fingerprint": "g", "failed": "it died"}\n'
        '{"key": "ssd/a/seed-0", "fingerprint": "f", "prompt": "a", "seconds": 2.5}\n'
        '{"key": "ssd/b/seed-0", "fingerprint": "h", "sec'
    )
    assert read_ledger(tmp_path) == {
        "ssd/a/seed-0": {
            "key": "ssd/a/seed-0",
            "fingerprint": "f",
            "prompt": "a",
            "seconds": 2.5,
        },
        "ssd/b/seed-0": {"key": "ssd/b/seed-0", "fingerprint": "g", "failed": "it died"},
    }


@pytest.mark.parametrize(
    "line", ["null", "[1]", "3", '{"key": 1}', '{"key": "a"}', "[" * 10000, "\xff\x00"]
)
def test_lines_that_are_no_records_are_passed_over(tmp_path, line):
    jobs = plan(SUITE, [SSD], seeds=[0], limit=1)
    (tmp_path / LEDGER).write_bytes(line.encode("latin-1") + b"\n")
    assert len(run(jobs, tmp_path, FakeTrainer())) == 1
    assert set(read_ledger(tmp_path)) == {jobs[0].key}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"overrides": None}, {"overrides": 3}, {"origin": []}, {"seed": "0"}, {"prompt": None}),
        *({"variant": ["ssd"]}, {"seconds": "long"}, {"iou": [1]}, {"failed": True}),
    ],
)
def test_a_line_of_wrong_types_is_measured_again_and_breaks_no_table(tmp_path, wrong, caplog):
    jobs = plan(SUITE, [SSD], seeds=[0], limit=1)
    (record,) = run(jobs, tmp_path, FakeTrainer())
    (tmp_path / LEDGER).write_text(json.dumps(record | wrong) + "\n")
    assert recorded(jobs, read_ledger(tmp_path)) == []
    (name,) = wrong
    assert f"line 1 has no '{name}', or a wrong one" in caplog.text
    shutil.rmtree(tmp_path / "runs")
    assert len(run(jobs, tmp_path, FakeTrainer())) == 1


@pytest.mark.parametrize("name", ["prompt", "variant", "seed", "overrides", "origin", "seconds"])
def test_a_line_that_lacks_something_makes_a_table_all_the_same(tmp_path, name):
    jobs = plan(SUITE, [SSD], seeds=[0], limit=1)
    (record,) = run(jobs, tmp_path, FakeTrainer())
    del record[name]
    assert "1 assets" in markdown(recorded(jobs, {record["key"]: record}), "t")
    with pytest.raises(UserError, match="already measured"):
        recorded(jobs, {record["key"]: record | {"fingerprint": "other"}})


@pytest.mark.parametrize("label", ["..", ".", "../x", "a/b", "", "@x", "ssd@" + "x" * 200, "ssd\n"])
def test_a_label_that_cannot_name_a_folder_is_refused(label):
    with pytest.raises(UserError, match="names a folder"):
        Variant.parse(label)


def test_what_is_named_twice_is_refused():
    with pytest.raises(UserError, match="seed 3 is named twice"):
        plan(SUITE, [SSD], seeds=[3, 4, 3])
    with pytest.raises(UserError, match="estimator 'ssd' is named twice"):
        plan(SUITE, [SSD, Variant.parse("ssd:guidance.M=3")])


def test_an_error_ends_the_trainings_that_run(tmp_path):
    """Else the end of the program would wait for them, for an hour say."""
    pids = []

    def train(job: Job, folder) -> Cost:
        if job.entry.prompt == "a red cube":
            return run_process(
                [sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(600)"],
                log,
            )
        while not log.exists() or not log.read_text():
            time.sleep(0.02)
        pids.extend(process.pid for process in trainings._running)
        return Cost(0.0, 0.0)

    def measure(job: Job, folder):
        raise RuntimeError("no disk")

    log = tmp_path / "train.log"
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="no disk"):
        list(run_jobs(plan(SUITE, [SSD], seeds=[0]), tmp_path, train, measure, workers=2))
    assert time.monotonic() - started < 60
    assert pids
    assert not any(is_running(pid, time.time()) for pid in pids)


CALLER = """
import sys
from pathlib import Path
from gs_ssd.lab.evaluate.trainings import run_process
child = (
    "import os, time; from gs_ssd.processes import end_with_stdin; end_with_stdin();"
    "print(os.getpid(), flush=True); time.sleep(600)"
)
run_process([sys.executable, "-c", child], Path(sys.argv[1]))
"""


def test_a_training_ends_with_a_caller_that_was_killed(tmp_path):
    log = tmp_path / "train.log"
    with subprocess.Popen([sys.executable, "-c", CALLER, log]) as caller:
        while not log.exists() or not log.read_text():
            time.sleep(0.02)
        child = int(log.read_text())
        assert is_running(child, time.time())
        caller.kill()
    deadline = time.monotonic() + 30
    while is_running(child, time.time()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child, time.time())
