#!/usr/bin/env python
"""Are small parts in the prior's volume? Recall of each, beside what pictures and cells can hold.

python tools/volume_parts.py                      one colour a kind, in no suite but `development`
python tools/volume_parts.py bear:gray duck:yellow
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from gs_ssd.lab.evaluate.measure import Pictures, Truth, parts_found
from gs_ssd.lab.evaluate.suite import Entry, Turntable
from gs_ssd.lab.evaluate.volume_pictures import true_volume, volume_pictures
from gs_ssd.prior import PriorConfig, load

PAIRS = (
    *("bear:gray", "robot:orange", "house:yellow", "gift:green", "car:white", "snowman:blue"),
    *("duck:yellow", "rocket:orange", "mug:blue", "chair:red", "mushroom:red"),
)
RESOLUTIONS = (32, 48, 64)


@torch.no_grad()
def sources(prior: Any, kind: str, color: str, truth: Truth) -> dict[str, Callable[[], Pictures]]:
    """Pictures that might show the parts, by what they are made of."""
    table, half = Turntable(), prior.volume.config.half_extent
    small = Pictures(
        functional.avg_pool2d(truth.coarse.rgb, 2), functional.avg_pool2d(truth.coarse.alpha, 2)
    )

    def enlarged(rgb: torch.Tensor) -> Pictures:
        both = torch.cat([rgb, small.alpha[:, None]], 1)
        both = functional.interpolate(both, scale_factor=2.0, mode="bilinear")
        return Pictures(both[:, :3], both[:, 3])

    article = "an" if color[0] in "aeiou" else "a"
    logits = prior.volume_of(prior.embed([f"{article} {color} {kind}"])[0])
    return {
        "true pictures of 64 pixels": lambda: enlarged(small.rgb),
        "these through the autoencoder": lambda: enlarged(prior.decode(prior.encode(small.rgb))),
        **{
            f"true volume of {r}^3 cells": lambda r=r: volume_pictures(
                true_volume(kind, color, r, half), half, table
            )
            for r in RESOLUTIONS
        },
        "the prior's volume": lambda: volume_pictures(logits, half, table),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", default=PAIRS, metavar="KIND:COLOR")
    parser.add_argument("--model", default="bundled")
    args = parser.parse_args()
    prior: Any = load(PriorConfig(model=args.model), "cpu")
    means: dict[str, list[float]] = {}
    for pair in args.pairs:
        kind, _, color = pair.partition(":")
        truth = Truth(Entry(f"{color} {kind}", kind, color), Turntable())
        for name, make in sources(prior, kind, color, truth).items():
            found = parts_found(make(), truth)
            means.setdefault(name, []).append(sum(found.values()) / len(found))
            parts = "  ".join(f"{part} {share:.2f}" for part, share in found.items())
            print(f"{color} {kind}: {name:30} {means[name][-1]:.3f}   {parts}", flush=True)
    for name, shares in means.items():
        print(f"mean: {name:30} {sum(shares) / len(shares):.3f}")


if __name__ == "__main__":
    main()
