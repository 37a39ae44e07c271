"""Many trainings, measured: which jobs there are, who runs them, what is already done.

One JSON line a job.

Nothing here knows how an asset is trained or measured: both are functions that the caller passes
in, so that the bookkeeping (resuming, failures, workers) is tested without a rasterizer.
"""

import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

from gs_ssd.errors import UserError
from gs_ssd.files import sweep
from gs_ssd.json_lines import append_record, read_records
from gs_ssd.lab.evaluate.suite import Entry, Suite
from gs_ssd.lab.evaluate.summary import NUMBERS
from gs_ssd.lab.evaluate.trainings import Cost, TrainingError, end_all
from gs_ssd.locks import CALL_AGAIN, held, refuse_if_lost

LEDGER = "results.jsonl"
FIELDS = {"key": str, "fingerprint": str}  #: without which a line of it is no record
OTHERS: Final[dict[str, Any]] = {
    **dict.fromkeys(("kind", "color"), str | None),
    **dict.fromkeys(("prompt", "variant", "metrics", "failed"), str),
    **dict.fromkeys(("overrides", "named", "named_colors"), list),
    "seed": int,
    "origin": dict,
    **dict.fromkeys(NUMBERS, int | float | None),
}
"""What the fields are of which tables and pages are made."""
LABEL: Final = re.compile(r"[\w+=-][\w.+=@-]*")
"""What a variant may be called: its label names a folder."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train: a label for tables, and the settings that make it."""

    label: str
    overrides: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> "Variant":
        """`ssd`, or `ssd@M300:guidance.M=300,seed=1`: estimator, an optional mark, optional
        settings.

        Raises:
            UserError: a setting without "=", or a label that cannot name a folder.
        """
        label, _, rest = text.partition(":")
        settings = [s for s in rest.split(",") if s]
        if any("=" not in s for s in settings):
            raise UserError(
                f"the estimator {text!r} is not of the form NAME or NAME@MARK:key=value,key=value"
            )
        if not LABEL.fullmatch(label) or len(label) > 100:
            raise UserError(
                f"the estimator {text!r:.120} names a folder: use letters, digits and . + = @ - _"
                " alone"
            )
        return Variant(label, (f"guidance.estimator={label.partition('@')[0]}", *settings))


@dataclasses.dataclass(frozen=True)
class Job:
    """One asset to train."""

    entry: Entry
    seed: int
    variant: Variant
    common: tuple[str, ...] = ()
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What it is made with beside its overrides: weights, recipe, settings, each by name and
    hash."""
    metrics: str = ""
    """The version of the code that measures it."""

    @property
    def key(self) -> str:
        """Its name in the ledger and its folder under `runs/`."""
        return f"{self.variant.label}/{self.entry.slug}/seed-{self.seed}"

    @property
    def overrides(self) -> tuple[str, ...]:
        return (f"seed={self.seed}", *self.common, *self.variant.overrides)

    @property
    def fingerprint(self) -> str:
        """Changes with every setting and with the weights, so that old results are never taken for
        new ones."""
        parts = [self.entry.prompt, *self.overrides, *sorted(self.origin.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def plan(
    suite: Suite,
    variants: Sequence[Variant],
    *,
    seeds: Sequence[int] | None = None,
    limit: int | None = None,
    common: Sequence[str] = (),
    origin: Callable[[Sequence[str]], Mapping[str, str]] = lambda _: {},
    metrics: str = "",
) -> list[Job]:
    """All jobs, seed by seed and prompt by prompt: after an early stop every variant has seen the
    same prompts.

    Args:
        limit: the first prompts only.
        common: settings of every training.
        origin: what a training with such overrides is made with (see `Job.origin`).
        metrics: see `Job.metrics`.

    Raises:
        UserError: a seed or a variant is named twice.
    """
    for name, values in (
        ("seed", seeds or suite.seeds),
        ("estimator", [variant.label for variant in variants]),
    ):
        if twice := [value for i, value in enumerate(values) if value in values[:i]]:
            raise UserError(
                f"the {name} {twice[0]!r} is named twice; name each once (an estimator also as"
                " NAME@MARK)"
            )
    made_with = [origin((*common, *variant.overrides)) for variant in variants]
    return [
        Job(entry, seed, variant, tuple(common), origin, metrics)
        for seed in seeds or suite.seeds
        for entry in suite.entries[:limit]
        for variant, origin in zip(variants, made_with, strict=True)
    ]


def read_ledger(out: Path) -> dict[str, dict[str, Any]]:
    """Records by key, the last one of each."""
    return {record["key"]: record for record in read_records(out / LEDGER, FIELDS, OTHERS)}


def recorded(jobs: Sequence[Job], records: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, good and failed, of those jobs that have one.

    Raises:
        UserError: one was made with other weights or settings, which no table may mix with these.
    """
    found = []
    for job in jobs:
        record = records.get(job.key)
        if record is None or ("failed" in record and record["fingerprint"] != job.fingerprint):
            continue
        if record["fingerprint"] != job.fingerprint:
            raise UserError(
                f"{job.key} is already measured, but with other {_change(job, record)}; choose"
                " another --out"
            )
        plain = {
            "prompt": job.entry.prompt,
            "variant": job.variant.label,
            "seed": job.seed,
        }
        found.append(plain | record)
    return found


