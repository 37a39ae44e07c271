"""Figs. 6, 7, 9, 14-16 and 18 of the SSD paper: the same prompts, seeds and budget, one estimator after the other."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.evaluate import summary
from gs_ssd.evaluate.benchmark import Variant, plan, read_ledger, run_jobs
from gs_ssd.evaluate.intervals import Interval, paired
from gs_ssd.evaluate.suite import load_suite
from gs_ssd.reproduce.assets import Workshop, find_judge
from gs_ssd.reproduce.report import Claim, Context, Report, SizeName, write_table

TITLE = "3D assets by estimator (Figs. 6, 7, 9, 14-16, 18)"
MIN_PROMPTS = 5
"""With fewer a bootstrap over prompts says nothing, and no claim is settled."""
CONFIG = Path("configs/quickstart.yaml")
VARIANTS = (
    "ssd",
    "csd",
    "sds",
    "sds@g7.5:guidance.cfg_scale=7.5",
    "ssd@M200:guidance.M=200",
    "ism",
    "seek_minus_eps",
    "sds_reduced",
    "seek_reduced",
    *(f"ssd@M{M}:guidance.M={M}" for M in (80, 300, 500, 700, 1000)),
    "nfsd",
    "ssd@perpneg:guidance.prompts.perp_neg=true",
)


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much of the grid is run."""

    suite: str
    variants: tuple[str, ...]
    limit: int | None
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()


SIZES: dict[SizeName, Budget] = {
    "tiny": Budget("development", VARIANTS[:2], 1, (0,), ("num_steps=12",)),
    "small": Budget("development", VARIANTS[:2], None, (0,), ("num_steps=200",)),
    "full": Budget("full", VARIANTS, None, (0, 1, 2)),
}


def run(context: Context) -> Report:
    """Train the size's grid (resumable), measure it, and settle the claims with paired intervals."""
    budget, suite = SIZES[context.size], load_suite(SIZES[context.size].suite)
    if not CONFIG.is_file():
        raise UserError(f"there is no {CONFIG} here; run it from a checkout of the project")
    overrides = (*budget.overrides, f"prior.model={context.prior}", f"device={context.device}")
    jobs = plan(
        suite,
        [Variant.parse(text) for text in budget.variants],
        seeds=[context.seed + seed for seed in budget.seeds],
        limit=budget.limit,
        common=overrides,
    )
    out = Path("out/reproduce") / f"comparison-{context.size}"
    workshop = Workshop(CONFIG, out, suite.turntable, find_judge())
    for _ in run_jobs(jobs, out, workshop.train, workshop.measure, workers=context.workers):
        pass
    workshop.write_summary(jobs, TITLE)
    ledger = read_ledger(out)
    records = [ledger[job.key] for job in jobs if job.key in ledger]
    context.folder.mkdir(parents=True, exist_ok=True)
    for name in ("results.jsonl", "sheet.png", "summary.md"):
        if (out / name).exists():
            (context.folder / name).write_bytes((out / name).read_bytes())
    _write_table(context.folder / "comparison.csv", records)
    failed = [record["key"] for record in records if "failed" in record]
    return Report(
        TITLE,
        f"Suite `{suite.name}`, {len({r['prompt'] for r in records})} prompts x {len(budget.seeds)} seeds,"
        f" {len(budget.variants)} variants, `{CONFIG}` {' '.join(overrides)}. One recipe for all: learning rates, t"
        " range and budget are those of the default, which was tuned for SSD; no estimator had a tuning of its own."
        " All numbers are in `comparison/summary.md`, one JSON line an asset in `comparison/results.jsonl`."
        + (f" Failed: {', '.join(failed)}." if failed else ""),
        claims(records),
        (("sheet.png", "First the true object, then each variant (four views of the turntable)."),),
        "A claim holds where the 95 % interval of the paired difference lies on its side of zero, does not hold where"
        " it lies on the other, and cannot be told where it covers zero or fewer than five prompts were run.",
    )


def claims(records: Sequence[dict[str, Any]]) -> tuple[Claim, ...]:
    """The paper's comparisons, each a paired difference over prompts."""
    sharper, cleaner = "detail", "outside"
    questions = (
        ("SSD is less saturated than SDS", "ssd", "sds", "saturation", -1),
        ("SSD is less saturated than CSD", "ssd", "csd", "saturation", -1),
        ("SSD's saturation is nearer to the truth than that of SDS", "ssd", "sds", "|saturation|", -1),
        ("SSD is sharper than SDS", "ssd", "sds", sharper, 1),
        ("SSD has fewer floaters than CSD", "ssd", "csd", cleaner, -1),
        ("SSD has the better silhouette than CSD", "ssd", "csd", "iou", 1),
        ("SSD is recognised more often than CSD", "ssd", "csd", "kind", 1),
        ("SSD is recognised more often than SDS", "ssd", "sds", "kind", 1),
        ("SSD is recognised more often than SDS at scale 1", "ssd", "seek_minus_eps", "kind", 1),
        ("Adaptive variance reduction helps SDS", "sds_reduced", "sds", "iou", 1),
        ("Disengaging at large t helps: SSD beats pure reduced seeking", "ssd", "seek_reduced", "iou", 1),
        ("Perp-Neg lowers the number of fronts", "ssd@perpneg", "ssd", "fronts", -1),
        ("The prior's own M is recognised more often than the paper's 200", "ssd", "ssd@M200", "kind", 1),
        ("The prior's own M has the better silhouette than the paper's 200", "ssd", "ssd@M200", "iou", 1),
        ("SSD is faster than ISM", "ssd", "ism", "cpu", -1),
    )
    return tuple(_settle(records, *question) for question in questions)


def _settle(records: Sequence[dict[str, Any]], text: str, ours: str, theirs: str, column: str, sign: int) -> Claim:
    name = column.strip("|")
    first, second = (summary.matrix(records, variant, name) for variant in (ours, theirs))
    interval = paired(first, second) if column == name else paired(np.abs(first), np.abs(second))
    title = summary.COLUMNS[name].title
    if math.isnan(interval.mean):
        return Claim(text, None, f"{ours} and {theirs} were not both measured")
    prompts = int((~np.isnan(first - second)).any(axis=1).sum())
    evidence = f"{title}{' (distance)' if column != name else ''}, {ours} minus {theirs}: {interval}"
    return Claim(text, verdict(interval, sign) if prompts >= MIN_PROMPTS else None, f"{evidence}, {prompts} prompts")


def verdict(interval: Interval, sign: int) -> bool | None:
    """True where the whole interval has the sign, False where it has the other, else None."""
    low, high = sorted((sign * interval.low, sign * interval.high))
    return True if low > 0 else False if high < 0 else None


def _write_table(path: Path, records: Sequence[dict[str, Any]]) -> None:
    table = summary.summarise(records)
    names = list(summary.COLUMNS)
    header = ["variant", *(f"{name}{part}" for name in names for part in ("", "_low", "_high"))]
    nothing = Interval(math.nan, math.nan, math.nan)
    write_table(path, header, [[v, *(x for n in names for x in row.get(n, nothing))] for v, row in table.items()])
