"""Bits flipped at random in the checkpoint of a real run: loading names the file, or gives what was
saved.

    python tools/reliability/flips.py --flips 500
    python tools/reliability/flips.py --flips 500 --asset nerf

Anywhere in the file, one at a time. A bit of the archive's padding or of a date in it changes
nothing that is loaded: such flips are counted apart. The exit code is 1 if one changes what is
loaded.
"""

import argparse
import collections
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from children import ASSETS, SMOKE, add_asset, start, warm_up

WORDS = (
    "train",
    "--config",
    str(SMOKE),
    "num_steps=10",
    "initialize.num_points=100",
    "output.turntable_frames=0",
    "output.preview_every=0",
)


def flips(number: int, seed: int, asset: str) -> collections.Counter[str]:
    """Counts by what came of each flip: named, harmless, silent or traceback."""
    counts: collections.Counter[str] = collections.Counter()
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="flips-") as name:
        folder = Path(name)
        child = start([*WORDS, *ASSETS[asset], "--out", "run"], folder, folder / "said")
        if child.wait(300) != 0:
            raise RuntimeError(f"a run fails: {child.said}")
        (path,) = (folder / "run" / "checkpoints").glob("*.pt")
        from gs_ssd.run import checkpoint

        good, saved = path.read_bytes(), checkpoint.load(path)
        for _ in range(number):
            bit = rng.randrange(8 * len(good))
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            ended = outcome(path, saved)
            counts[ended] += 1
            if ended in ("silent", "traceback", "unnamed"):
                print(f"FAULT: bit {bit} of {8 * len(good)}: {ended}", flush=True)
    return counts


def outcome(path: Path, saved: Any) -> str:
    """What loading a damaged checkpoint comes to."""
    from gs_ssd.errors import UserError
    from gs_ssd.run import checkpoint

    try:
        loaded = checkpoint.load(path)
    except UserError as error:
        return "named" if str(path) in str(error) else "unnamed"
    except Exception:  # the very thing that is looked for
        return "traceback"
    return "harmless" if is_same(vars(loaded), vars(saved)) else "silent"


def is_same(one: Any, other: Any) -> bool:
    """Whether two nests of mappings, sequences and tensors hold the same, to the bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        )
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and [*one] == [*other]
            and all(is_same(one[key], other[key]) for key in one)
        )
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and one == other


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts; the exit code says whether a flip went unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    add_asset(parser)
    args = parser.parse_args(argv)
    warm_up()
    counts = flips(args.flips, args.seed, args.asset)
    print("; ".join(f"{ended}: {count}" for ended, count in sorted(counts.items())))
    return int(any(ended not in ("named", "harmless") for ended in counts))


if __name__ == "__main__":
    sys.exit(main())
