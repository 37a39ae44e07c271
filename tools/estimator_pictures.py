#!/usr/bin/env python
"""One asset by every estimator, same prompt, seed and number of steps, bundled prior: the pictures
of the README.

python tools/estimator_pictures.py --steps 60     a trial, some minutes of one core
python tools/estimator_pictures.py --pictures docs/pictures/estimators   the README's, 15 minutes

A second call continues where the first stopped. Leaves OUT/pictures/NAME.webp and prints the
table's figures: processor seconds are those of a whole training with one thread, start-up included,
and the same for all but for the guidance.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gs_ssd.files import atomic_path
from gs_ssd.lab.evaluate.benchmark import Variant, plan, read_ledger, run_jobs
from gs_ssd.lab.evaluate.measure import COARSE, Truth, photograph
from gs_ssd.lab.evaluate.suite import Suite, Turntable, load_suite
from gs_ssd.lab.reproduce.assets import Workshop, find_judge, load_splat
from gs_ssd.maths.color import to_uint8

ESTIMATORS = ("ssd", "sds", "csd", "nfsd", "ism", "sdi", "vsd")
PORTRAIT = Turntable(views=8, elevations_deg=(15.0,))
CHOSEN = (1, 3, 6)  # 45 degrees, 135 degrees, the left side
FINENESS = 3


def portrait(rgb: np.ndarray, path: Path) -> None:
    """The chosen views side by side as a small file."""
    strip = Image.fromarray(np.concatenate(list(rgb[list(CHOSEN)]), axis=1))
    with atomic_path(path) as temporary:
        strip.save(temporary, "WEBP", quality=85)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: cost of each estimator, in units of the first one's."""
    rows = [
        "| | UNet images per step | processor seconds | times the first | IoU | kind |",
        "|---|---|---|---|---|---|",
    ]
    first = records[0]["cpu_seconds"]
    for record in records:
        images = record["unet_images"] / record["steps"]
        cells = [f"`{record['variant']}`", f"{images:.1f}", f"{record['cpu_seconds']:.0f}"]
        cells += [
            f"{record['cpu_seconds'] / first:.2f}",
            f"{record['iou']:.2f}",
            f"{record.get('kind_share', 0):.2f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompt", default="a red mushroom", help="one of the development suite's")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimators", nargs="+", default=ESTIMATORS, metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("out/estimators"))
    parser.add_argument("--pictures", type=Path, help="default: OUT/pictures")
    args = parser.parse_args()
    entry = next((e for e in load_suite("dev").entries if e.prompt == args.prompt), None)
    if entry is None:
        parser.error(
            f"{args.prompt!r} is not in the development suite, and no other prompt may be looked at"
            " so often"
        )
    suite = Suite("estimators", "", (entry,), (args.seed,))
    jobs = plan(
        suite,
        [Variant.parse(name) for name in args.estimators],
        common=(f"num_steps={args.steps}",),
    )
    workshop = Workshop(Path("configs/quickstart.yaml"), args.out, suite.turntable, find_judge())
    for _ in run_jobs(jobs, args.out, workshop.train, workshop.measure):
        pass
    folder = args.pictures or args.out / "pictures"
    portrait(to_uint8(Truth(entry, PORTRAIT).coarse.rgb), folder / "truth.webp")
    ledger = read_ledger(args.out)
    good = [job for job in jobs if "failed" not in ledger[job.key]]
    for job in good:
        splat = load_splat(args.out / "runs" / job.key / "point_cloud.ply")
        rgb = photograph(splat, PORTRAIT, COARSE * FINENESS).shrunk(COARSE).rgb
        portrait(to_uint8(rgb), folder / f"{job.variant.label}.webp")
    print(table([ledger[job.key] for job in good]))
    return int(len(good) < len(jobs))


if __name__ == "__main__":
    raise SystemExit(main())
