"""`gs-ssd sides`: ask a prior for every side of every kind, and see which side it draws, and how
true its shape is."""

import argparse
import json
from pathlib import Path
from typing import Final

from torch import Tensor

from gs_ssd import devices
from gs_ssd.files import atomic_path
from gs_ssd.lab import world
from gs_ssd.lab.commands.drawing_options import add_drawing_options, chosen_kinds, prior_config
from gs_ssd.lab.evaluate.judge import Score
from gs_ssd.lab.evaluate.judge import load as load_judge
from gs_ssd.lab.prior_training import drawing, sides
from gs_ssd.lab.prior_training.held_out import held_out
from gs_ssd.lab.prior_training.shapes import shape_iou
from gs_ssd.maths.color import to_uint8
from gs_ssd.prior import load
from gs_ssd.run.pictures import write_sheet

EPILOG = """\
examples
  gs-ssd sides                                  28 kinds, 8 azimuths, 3 elevations, one noise a seed
  gs-ssd sides --kinds mug duck --seeds 0 1 2
  gs-ssd sides --held-out                       pairs of kind and colour never trained on
  gs-ssd sides --model FOLDER --dtype bfloat16  fast where the processor multiplies in it (AMX)
"""

TITLES: Final = ("exact", "45 deg", "elev.", "kind", "colour", "dB", "shape")
"""Asked azimuth, within 45 degrees, asked elevation; what the judge names right; PSNR to the asked
view of the mean shape; overlap of the volume with that shape."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_drawing_options(parser, variety=0.0)
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="in the colours kept out of the training, those kinds",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="one first noise each"
    )


def run(args: argparse.Namespace) -> int:
    """Draw, compare and print one line a kind.

    Raises:
        UserError: a kind that the world does not have, or a prior that cannot draw it.
    """
    from gs_ssd.prior.volume_prior import VolumePrior  # imports diffusers, which --help need not

    colors = (
        dict(sorted(held_out()))
        if args.held_out
        else {kind: sides.palette(kind) for kind in world.kinds()}
    )
    kinds = chosen_kinds(args, colors)
    prior = load(prior_config(args), devices.choose(args.device))
    judge = load_judge()
    rows: list[Tensor] = []
    scores: dict[str, Score] = {}

    def draw(prompts: list[str], views: world.Views, seed: int) -> Tensor:
        pictures = drawing.draw(
            prior,
            prompts,
            views,
            seed,
            steps=args.steps,
            scale=args.scale,
            variety=args.variety,
        ).cpu()
        if seed == args.seeds[0]:
            rows.append(pictures[len(sides.AZIMUTHS) : 2 * len(sides.AZIMUTHS)])
            scores[kind] = judge.score(pictures, kind, colors[kind])
        return pictures

    verdicts = []
    shaped = prior if isinstance(prior, VolumePrior) else None
    fits: dict[str, float] = {}
    print(f"{'':10}" + "".join(f"{title:>8}" for title in TITLES))
    for kind in kinds:
        verdict = sides.examine_kind(draw, kind, colors[kind], args.seeds, prior.image_size)
        verdicts.append(verdict)
        if shaped is not None:
            fits[kind] = shape_iou(shaped, kind, sides.prompt_of(kind, colors[kind]))
        print(f"{kind:10}{_line(verdict, scores[kind], fits.get(kind))}", flush=True)
    found = sides.summary(verdicts) | {
        f"{name}_named": sum(getattr(score, name) for score in scores.values()) / len(scores)
        for name in ("kind", "color")
    }
    found |= {"shape": sum(fits.values()) / len(fits)} if fits else {}
    print("  ".join(f"{name} {value:.3f}" for name, value in found.items()))
    if args.out is not None:
        _write(args.out, verdicts, found, rows)
    return 0


def _line(verdict: sides.Verdict, score: Score, fit: float | None) -> str:
    numbers = [*verdict.shares().values(), score.kind, score.color]
    text = "".join(f"{share:8.2f}" for share in numbers) + f"{verdict.psnr():8.1f}"
    text += "" if fit is None else f"{fit:8.2f}"
    return text + ("" if verdict.turns else "   looks the same from all sides")


def _write(
    out: Path, verdicts: list[sides.Verdict], found: dict[str, float], rows: list[Tensor]
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    kinds = {f"{v.color} {v.kind}": v.shares() | {"psnr": v.psnr()} for v in verdicts}
    record = {"summary": found, "kinds": kinds}
    with atomic_path(out / "sides.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_sheet(out / "sides.png", [to_uint8(row) for row in rows])
    print(f"wrote {out / 'sides.json'} and {out / 'sides.png'}")
