"""`gs-ssd batch`: many prompts, made by workers that load the prior once."""

import argparse
import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gs_ssd import interrupts
from gs_ssd.batch.driver import Driver, Limits
from gs_ssd.batch.ledger import FILE as LEDGER
from gs_ssd.batch.ledger import Ledger
from gs_ssd.batch.page import FILE as PAGE
from gs_ssd.batch.page import Page
from gs_ssd.batch.plan import plan
from gs_ssd.batch.pool import OwnProcess, Pool
from gs_ssd.batch.rows import Refusal, read_rows
from gs_ssd.batch.storage import Store, is_torn_url, is_url, names_in
from gs_ssd.batch.task import Task
from gs_ssd.batch.worker import Outcome
from gs_ssd.errors import UserError
from gs_ssd.locks import CALL_AGAIN, held, refuse_if_lost

EPILOG = """\
examples
  gs-ssd batch prompts.txt --config configs/quickstart.yaml --out out/batch
  gs-ssd batch prompts.csv --out out/batch --seeds 0 1 2 num_steps=400
  gs-ssd batch prompts.jsonl --out out/batch --address auto --gpus-per-worker 0.5
  gs-ssd batch prompts.txt --out s3://bucket/batch

A text file holds a prompt a line. CSV and JSON lines have `prompt`, and where wanted `name`,
`seed`, `tags`, and any setting by its dotted name. A setting of a row wins over a key=value of the
command line, which wins over the file of --config.

The same call again continues: what is done stays done, a half-made asset continues from its
checkpoint, what failed is tried again. docs/scale.md says more.

  OUT/NAME-seed0/   what a single run leaves      OUT/jobs.jsonl   what became of every asset
  OUT/index.html    a gallery, while it runs
"""
SAY_S = 5.0
SAVE_S = 15.0  #: between copies of the ledger and the page behind a URL
MOST_NAMED = 20
MOST_THREADS = 4096  #: of a worker; beyond what a machine has, and within what PyTorch takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("input", type=Path, metavar="FILE", help="prompts: .txt, .csv or .jsonl")
    add("overrides", nargs="*", metavar="key=value", help="settings of every asset")
    add("--config", type=Path, metavar="FILE", help="a YAML file of settings")
    add("--out", default="out/batch", metavar="DIR", help="a folder or URL (default: out/batch)")
    add("--seeds", type=int, nargs="+", default=[], metavar="N", help="make each row once a seed")
    add("--skip-bad", action="store_true", help="list rows that cannot run, and leave them out")
    add("--anyway", action="store_true", help="try prompts that the prior does not know")
    add("--dry-run", action="store_true", help="check the input, list the assets, and stop")
    group = parser.add_argument_group("workers")
    add = group.add_argument
    add("--workers", type=int, metavar="N", help="default: all there is room for; 0: no Ray")
    add("--address", metavar="HOST:PORT", help="a Ray cluster (auto: this machine's)")
    add("--threads", type=int, default=1, metavar="N", help="cores of each worker (default: 1)")
    add(
        "--gpus-per-worker",
        type=float,
        metavar="X",
        help="default: 1 where there are GPUs; 0: none",
    )
    add("--memory-per-worker", type=float, metavar="GB", help="the most that each may take")
    add("--scratch", type=Path, metavar="DIR", help="where nodes work when --out is a URL")
    group = parser.add_argument_group("faults")
    add = group.add_argument
    add("--retries", type=int, default=2, metavar="N", help="after an error (default: 2)")
    add("--deaths", type=int, default=3, metavar="N", help="workers that an asset may cost")
    add("--hang", type=float, default=900.0, metavar="S", help="seconds without a step")


