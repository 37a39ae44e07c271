"""`gs-ssd bench`: train a suite's prompts, measure the assets, write one table and one page."""

import argparse
import math
from pathlib import Path

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.files import sweep
from gs_ssd.lab.evaluate.benchmark import Job, Variant, plan, read_ledger, run_jobs
from gs_ssd.lab.evaluate.clip_score import ClipScore
from gs_ssd.lab.evaluate.suite import LARGEST_SEED, load_suite, suite_names
from gs_ssd.lab.reproduce.assets import Workshop, find_judge
from gs_ssd.lab.reproduce.origin import metrics_version, origins
from gs_ssd.locks import held

EPILOG = """\
examples
  gs-ssd bench --suite quick --workers 2
  gs-ssd bench --suite dev --seeds 0 --limit 2 -- num_steps=300
  gs-ssd bench --suite dev --estimators ssd ssd@M300:guidance.M=300 csd sds
  gs-ssd bench --suite quick --report          the tables again, from what is there

OUT/results.jsonl holds one line an asset; a second call continues where the first stopped.
OUT/summary.md, OUT/sheet.png and OUT/index.html show all of it. Quick and full are held out: tune
on dev.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument(
        "--suite", default="quick", help=f"{', '.join(suite_names())} (dev), or a .json file"
    )
    parser.add_argument(
        "--config", type=Path, default=Path("configs/quickstart.yaml"), metavar="FILE"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: out/bench/SUITE")
    parser.add_argument("--workers", type=int, default=1, help="trainings at once, one thread each")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: the suite's")
    parser.add_argument(
        "--estimators", nargs="+", metavar="NAME", help="NAME or NAME@MARK:key=value,key=value"
    )
    parser.add_argument("--limit", type=int, metavar="K", help="the first K prompts only")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="begin no training after so long; continue later",
    )
    parser.add_argument(
        "--clip",
        metavar="MODEL",
        help="also score by this CLIP model (for prompts without a judge)",
    )
    parser.add_argument(
        "--report", action="store_true", help="train nothing, write the tables again"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings of every training (after --)"
    )


def run(args: argparse.Namespace) -> int:
    """Train, measure and report; 0 if every asset is there, 1 if some failed.

    Raises:
        UserError: an unknown suite, a missing config, or results of other settings in the folder.
    """
    suite = load_suite(args.suite)
    if not args.config.exists():
        raise UserError(f"there is no config {args.config}; name one with --config")
    if args.workers < 1 or (args.limit is not None and args.limit < 1):
        raise UserError("--workers and --limit must be at least 1")
    if not args.minutes > 0:  # nor NaN
        raise UserError("--minutes must be above 0")
    if any(not 0 <= seed <= LARGEST_SEED for seed in args.seeds or ()):
        raise UserError(f"--seeds must be from 0 to {LARGEST_SEED}")
    variants = [Variant.parse(text) for text in args.estimators or suite.estimators]
    for variant in variants:
        configs.load(
            args.config, [*args.overrides, *variant.overrides]
        )  # refused before the first training of another
    jobs = plan(
        suite,
        variants,
        seeds=args.seeds,
        limit=args.limit,
        common=args.overrides,
        origin=origins(args.config),
        metrics=metrics_version(suite.turntable, args.clip),
    )
    out = args.out or Path("out/bench") / suite.name
    workshop = Workshop(
        args.config,
        out,
        suite.turntable,
        find_judge(),
        clip=ClipScore(args.clip) if args.clip else None,
    )
    title = f"Suite {suite.name}: {suite.about}"
    if args.report:
        return _report(workshop, jobs, title)
    with held(out, "gs-ssd bench"):
        sweep(out)
        for _ in run_jobs(
            jobs, out, workshop.train, workshop.measure, workers=args.workers, minutes=args.minutes
        ):
            pass
        return _report(workshop, jobs, title)


def _report(workshop: Workshop, jobs: list[Job], title: str) -> int:
    """Write and print the tables; the exit code."""
    out = workshop.out
    path = workshop.write_summary(jobs, title, _costs(jobs, out))
    print(path.read_text(encoding="utf-8"))
    print(f"wrote {path}, {out / 'sheet.png'}, {out / 'index.html'}")
    records = read_ledger(out)
    return int(any("failed" in records.get(job.key, {"failed": ""}) for job in jobs))


def _costs(jobs: list[Job], out: Path) -> str:
    """A table of seconds per step by part, for the first asset of each variant that is still
    there."""
    from gs_ssd.lab.commands.cost import breakdown

    lines = []
    for label in dict.fromkeys(job.variant.label for job in jobs):
        folders = [out / "runs" / job.key for job in jobs if job.variant.label == label]
        folder = next((f for f in folders if any((f / "checkpoints").glob("*.pt"))), None)
        if folder is not None:
            parts = breakdown(folder)
            lines.append(
                f"- {label}: "
                + ", ".join(f"{name} {seconds:.4f}" for name, seconds in parts.items())
            )
    return (
        "\n## Seconds a step, by part (last steps of one asset, one thread)\n\n"
        + "\n".join(lines)
        + "\n"
        if lines
        else ""
    )
