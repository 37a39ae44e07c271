"""Options of the commands that let a prior draw: which prior, which kinds, how."""

import argparse
from collections.abc import Collection
from pathlib import Path

from gs_ssd import config as configs
from gs_ssd.bounds import Bounds
from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig


def add_drawing_options(parser: argparse.ArgumentParser, *, variety: float) -> None:
    """`--model` to `--out`; `variety` is the default of `--variety`."""
    parser.add_argument(
        "--model", default="bundled", help="bundled, or a pipeline folder of one's own training"
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="default: all of the world")
    parser.add_argument("--steps", type=int, default=25, help="of DDIM")
    parser.add_argument("--scale", type=float, default=4.0, help="guidance")
    parser.add_argument(
        "--variety",
        type=float,
        default=variety,
        metavar="X",
        help="of the proportions that a first noise gives, where a camera is told: 1 as the world's"
        " objects differ, 0 the mean shape (default %(default)s)",
    )
    parser.add_argument("--dtype", help="float32 | float16 | bfloat16")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the numbers and pictures there"
    )


def prior_config(args: argparse.Namespace) -> PriorConfig:
    """What the options ask for.

    Raises:
        UserError: a number that nothing can be drawn with, no model, an unknown dtype.
    """
    for name, number, bounds in (
        ("--steps", args.steps, Bounds(1, 1000)),
        ("--scale", args.scale, Bounds(-1000, 1000)),
        *(("--seeds", seed, Bounds(0, 2**32 - 1)) for seed in args.seeds),
    ):
        if not bounds.holds(number):
            raise UserError(f"{name} {number}: it must be {bounds}")
    given = [f"prior.model={args.model}", f"prior.variety={args.variety}"]
    dtype = [] if args.dtype is None else [f"prior.dtype={args.dtype}"]
    return configs.load(None, [*given, *dtype]).prior


def chosen_kinds(args: argparse.Namespace, known: Collection[str]) -> list[str]:
    """The kinds that were named, or all.

    Raises:
        UserError: there is no such kind.
    """
    unknown = [kind for kind in args.kinds or () if kind not in known]
    if unknown:
        raise UserError(f"--kinds {unknown[0]} is not one of {', '.join(known)}")
    return args.kinds or list(known)
