"""Many trainings for one experiment: resumable, any number of workers, lines that can be committed
and gone on from."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.json_lines import Appender, read_records, write_records
from gs_ssd.lab.evaluate.benchmark import (
    FIELDS,
    LEDGER,
    OTHERS,
    Job,
    Variant,
    plan,
    read_ledger,
    recorded,
    run_jobs,
)
from gs_ssd.lab.evaluate.intervals import Interval
from gs_ssd.lab.evaluate.measure import SIZE
from gs_ssd.lab.evaluate.suite import Suite
from gs_ssd.lab.evaluate.summary import COLUMNS, summarise
from gs_ssd.lab.reproduce.assets import Workshop, find_judge
from gs_ssd.lab.reproduce.origin import metrics_version, origins
from gs_ssd.lab.reproduce.report import Context, write_table
from gs_ssd.locks import held
from gs_ssd.prior import PriorConfig, load

CONFIG = Path("configs/comparison.yaml")
"""Claims about estimators start from a ball: no shape that the prior had in mind before."""
TINY = ("viewpoints.image_size=64", "initialize.num_points=500", "densify.mcmc.budget=500")
"""Settings of trainings that only prove that everything fits together."""
BARE = ("viewpoints.image_size=128", "finish.steps=0")
"""What the estimators alone make of it: no finish, which would hide their floaters and haze, and
smaller pictures."""
SHOWN_PROMPTS = 8
"""Prompts on the committed sheet; the page beside the ledger shows all."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Prompts x variants x seeds, with settings that all of them share."""

    suite: Suite
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    overrides: tuple[str, ...] = ()
    config: Path = CONFIG
    pixels: int = SIZE
    """A side, of the pictures that are measured."""
    quick: bool = False
    """Trains in one process where there is one worker: trainings of seconds."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a grid has given so far."""

    records: list[dict[str, Any]]
    planned: int

    @property
    def good(self) -> list[dict[str, Any]]:
        return [record for record in self.records if "failed" not in record]

    @property
    def complete(self) -> bool:
        return len(self.good) == self.planned

    def extent(self) -> str:
        """Prompts, seeds and rows of what is there."""
        counts = [
            len({record[name] for record in self.records}) for name in ("prompt", "seed", "variant")
        ]
        return "{} prompts, {} seeds, {} rows".format(*counts)

    def state(self) -> str:
        """A sentence on how much of it is there."""
        failed = [record["key"] for record in self.records if "failed" in record]
        cost = sum(record.get("cpu_seconds", 0) for record in self.good) / 3600
        text = (
            f"{len(self.good)} of {self.planned} assets are there ({cost:.1f} hours of processor"
            " time)."
        )
        return text + (f" Failed: {', '.join(failed)}." if failed else "")


def run_grid(context: Context, name: str, grid: Grid, title: str) -> Outcome:
    """Train and measure what is missing; leaves `results-SIZE.jsonl`, a table and a sheet in the
    context's folder.

    Lines that are there already (in the working folder `out/reproduce/...`, or committed in the
    context's folder) count if they were made with the same weights and settings; others are laid
    aside. Lines of rows and prompts that this call leaves out stay in the file, and out of the
    table.
    """
    config = checkout_config(grid.config)
    pixels = 128 if context.size == "tiny" else grid.pixels
    whole = plan(
        grid.suite,
        grid.variants,
        seeds=[context.seed + seed for seed in grid.seeds],
        limit=grid.limit,
        common=(*grid.overrides, f"prior.model={context.prior}", f"device={context.device}"),
        origin=origins(config),
        metrics=metrics_version(grid.suite.turntable, pixels),
    )
    rows = _chosen(grid.variants, context.rows)
    prompts = grid.suite.entries[: context.limit or grid.limit]
    jobs = [job for job in whole if job.variant in rows and job.entry in prompts]
    out = working_folder(context, name, jobs[0].origin["weights"])
    committed = context.folder / f"results-{context.size}.jsonl"
    here = grid.quick and context.workers == 1
    prior = load(PriorConfig(model=context.prior), context.device) if here else None
    workshop = Workshop(config, out, grid.suite.turntable, find_judge(), pixels, prior=prior)
    print(f"{len(jobs)} assets; page and splats: {out / 'index.html'}", flush=True)
    with held(out, f"gs-ssd reproduce {name}"):
        adopt(whole, out, committed)
        for _ in run_jobs(
            jobs,
            out,
            workshop.train,
            workshop.measure,
            workers=context.workers,
            minutes=context.minutes,
        ):
            pass
        text = workshop.write_summary(jobs, title).read_text(encoding="utf-8")
    ledger = read_ledger(out)
    records = recorded(jobs, ledger)
    context.folder.mkdir(parents=True, exist_ok=True)
    write_records(committed, recorded(whole, ledger))
    with atomic_path(context.folder / "summary.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    shown = list(dict.fromkeys(job.entry for job in jobs))[:SHOWN_PROMPTS]
    workshop.write_sheet(
        [j for j in jobs if j.entry in shown and j.seed == jobs[0].seed],
        context.folder / "sheet.png",
    )
    _write_table(context.folder / f"{name}.csv", records)
    return Outcome(records, len(jobs))


def working_folder(context: Context, name: str, weights: str) -> Path:
    """Where an experiment keeps what it has made so far, apart by size and weights."""
    return Path("out/reproduce") / f"{name}-{context.size}-{weights.replace(' ', '-')}"


def checkout_config(config: Path = CONFIG) -> Path:
    """The settings that all assets share; `config` where it is a file.

    Raises:
        UserError: this is not a checkout of the project.
    """
    if not config.is_file():
        raise UserError(f"there is no {config} here; run it from a checkout of the project")
    return config


def adopt(jobs: Sequence[Job], out: Path, committed: Path | None = None) -> None:
    """Make `out`'s ledger hold what fits these jobs: its own lines, and committed ones where it has
    none.

    Lines of the same name with another fingerprint go to `stale.jsonl` beside it.
    """
    wanted = {job.key: job for job in jobs}
    kept, stale = [], []
    earlier = read_records(committed, FIELDS, OTHERS) if committed else ()
    for key, record in ({r["key"]: r for r in earlier} | read_ledger(out)).items():
        other = key in wanted and record["fingerprint"] != wanted[key].fingerprint
        (stale if other else kept).append(record)
    with contextlib.closing(Appender(out / "stale.jsonl")) as file:
        for record in stale:
            file.append(record)
    write_records(out / LEDGER, kept)


def _chosen(variants: Sequence[Variant], rows: Sequence[str]) -> list[Variant]:
    labels = [variant.label for variant in variants]
    unknown = [row for row in rows if row not in labels]
    if unknown:
        raise UserError(f"--rows: there is no row {unknown[0]!r}; there are {', '.join(labels)}")
    return [variant for variant in variants if not rows or variant.label in rows]


def _write_table(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    table, names = summarise([dict(record) for record in records]), list(COLUMNS)
    header = ["variant", *(f"{name}{part}" for name in names for part in ("", "_low", "_high"))]
    nothing = Interval(math.nan, math.nan, math.nan)
    write_table(
        path,
        header,
        [[v, *(x for n in names for x in row.get(n, nothing))] for v, row in table.items()],
    )
