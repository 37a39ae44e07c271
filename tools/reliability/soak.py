"""Many steps in one process: memory, open files and threads must not grow.

    python tools/reliability/soak.py --steps 1500
    python tools/reliability/soak.py --steps 1500 --asset avatar

Trains configs/smoke.yaml with as many previews and checkpoints as a run of weeks writes, and looks
at the process after each tenth. The exit code is 1 if descriptors or threads grow after the first
tenth, or the resident memory by more than 5 % after the first half.
"""

import argparse
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from children import ASSETS, SMOKE, add_asset

from gs_ssd import config as configs
from gs_ssd.events import Event, Stepped
from gs_ssd.trainer import Trainer

PAGE_KIB = resource.getpagesize() // 1024


class Look(NamedTuple):
    """What the process holds after a step."""

    step: int
    resident_kib: int
    descriptors: int
    threads: int


def look(step: int) -> Look:
    """As it is now, from /proc."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB
    return Look(step, resident, len(os.listdir("/proc/self/fd")), threading.active_count())


def soak(steps: int, overrides: Sequence[str]) -> list[Look]:
    """Train so many steps; what the process holds after each tenth of them."""
    looks: list[Look] = []

    def watch(event: Event) -> None:
        if isinstance(event, Stepped) and event.completed % max(steps // 10, 1) == 0:
            looks.append(look(event.completed))
            print(*looks[-1], flush=True)

    often = ["output.preview_every=10", "output.checkpoint_every=10", "output.turntable_frames=0"]
    config = configs.load(SMOKE, [f"num_steps={steps}", *often, *overrides])
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        Trainer(config, folder).fit(listeners=[watch])
    return looks


def main(argv: Sequence[str] | None = None) -> int:
    """Print what the process held; the exit code says whether it grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the run")
    add_asset(parser)
    args = parser.parse_args(argv)
    print("step, resident KiB, descriptors, threads")
    looks = soak(args.steps, [*ASSETS[args.asset], *args.overrides])
    first, half, last = looks[0], looks[len(looks) // 2 - 1], looks[-1]
    grown = last.resident_kib / half.resident_kib - 1
    print(f"memory of the second half: {100 * grown:+.1f} %")
    return int(grown > 0.05 or last.descriptors > first.descriptors or last.threads > first.threads)


if __name__ == "__main__":
    sys.exit(main())