def unfinished(jobs: Sequence[Job], records: Mapping[str, dict[str, Any]]) -> list[Job]:
    """Jobs without a good record; raises as `recorded` does."""
    done = {record["key"] for record in recorded(jobs, records) if "failed" not in record}
    return [job for job in jobs if job.key not in done]


def _change(job: Job, record: dict[str, Any]) -> str:
    """In words, what a record was made with and the job is not."""
    old = record.get("origin", {})
    changed = [name for name, value in job.origin.items() if old.get(name) != value]
    named = [
        f"{name} ({old.get(name) or 'not recorded'}, now {job.origin[name]})" for name in changed
    ]
    if not changed or "config" in changed:
        named.append(f"settings (those were {' '.join(map(str, record.get('overrides', [])))})")
    return ", ".join(named)


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    train: Callable[[Job, Path], Cost],
    measure: Callable[[Job, Path], dict[str, Any]],
    *,
    workers: int = 1,
    minutes: float = math.inf,
    say: Callable[[str], None] = print,
) -> Iterator[dict[str, Any]]:
    """Train in `workers` threads, measure here, write one line a job; yields the records as they
    come.

    `train(job, folder)` may raise `TrainingError`; that is recorded, and tried again by the next
    call. Assets that older code has measured are measured again, and trained again only if their
    folder is gone (a line that came from another machine). After `minutes` no training is begun any
    more.
    """
    with held(out, "gs-ssd bench"):
        sweep(out)
        yield from _run_jobs(
            jobs, out, train, measure, workers, time.monotonic() + 60 * minutes, say
        )


def _run_jobs(
    jobs: Sequence[Job],
    out: Path,
    train: Callable[[Job, Path], Cost],
    measure: Callable[[Job, Path], dict[str, Any]],
    workers: int,
    end: float,
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    total, ledger = len(jobs), read_ledger(out)
    missing = unfinished(jobs, ledger)
    outdated = [
        job
        for job in jobs
        if job not in missing and ledger[job.key].get("metrics", "") != job.metrics
    ]
    lost = [job for job in outdated if not (out / "runs" / job.key).is_dir()]
    todo = [job for job in jobs if job in missing or job in lost]
    done = total - len(todo)
    yield from _measured_again([job for job in outdated if job not in lost], ledger, out, measure)
    if done:
        say(f"{done} of {total} assets are there already")
    queue = iter(todo)
    running: dict[Future[Cost], Job] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while True:
                refuse_if_lost(out, CALL_AGAIN)
                while (
                    len(running) < workers
                    and time.monotonic() < end
                    and (job := next(queue, None)) is not None
                ):
                    running[pool.submit(train, job, out / "runs" / job.key)] = job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    refuse_if_lost(out, CALL_AGAIN)
                    record = _record(job, future, out, measure)
                    append_record(out / LEDGER, record)
                    done += 1
                    say(f"[{done}/{total}] {job.key}: {_line(record)}")
                    yield record
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
            raise


def _measured_again(
    jobs: Sequence[Job],
    ledger: Mapping[str, dict[str, Any]],
    out: Path,
    measure: Callable[[Job, Path], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    for job in jobs:
        refuse_if_lost(out, CALL_AGAIN)
        record = ledger[job.key] | measure(job, out / "runs" / job.key) | {"metrics": job.metrics}
        append_record(out / LEDGER, record)
        yield record


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
        "origin": dict(job.origin),
        "metrics": job.metrics,
    }
    try:
        cost = future.result()
    except TrainingError as failure:
        return record | {"failed": str(failure)}
    numbers = measure(job, out / "runs" / job.key)
    return record | {name: round(value, 1) for name, value in cost._asdict().items()} | numbers


def _line(record: dict[str, Any]) -> str:
    if "failed" in record:
        return f"FAILED, {record['failed']}"
    shown = {
        name: record[name]
        for name in ("kind_share", "color_share", "haze", "outside", "iou")
        if name in record
    }
    return ", ".join(
        [f"{record['seconds']:.0f} s", *(f"{name} {value:.2f}" for name, value in shown.items())]
    )
