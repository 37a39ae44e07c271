"""Many trainings, measured: which jobs there are, who runs them, what is already done. One JSON line a job.

Nothing here knows how an asset is trained or measured: both are functions that the caller passes in, so that the
bookkeeping (resuming, failures, workers) is tested without a rasterizer.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from gs_ssd.errors import UserError
from gs_ssd.evaluate.suite import Entry, Suite

LEDGER = "results.jsonl"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train: a label for tables, and the settings that make it."""

    label: str
    overrides: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> "Variant":
        """`ssd`, or `ssd@M300:guidance.M=300,seed=1`: estimator, an optional mark, optional settings.

        Raises:
            UserError: a setting without "=".
        """
        label, _, rest = text.partition(":")
        settings = [s for s in rest.split(",") if s]
        if not label or any("=" not in s for s in settings):
            raise UserError(f"the estimator {text!r} is not of the form NAME or NAME@MARK:key=value,key=value")
        return Variant(label, (f"guidance.estimator={label.partition('@')[0]}", *settings))


@dataclasses.dataclass(frozen=True)
class Job:
    """One asset to train."""

    entry: Entry
    seed: int
    variant: Variant
    common: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name in the ledger and its folder under `runs/`."""
        return f"{self.variant.label}/{self.entry.slug}/seed-{self.seed}"

    @property
    def overrides(self) -> tuple[str, ...]:
        return (f"seed={self.seed}", *self.common, *self.variant.overrides)

    @property
    def fingerprint(self) -> str:
        """Changes with every setting, so that old results are never taken for new ones."""
        return hashlib.sha256(json.dumps([self.entry.prompt, *self.overrides]).encode()).hexdigest()[:12]


class Cost(NamedTuple):
    """What one training took: wall time, processor time, and the process's largest resident memory."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


class TrainingError(Exception):
    """A training that ended badly; its text says how."""


def plan(
    suite: Suite,
    variants: Sequence[Variant],
    *,
    seeds: Sequence[int] | None = None,
    limit: int | None = None,
    common: Sequence[str] = (),
) -> list[Job]:
    """All jobs, seed by seed, so that an early stop has seen every prompt. `limit` keeps the first prompts only."""
    entries = suite.entries[:limit]
    return [
        Job(entry, seed, variant, tuple(common))
        for seed in (seeds or suite.seeds)
        for variant in variants
        for entry in entries
    ]


def read_ledger(out: Path) -> dict[str, dict[str, Any]]:
    """Records by key, the last one of each; a half-written last line (a killed run) is dropped."""
    path = out / LEDGER
    records: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            records[record["key"]] = record
        except (ValueError, KeyError, TypeError):
            continue
    return records


def unfinished(jobs: Sequence[Job], records: dict[str, dict[str, Any]]) -> list[Job]:
    """Jobs without a good record.

    Raises:
        UserError: a good record of the same name was made with other settings.
    """
    todo = []
    for job in jobs:
        record = records.get(job.key)
        if record is None or "failed" in record:
            todo.append(job)
        elif record["fingerprint"] != job.fingerprint:
            raise UserError(
                f"{job.key} is already measured, but with other settings ({' '.join(record['overrides'])}); "
                "choose another --out"
            )
    return todo


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    train: Callable[[Job, Path], Cost],
    measure: Callable[[Job, Path], dict[str, Any]],
    *,
    workers: int = 1,
    say: Callable[[str], None] = print,
) -> Iterator[dict[str, Any]]:
    """Train in `workers` threads, measure here, write one line a job; yields the records as they come.

    `train(job, folder)` may raise `TrainingError`; that is recorded, and tried again by the next call.
    """
    total = len(jobs)
    todo = unfinished(jobs, read_ledger(out))
    done = total - len(todo)
    if done:
        say(f"{done} of {total} assets are there already")
    queue = iter(todo)
    running: dict[Future[Cost], Job] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while True:
                while len(running) < workers and (job := next(queue, None)) is not None:
                    running[pool.submit(train, job, out / "runs" / job.key)] = job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    record = _record(job, future, out, measure)
                    _append(out / LEDGER, record)
                    done += 1
                    say(f"[{done}/{total}] {job.key}: {_line(record)}")
                    yield record
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_process(command: Sequence[str], log: Path) -> Cost:
    """One training as a process with one thread; its output goes to `log`.

    Raises:
        TrainingError: it ended with another code than 0; carries the log's last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    started = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | single)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise TrainingError(f"exit code {process.returncode}: {' | '.join(tail)}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _record(
    job: Job, future: Future[Cost], out: Path, measure: Callable[[Job, Path], dict[str, Any]]
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "key": job.key,
        "fingerprint": job.fingerprint,
        "prompt": job.entry.prompt,
        "kind": job.entry.kind,
        "color": job.entry.color,
        "variant": job.variant.label,
        "seed": job.seed,
        "overrides": list(job.overrides),
    }
    try:
        cost = future.result()
    except TrainingError as failure:
        return record | {"failed": str(failure)}
    numbers = measure(job, out / "runs" / job.key)
    return record | {name: round(value, 1) for name, value in cost._asdict().items()} | numbers


def _append(path: Path, record: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some room, then call it again") from error


def _line(record: dict[str, Any]) -> str:
    if "failed" in record:
        return f"FAILED, {record['failed']}"
    shown = {name: record[name] for name in ("kind_share", "color_share", "haze", "outside", "iou") if name in record}
    return ", ".join([f"{record['seconds']:.0f} s", *(f"{name} {value:.2f}" for name, value in shown.items())])