def run(args: argparse.Namespace) -> int:
    """Make the batch; returns 0, 1 where assets failed, 130 / 143 after Ctrl-C / SIGTERM.

    Raises:
        UserError: anything that the user can fix (exit code 2).
    """
    _check(args)
    tasks = _tasks(args)
    if args.dry_run:
        print("\n".join(f"{task.name}  {task.config.prompt}" for task in tasks))
        return 0
    if not is_url(args.out):
        folder = Path(args.out).absolute()
        with held(folder, "gs-ssd batch"):
            return _make(args, tasks, folder, None, folder)
    store = Store(args.out)
    store.check()
    scratch = args.scratch or Path(tempfile.gettempdir()) / f"gs-ssd-batch-{os.getuid()}"
    with tempfile.TemporaryDirectory(prefix="gs-ssd-batch-") as temporary:
        store.pull_file(LEDGER, Path(temporary) / LEDGER)
        return _make(args, tasks, Path(temporary), store, scratch.absolute())


def _check(args: argparse.Namespace) -> None:
    if is_torn_url(args.out):
        raise UserError(f"--out {args.out} is no URL and hardly a folder; a URL has two slashes")
    least = {"workers": 0, "threads": 1, "retries": 0, "deaths": 1}
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            raise UserError(f"--{name} is {value}; it must be at least {bound}")
    if args.threads > MOST_THREADS:
        raise UserError(f"--threads is {args.threads}; it must be at most {MOST_THREADS}")
    positive = {"hang": args.hang, "memory-per-worker": args.memory_per_worker}
    for name, value in positive.items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} is {value:g}; it must be a finite number greater than 0")
    gpus = args.gpus_per_worker
    if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and gpus.is_integer())):
        raise UserError(f"--gpus-per-worker is {gpus:g}; a fraction, or a whole number of GPUs")
    if args.workers == 0 and args.address is not None:
        raise UserError("--workers 0 works in this process; leave --address out")


def _tasks(args: argparse.Namespace) -> list[Task]:
    rows, bad = read_rows(args.input)
    tasks, worse = plan(
        rows,
        config=args.config,
        overrides=args.overrides,
        seeds=args.seeds,
        anyway=args.anyway,
    )
    refusals = sorted([*bad, *worse], key=lambda refusal: refusal.line)
    if refusals:
        listed = _listed(args.input, refusals)
        if not args.skip_bad:
            raise UserError(
                f"{len(refusals)} row(s) cannot run; fix them, or leave them out with"
                f" --skip-bad\n{listed}"
            )
        print(f"left out:\n{listed}", file=sys.stderr)
    if not tasks:
        raise UserError(f"{args.input}: no row can run")
    return tasks


def _listed(path: Path, refusals: list[Refusal]) -> str:
    lines = [f"{path}, line {refusal.line}: {refusal.reason}" for refusal in refusals[:MOST_NAMED]]
    more = len(refusals) - MOST_NAMED
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])


def _make(
    args: argparse.Namespace, tasks: list[Task], home: Path, store: Store | None, work: Path
) -> int:
    """Args: home: of ledger and page; work: of the tasks' folders, on every node."""

    def look() -> None:
        if store is None:
            refuse_if_lost(home, CALL_AGAIN)

    ledger, page = Ledger(home / LEDGER), Page(home / PAGE)
    with contextlib.closing(ledger), _pool(args, work, store) as pool:
        _make_lost_ones_again(ledger, tasks, store.names() if store else names_in(work))
        save = _saver(store, home)
        progress = Progress(page, save, look)
        limits = Limits(args.retries, args.deaths, args.hang)
        driver = Driver(tasks, ledger, pool, limits, finished=progress.finished, tick=progress.tick)
        for task in tasks:
            record = ledger.records[task.name]
            if record.state == "done":
                page.add(task, record.last.get("counts", {}), record.last.get("files", ()))
        if driver.done_before:
            print(f"{driver.done_before} of {driver.total} assets are there already", flush=True)

        def stop() -> None:
            driver.stop()
            if isinstance(pool, OwnProcess):
                pool.stop()  # its task runs in this very thread

        try:
            with interrupts.collected(stop) as received:
                driver.run()
        finally:
            look()
            page.write(driver.total, driver.failed, now=True)
            save(now=True)
    print(progress.line(driver))
    print(f"gallery: {args.out if store else home}/{PAGE}")
    if driver.stopped and received:
        print("stopped; the same call again continues")
        return 128 + received[0]
    return 1 if driver.failed else 0


