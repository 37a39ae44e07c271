"""What a batch costs beside its assets: the driver's memory by the number of jobs, the overhead of
a job against a bare loop, and what loading the prior once saves.

    python tools/batch_cost.py --empty 10000 --jobs 10
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gs_ssd import config as configs
from gs_ssd import memory
from gs_ssd.batch.driver import Driver, Limits
from gs_ssd.batch.ledger import Ledger
from gs_ssd.batch.page import Page
from gs_ssd.batch.plan import plan
from gs_ssd.batch.pool import Idle, OwnProcess
from gs_ssd.batch.rows import Row
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome
from gs_ssd.prior import load as load_prior
from gs_ssd.trainer import Trainer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHORT = ["num_steps=40", "output.turntable_frames=0", "output.preview_every=0"]


class Nothing(OwnProcess):
    """A pool whose worker does nothing."""

    def __init__(self) -> None:
        self._done: list[Outcome] = []

    def idle(self) -> list[Idle]:
        return [] if self._done else [Idle(0, "here")]

    def begin(self, worker: Idle, task: Task) -> None:  # noqa: ARG002
        counts, files = {"num_splats": 1000}, ("index.html", "point_cloud.ply", "views.png")
        self._done.append(Outcome(task.name, "done", seconds=1.0, counts=counts, files=files))

    def wait(self, seconds: float) -> list[Outcome]:  # noqa: ARG002
        done, self._done = self._done, []
        return done


def empty(count: int) -> list[dict[str, Any]]:
    """Resident memory and time of a driver whose jobs cost nothing, at tenths of `count`."""
    figures: list[dict[str, Any]] = []
    before = memory.resident()
    began = time.monotonic()
    rows = [Row(i, "a red disc", seed=i) for i in range(count)]
    tasks, _ = plan(rows, config=CONFIGS / "smoke.yaml")
    planned = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        page, path = Page(Path(folder) / "index.html"), Path(folder) / "jobs.jsonl"

        def finished(task: Task, outcome: Outcome) -> None:
            page.add(task, outcome.counts, outcome.files)

        def tick(driver: Driver) -> None:
            page.write(driver.total, driver.failed)
            if driver.done % max(count // 5, 1) == 0:
                grown = (memory.resident() - before) / 2**20
                seconds = time.monotonic() - began
                figures.append(
                    {"jobs": driver.done, "MiB": round(grown, 1), "seconds": round(seconds, 1)}
                )

        Driver(tasks, Ledger(path), Nothing(), Limits(), finished=finished, tick=tick).run()
        began_again = time.monotonic()
        Ledger(path).queue(tasks)
        figures.append(
            {
                "planning, s": round(planned, 2),
                "reading the ledger again, s": round(time.monotonic() - began_again, 2),
                "ledger, MB": round(path.stat().st_size / 1e6, 2),
            }
        )
    return figures


def overhead(count: int) -> dict[str, Any]:
    """A bare loop and the batch in one process, in turn, and what loading costs."""
    base = configs.load(CONFIGS / "smoke.yaml", SHORT)
    experiments = [dataclasses.replace(base, seed=seed) for seed in range(count)]
    bare = batch = 0.0
    prior = load_prior(base.prior, "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Trainer(base, folder / "warm", prior=prior).fit()
        ledger, pool = Ledger(folder / "jobs.jsonl"), OwnProcess(folder / "batch")
        for i, experiment in enumerate(experiments):
            began = time.process_time()
            Trainer(experiment, folder / f"bare{i}", prior=prior).fit()
            bare += time.process_time() - began
            began = time.process_time()
            Driver([Task(f"t{i}", experiment)], ledger, pool, Limits()).run()
            batch += time.process_time() - began
    began = time.process_time()
    load_prior(configs.load(CONFIGS / "quickstart.yaml").prior, "cpu")
    loading = time.process_time() - began
    return {
        "bare loop, CPU s a job": round(bare / count, 3),
        "batch, CPU s a job": round(batch / count, 3),
        "loading the bundled prior, CPU s": round(loading, 2),
    }


def main() -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--empty", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=10)
    args = parser.parse_args()
    figures = {"empty jobs": empty(args.empty), "overhead": overhead(args.jobs)}
    json.dump(figures, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
