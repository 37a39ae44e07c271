"""`gs-ssd reproduce`: rerun the paper's experiments and build the page that shows them."""

import argparse
import importlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

from gs_ssd import devices
from gs_ssd.errors import UserError
from gs_ssd.files import sweep
from gs_ssd.lab.evaluate.suite import LARGEST_SEED
from gs_ssd.lab.evaluate.summary import in_words
from gs_ssd.lab.reproduce import EXPERIMENTS, TRAIN_ASSETS
from gs_ssd.lab.reproduce.origin import origin_of_prior
from gs_ssd.lab.reproduce.report import Claim, Context, is_finished, write_page, write_report
from gs_ssd.locks import held
from gs_ssd.prior import PriorConfig

_EPILOG = """\
experiments:
{experiments}

Each writes pictures, tables and a verdict to OUT/NAME; OUT/README.md shows all that are there. An
experiment that was finished at the same size on the same weights is not run again, unless --again
is given. Those that train assets continue where they stopped
(OUT/NAME/results-SIZE.jsonl holds a line per asset), and so does pictures.

examples
  gs-ssd reproduce all --out out/reproduction
  gs-ssd reproduce comparison --size full --workers 2 --minutes 60 --rows ssd csd sds
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG.format(
        experiments="\n".join(f"  {k:14}{v}" for k, v in EXPERIMENTS.items())
    )
    parser.add_argument(
        "name", choices=[*EXPERIMENTS, "all"], metavar="NAME", help="an experiment, or all"
    )
    parser.add_argument(
        "--size", choices=("tiny", "small", "full"), default="small", help="seconds, minutes, hours"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/reproduction"), metavar="DIR")
    parser.add_argument(
        "--prior",
        default="bundled",
        help="bundled (default), or a Stable Diffusion model's path or name",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=1, help="processes at once, where there are many runs"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        help="of a comparison, these rows only; of a tuning, these estimators",
    )
    parser.add_argument(
        "--limit", type=int, metavar="K", help="of a comparison, the first K prompts only"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="begin no training after so long; continue later",
    )
    parser.add_argument(
        "--untuned",
        action="store_true",
        help="of the comparison, every estimator as it comes, whatever a tuning has found",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--again", action="store_true", help="run what is already there")


def run(args: argparse.Namespace) -> int:
    """Run and report; 0, whatever the verdicts.

    Raises:
        UserError: an unknown prior, row or device, no checkout of the project around, or nothing to
            do.
    """
    names = list(EXPERIMENTS) if args.name == "all" else [args.name]
    check(args, names)
    with held(args.out, "gs-ssd reproduce"):
        for name in names:
            sweep(args.out / name)
            _one(name, args)
        write_page(args.out, list(EXPERIMENTS), _shipped())
    print(f"wrote {args.out / 'README.md'}")
    return 0


def check(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse what cannot be, and what would have no effect.

    Raises:
        UserError: names the option.
    """
    if args.workers < 1 or (args.limit is not None and args.limit < 1):
        raise UserError("--workers and --limit must be at least 1")
    if not args.minutes > 0:  # nor NaN
        raise UserError("--minutes must be above 0")
    if not 0 <= args.seed <= LARGEST_SEED:
        raise UserError(f"--seed must be from 0 to {LARGEST_SEED}")
    given = [
        *(["--rows"] if args.rows else []),
        *(["--limit"] if args.limit is not None else []),
        *(["--minutes"] if args.minutes < math.inf else []),
    ]
    if given and not set(names) & set(TRAIN_ASSETS):
        raise UserError(
            f"{given[0]} has no effect on {names[0]}, which trains no assets; it is for "
            f"{', '.join(TRAIN_ASSETS)}"
        )
    if args.untuned and "comparison" not in names:
        raise UserError(f"--untuned has no effect on {names[0]}; it is for the comparison")
    if names == ["illustrative"] and args.prior != "bundled":
        raise UserError("--prior has no effect on illustrative, whose scores are exact")
    devices.choose(args.device)


def _one(name: str, args: argparse.Namespace) -> None:
    """Run one experiment and print its verdicts, unless it is there already."""
    folder = args.out / name
    module = importlib.import_module(f"gs_ssd.lab.reproduce.{name}")
    context = Context(
        args.size, folder, args.prior, args.seed, args.workers, args.device, tuple(args.rows),
        args.limit,
        args.minutes, args.untuned,
    )  # fmt: skip
    weights = _weights(name, context)
    if is_finished(folder, args.size, weights, args.seed) and not args.again:
        print(f"{name}: already there at size {args.size} (--again repeats it)")
        return
    print(f"{name}: {EXPERIMENTS[name]}", flush=True)
    started = time.monotonic()
    report = module.run(context)
    write_report(report, folder, name, args.size, started, weights, context.options, args.seed)
    write_page(args.out, list(EXPERIMENTS), _shipped())
    for claim in report.claims:
        print(f"  {_verdict(claim)}: {claim.text} ({claim.evidence})")


def _weights(name: str, context: Context) -> str:
    """What the experiment will run on, or start from; "" where it uses exact scores."""
    if name == "illustrative":
        return ""
    model = context.prior
    if name == "avatar":
        from gs_ssd.lab.reproduce import avatar

        model = avatar.prior_of(context)
    return in_words(origin_of_prior(PriorConfig(model=model), context.device))


def _shipped() -> str:
    return in_words(origin_of_prior(PriorConfig()))


def _verdict(claim: Claim) -> str:
    return {True: "holds", False: "DOES NOT HOLD", None: "cannot be told"}[claim.holds]