def _make_lost_ones_again(ledger: Ledger, tasks: list[Task], there: set[str]) -> None:
    """Queue what is done by the ledger but whose folder somebody deleted since."""
    lost = [
        task.name
        for task in tasks
        if task.name not in there
        and (record := ledger.records.get(task.name))
        and record.state == "done"
    ]
    for name in lost:
        ledger.append(name, "queued", wait=False, reason="its folder is gone")
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        print(f"made again, as their folders are gone: {lost[0]}{more}", flush=True)


@contextlib.contextmanager
def _pool(args: argparse.Namespace, work: Path, store: Store | None) -> Iterator[Pool]:
    if args.workers == 0:
        memory = args.memory_per_worker
        yield OwnProcess(work, threads=args.threads, store=store, memory_gb=memory)
        return
    from gs_ssd.batch.ray_cluster import Wanted
    from gs_ssd.batch.ray_pool import RayPool

    gpus = args.gpus_per_worker
    if gpus is None and args.address is None:  # a cluster says itself what it has
        gpus = _gpus()
    wanted = Wanted(args.workers, args.threads, gpus, args.memory_per_worker)
    pool = RayPool(work, wanted, address=args.address, store=store)
    try:
        yield pool
    finally:
        pool.close()


def _gpus() -> float:
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0


def _saver(store: Store | None, home: Path) -> Callable[..., None]:
    """Brings ledger and page behind the URL, now and then.

    While the place cannot be reached the batch goes on; what is refused at the end is an error."""
    last = time.monotonic()

    def save(*, now: bool = False) -> None:
        nonlocal last
        if store is None or not (now or time.monotonic() - last > SAVE_S):
            return
        try:
            for name in (LEDGER, PAGE):
                if (home / name).exists():
                    store.push_file(home / name, name)
        except UserError as error:
            if now:
                raise UserError(
                    f"{error}. What became of the last assets is not written down there; the same"
                    " call again finds them by their checkpoints"
                ) from error
            print(f"{error}; tried again in {SAVE_S:g} seconds", file=sys.stderr, flush=True)
        last = time.monotonic()

    return save


class Progress:
    """A line now and then: how many, how fast, how long still.

    Args:
        look: called before anything is written; raises where the folder is gone.
    """

    def __init__(self, page: Page, save: Callable[..., None], look: Callable[[], None]) -> None:
        self.page, self.save, self.look = page, save, look
        self._began = time.monotonic()
        self._said = self._began

    def finished(self, task: Task, outcome: Outcome) -> None:
        """One more asset."""
        self.page.add(task, outcome.counts, outcome.files)

    def tick(self, driver: Driver) -> None:
        """Say and write what is due.

        Raises:
            UserError: the batch's folder was moved or deleted.
        """
        self.look()  # else the next assets were made where it was, away from their ledger
        now = time.monotonic()
        if now - self._said > SAY_S:
            self._said = now
            print(self.line(driver), flush=True)
        self.page.write(driver.total, driver.failed)
        self.save()

    def line(self, driver: Driver) -> str:
        """Where the batch stands."""
        made = driver.done - driver.done_before
        minutes = (time.monotonic() - self._began) / 60
        parts = [f"{driver.done}/{driver.total} done"]
        parts += [f"{driver.failed} failed"] if driver.failed else []
        parts += [f"{len(driver.running)} running"] if driver.running else []
        parts += [driver.pool.waiting] if driver.pool.waiting else []
        if made and minutes > 0:
            rate = made / minutes
            left = (driver.total - driver.done - driver.failed) / rate
            parts += [f"{rate:.1f} a minute"]
            parts += [f"{_time(left)} left"] if left else []
        return ", ".join(parts)


def _time(minutes: float) -> str:
    return f"{minutes / 60:.1f} h" if minutes >= 90 else f"{max(minutes, 0.1):.1f} min"
