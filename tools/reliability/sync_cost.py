"""What it costs that results are on the disk before they have their names, and that checkpoints are
checked before they are loaded.

    python tools/reliability/sync_cost.py
    python tools/reliability/sync_cost.py --folder /mnt/disk --repeat 20

Files of four sizes are written as results are (`files.atomic_path`), with fsync of the content and
of the folder and without either; checkpoints of the smoke run are loaded with and without their
checksums. In turn, so that other work on the machine slows both; the medians are printed. A
temporary folder may lie in memory, where fsync costs nothing: --folder names a disk.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

from children import SMOKE

from gs_ssd import config as configs
from gs_ssd import files
from gs_ssd.run import checkpoint
from gs_ssd.trainer import Trainer

KIB = (10, 1_000, 20_000, 170_000)
SPLATS = (5_000, 100_000)


def _nothing(_: Path) -> None:
    """In place of waiting for the disk."""


def _believed(_: Path) -> bool:
    """In place of looking at the checksums."""
    return True


def in_turn(
    plain: Callable[[], object], whole: Callable[[], object], repeat: int
) -> tuple[float, float]:
    """Medians of the seconds that the two take."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for act, taken in zip((plain, whole), seconds, strict=True):
            began = time.perf_counter()
            act()
            taken.append(time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def writing(folder: Path, kib: int, repeat: int) -> tuple[float, float]:
    """Of a file of that size: without fsync, and as it is."""
    content = os.urandom(kib * 1000)

    def write() -> None:
        with files.atomic_path(folder / "result") as temporary:
            temporary.write_bytes(content)

    def write_without() -> None:
        with mock.patch.object(files, "sync", _nothing):
            write()

    return in_turn(write_without, write, repeat)


def loading(path: Path, repeat: int) -> tuple[float, float]:
    """Of a checkpoint: without its checksums, and as it is."""

    def load_without() -> None:
        with mock.patch.object(checkpoint, "is_intact", _believed):
            checkpoint.load(path)

    return in_turn(load_without, lambda: checkpoint.load(path), repeat)


def a_checkpoint(folder: Path, splats: int) -> Path:
    """After one step with so many splats."""
    settings = [f"initialize.num_points={splats}", "output.preview_every=0"]
    config = configs.load(SMOKE, [*settings, f"densify.adaptive.max_splats={2 * splats}"])
    Trainer(config, folder / str(splats)).fit(until=1)
    (path,) = (folder / str(splats) / "checkpoints").glob("*.pt")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; the exit code is 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="on the disk that is asked about")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--splats", type=int, nargs="+", default=SPLATS)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sync-cost-", dir=args.folder) as name:
        folder = Path(name)
        for kib in KIB:
            plain, whole = writing(folder, kib, args.repeat)
            print(f"writing {kib} kB: {1e3 * plain:.1f} ms, with fsync {1e3 * whole:.1f} ms")
        for splats in args.splats:
            path = a_checkpoint(folder, splats)
            plain, whole = loading(path, args.repeat)
            print(
                f"loading {splats} splats ({path.stat().st_size / 1e6:.1f} MB):"
                f" {1e3 * plain:.0f} ms, with checksums {1e3 * whole:.0f} ms"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
