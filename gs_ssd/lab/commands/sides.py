"""`gs-ssd sides`: ask a prior for every side of every kind, and see which side it draws, and how
true its shape is."""

import argparse
import json
from pathlib import Path

from torch import Tensor

from gs_ssd import config as configs
from gs_ssd import devices
from gs_ssd.bounds import Bounds
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import drawing, sides
from gs_ssd.lab.prior_training.held_out import held_out
from gs_ssd.lab.prior_training.shapes import shape_iou
from gs_ssd.maths.color import to_uint8
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.volume_prior import VolumePrior
from gs_ssd.run.pictures import write_sheet

EPILOG = """\
examples
  gs-ssd sides                                  28 kinds, 8 azimuths, 3 elevations, one noise a seed
  gs-ssd sides --kinds mug duck --seeds 0 1 2
  gs-ssd sides --held-out                       pairs of kind and colour never trained on
  gs-ssd sides --model FOLDER --dtype bfloat16  fast where the processor multiplies in it (AMX)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument(
        "--model", default="bundled", help="bundled, or a pipeline folder of one's own training"
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="default: all of the world")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="in the colours kept out of the training, those kinds",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="one first noise each"
    )
    parser.add_argument("--steps", type=int, default=25, help="of DDIM")
    parser.add_argument("--scale", type=float, default=4.0, help="guidance")
    parser.add_argument("--dtype", help="float32 | float16 | bfloat16")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write sides.json and sides.png there"
    )


def _prior_config(args: argparse.Namespace) -> PriorConfig:
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
    dtype = [] if args.dtype is None else [f"prior.dtype={args.dtype}"]
    return configs.load(None, [f"prior.model={args.model}", *dtype]).prior


def run(args: argparse.Namespace) -> int:
    """Draw, compare and print one line a kind.

    Raises:
        UserError: a kind that the world does not have, or a prior that cannot draw it.
    """
    colors = (
        dict(held_out()) if args.held_out else {kind: sides.palette(kind) for kind in world.kinds()}
    )
    kinds = args.kinds or list(colors)
    unknown = [kind for kind in kinds if kind not in colors]
    if unknown:
        raise UserError(f"--kinds {unknown[0]} is not one of {', '.join(colors)}")
    prior = load(_prior_config(args), devices.choose(args.device))
    rows: list[Tensor] = []

    def draw(prompts: list[str], views: world.Views, seed: int) -> Tensor:
        pictures = drawing.draw(
            prior, prompts, views, seed, steps=args.steps, scale=args.scale
        ).cpu()
        if seed == args.seeds[0]:
            rows.append(pictures[len(sides.AZIMUTHS) : 2 * len(sides.AZIMUTHS)])
        return pictures

    verdicts = []
    shaped = prior if isinstance(prior, VolumePrior) else None
    print(f"{'':10}{'exact':>8}{'45 deg':>8}{'elev.':>8}" + (f"{'shape':>8}" if shaped else ""))
    fits: dict[str, float] = {}
    for kind in kinds:
        verdict = sides.examine_kind(draw, kind, colors[kind], args.seeds, prior.image_size)
        verdicts.append(verdict)
        if shaped is not None:
            fits[kind] = shape_iou(shaped, kind, sides.prompt_of(kind, colors[kind]))
        note = f"{fits[kind]:8.2f}" if kind in fits else ""
        note += "" if verdict.turns else "   looks the same from all sides"
        print(
            f"{kind:10}" + "".join(f"{share:8.2f}" for share in verdict.shares().values()) + note,
            flush=True,
        )
    found = sides.summary(verdicts) | ({"shape": sum(fits.values()) / len(fits)} if fits else {})
    print("  ".join(f"{name} {value:.3f}" for name, value in found.items()))
    if args.out is not None:
        _write(args.out, verdicts, found, rows)
    return 0


def _write(
    out: Path, verdicts: list[sides.Verdict], found: dict[str, float], rows: list[Tensor]
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = {"summary": found, "kinds": {f"{v.color} {v.kind}": v.shares() for v in verdicts}}
    with atomic_path(out / "sides.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_sheet(out / "sides.png", [to_uint8(row) for row in rows])
    print(f"wrote {out / 'sides.json'} and {out / 'sides.png'}")
