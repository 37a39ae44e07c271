"""`gs-ssd variety`: do other noises give other objects, and captions without a view any view?"""

import argparse
import json
from collections.abc import Iterable

from torch import Tensor

from gs_ssd import devices
from gs_ssd.bounds import Bounds
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.lab import world
from gs_ssd.lab.commands.drawing_options import add_drawing_options, chosen_kinds, prior_config
from gs_ssd.lab.evaluate.judge import load as load_judge
from gs_ssd.lab.prior_training import drawing, sides, variety
from gs_ssd.maths.color import to_uint8
from gs_ssd.prior import DiffusionPrior, load
from gs_ssd.run.pictures import write_sheet

EPILOG = """\
examples
  gs-ssd variety                         28 kinds, 16 noises each, at one camera and without any
  gs-ssd variety --kinds mug duck --scale 1
  gs-ssd variety --variety 0             what differs without other proportions

A line: spread of aspect, area and colour over the noises at one camera, as prior / world / one
shape of the world under other lamps; then how many of 8 azimuths come without a camera, prior /
world, and the share of those pictures in which the judge names the kind.
"""
SHOWN = 8
"""Pictures of a kind on a line of the sheet: from the one camera, below without."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_drawing_options(parser, variety=1.0)
    parser.add_argument("--noises", type=int, default=16, metavar="N", help="first noises a kind")
    parser.add_argument(
        "--seeds", type=int, nargs=1, default=[0], metavar="N", help="what the noises come from"
    )


def run(args: argparse.Namespace) -> int:
    """Draw, compare with the world and print one line a kind.

    Raises:
        UserError: a kind that the world does not have, or a prior that cannot draw it.
    """
    kinds, bounds = chosen_kinds(args, world.kinds()), Bounds(4, 1024)
    if not bounds.holds(args.noises):
        raise UserError(f"--noises {args.noises}: it must be {bounds}")
    prior = load(prior_config(args), devices.choose(args.device))
    judge, sheet = load_judge(), []
    rows: dict[str, dict[str, float]] = {}
    print(" " * 10 + "".join(f"{name:24}" for name in (*variety.TRAITS, "views")) + "named")
    for kind in kinds:
        color = sides.palette(kind)
        seen, free = (_draw(prior, args, kind, color, told) for told in (True, False))
        found = variety.examine(seen, free, kind, color, args.seeds[0])
        rows[kind] = found.row() | {"kind_named": judge.score(free, kind, color).kind}
        sheet += [to_uint8(pictures[:SHOWN]) for pictures in (seen, free)]
        print(f"{kind:10}{_line(rows[kind])}", flush=True)
    means = {name: sum(row[name] for row in rows.values()) / len(rows) for name in rows[kinds[0]]}
    print(f"{'mean':10}{_line(means)}")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        with atomic_path(args.out / "variety.json") as temporary:
            text = json.dumps({"mean": means, "kinds": rows}, indent=1) + "\n"
            temporary.write_text(text, encoding="utf-8")
        write_sheet(args.out / "variety.png", sheet)
        print(f"wrote {args.out / 'variety.json'} and {args.out / 'variety.png'}")
    return 0


def _draw(
    prior: DiffusionPrior, args: argparse.Namespace, kind: str, color: str, told: bool
) -> Tensor:
    """A picture a noise, all from one camera, or with no word of any."""
    prompts = [sides.prompt_of(kind, color)] * args.noises
    return drawing.draw(
        prior,
        prompts,
        variety.camera(args.noises) if told else None,
        args.seeds[0],
        one_noise=False,
        steps=args.steps,
        scale=args.scale,
        variety=args.variety,
    ).cpu()


def _line(row: dict[str, float]) -> str:
    cells = [
        _cell(f"{row[f'{trait}_{whose}']:.3f}" for whose in ("prior", "world", "one_shape"))
        for trait in variety.TRAITS
    ]
    cells.append(_cell(f"{row[f'views_{whose}']:.1f}" for whose in ("prior", "world")))
    return "".join(cells) + f"{row['kind_named']:.2f}"


def _cell(values: Iterable[str]) -> str:
    return f"{' / '.join(values):24}"
