"""What a batch costs beside its assets: the driver's memory by the number of jobs, the overhead of
a job against a bare loop, and what loading the prior once saves.

    python tools/batch_cost.py --empty 10000 --jobs 10
    python tools/batch_cost.py --empty 0 --jobs 5 --ray --seconds 20      # on two cores
"""

import argparse
import dataclasses
import json
import os
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
        began = time.monotonic()
        tasks, _ = plan(rows, config=CONFIGS / "smoke.yaml")
        ledger, page = Ledger(path), Page(path)
        again = Driver(tasks, ledger, Nothing(), Limits())
        for task in tasks:
            last = ledger.records[task.name].last
            page.add(task, last["counts"], last["files"])
        figures.append(
            {
                "planning, s": round(planned, 2),
                "a second call, all done, s": round(time.monotonic() - began, 2),
                "done before": again.done_before,
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


def through_ray(count: int, seconds: float) -> dict[str, Any]:
    """Jobs of about `seconds`, in turn here and through a Ray worker; then on two workers."""
    from gs_ssd.batch.ray_cluster import Wanted
    from gs_ssd.batch.ray_pool import RayPool

    base = configs.load(CONFIGS / "smoke.yaml", SHORT)
    prior = load_prior(base.prior, "cpu")
    walls: dict[str, list[float]] = {"bare": [], "ray": []}
    cpus: dict[str, list[float]] = {"bare": [], "ray": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Trainer(base, folder / "warm", prior=prior).fit()
        began = time.process_time()
        Trainer(base, folder / "trial", prior=prior).fit()
        steps = round(seconds / (time.process_time() - began) * base.num_steps)
        ledger, pool = Ledger(folder / "jobs.jsonl"), RayPool(folder / "ray", Wanted(2, gpus=0.0))

        def together(tasks: list[Task]) -> tuple[float, list[Outcome]]:
            ended: list[Outcome] = []
            began = time.monotonic()
            Driver(tasks, ledger, pool, Limits(), finished=lambda _, one: ended.append(one)).run()
            return time.monotonic() - began, ended

        while len(pool.idle()) < 2:
            pool.wait(1.0)
        together([Task(f"warm{i}", base) for i in range(2)])  # what a worker does once
        base = dataclasses.replace(base, num_steps=steps)
        made = [dataclasses.replace(base, seed=seed) for seed in range(count)]
        for i, experiment in enumerate(made):
            began, cpu = time.monotonic(), time.process_time()
            Trainer(experiment, folder / f"bare{i}", prior=prior).fit()
            walls["bare"].append(time.monotonic() - began)
            cpus["bare"].append(time.process_time() - cpu)
            wall, ended = together([Task(f"t{i}", experiment)])
            walls["ray"].append(wall)
            cpus["ray"].append(ended[0].cpu_seconds)
        both, _ = together([Task(f"{n}{i}", one) for i, one in enumerate(made) for n in "ab"])
        pool.close()
    ratios = sorted(ray / bare for ray, bare in zip(walls["ray"], walls["bare"], strict=True))
    return {
        "steps a job": steps,
        "seconds a job, bare loop": [round(wall, 2) for wall in walls["bare"]],
        "seconds a job, one Ray worker": [round(wall, 2) for wall in walls["ray"]],
        "median ratio of the pairs": round(ratios[count // 2], 3),
        "CPU s a job, bare loop": round(sum(cpus["bare"]) / count, 2),
        "CPU s a job, Ray worker": round(sum(cpus["ray"]) / count, 2),
        "throughput of two workers, of one": round(2 * sum(walls["ray"]) / both, 2),
    }


def main() -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--empty", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--ray", action="store_true", help="the overhead through Ray workers")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a job with --ray")
    args = parser.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would yield to all else here
    figures: dict[str, Any] = {"empty jobs": empty(args.empty)} if args.empty else {}
    if args.ray:
        figures["through Ray"] = through_ray(args.jobs, args.seconds)
    else:
        figures["overhead"] = overhead(args.jobs)
    json.dump(figures, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
