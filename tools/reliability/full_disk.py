"""Disks that are full at every size: each command ends in one sentence, and what was there stays.

    python tools/reliability/full_disk.py
    python tools/reliability/full_disk.py --asset avatar

A run, a resumed one, exports and a gallery on a file system with some KiB of room (a tmpfs of this
process's own; needs root), a little more each time, until all of it fits. Where nothing can be
mounted, or with --files, files are limited in size instead (RLIMIT_FSIZE).
The exit code is 1 if a call ended with a traceback, left a temporary, or lost the checkpoint that
was there.
"""

import argparse
import collections
import ctypes
import ctypes.util
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from children import ASSETS, SMOKE, add_asset, start, warm_up

PATIENCE_S = 300.0
CLONE_NEWNS, MS_PRIVATE_ALL = 0x00020000, 0x00044000
RUN = (
    *("train", "--config", str(SMOKE), "--out", "run", "num_steps=4", "initialize.num_points=200"),
    *("output.preview_every=2", "output.checkpoint_every=2", "output.turntable_frames=8"),
)
CALLS = {
    "train": RUN,  # and the asset's settings
    "resume": ("train", "--resume", "--out", "run", "num_steps=6"),
    "export": ("export", "run", "-o", "run/out.glb"),
    "page": ("export", "run", "-o", "run/out.html"),
    "gallery": ("gallery", "run"),
}


def own_mounts() -> bool:
    """Whether this process may mount: what it mounts is then seen by itself and its children."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_PRIVATE_ALL, None) != 0:
        return False
    with tempfile.TemporaryDirectory() as name:
        fits = libc.mount(b"tmpfs", name.encode(), b"tmpfs", 0, b"size=64k") == 0
        return fits and libc.umount(name.encode()) == 0


def on_a_disk_of(kib: int, folder: Path, filled: Path | None, words: Sequence[str]) -> str:
    """Call on a file system of that size that holds a copy of `filled`; how it ended."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    disk = folder / "disk"
    disk.mkdir()
    if libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 0, f"size={kib}k".encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    try:
        try:
            if filled is not None:
                shutil.copytree(filled, disk / "run")
        except (OSError, shutil.Error):
            return "does not hold what is there already"
        return ended(words, disk, folder)
    finally:
        libc.umount(str(disk).encode())
        disk.rmdir()


def with_files_of(kib: int, folder: Path, filled: Path | None, words: Sequence[str]) -> str:
    """Call where no file may be larger than that; how it ended."""
    disk = folder / "disk"
    if filled is not None:
        shutil.copytree(filled, disk / "run")
    else:
        disk.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, before[1]))
    try:
        return ended(words, disk, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        shutil.rmtree(disk)


def ended(words: Sequence[str], disk: Path, folder: Path) -> str:
    """How a call in `disk` ended; a fault begins with FAULT."""
    before = newest(disk / "run")
    child = start(words, disk, folder / "said")
    code, said = child.wait(PATIENCE_S), child.said
    if code is None:
        child.kill()
    if code not in (0, 2) or "Traceback" in said:
        return f"FAULT code {code}: {said.strip()[-300:]}"
    if left := [path.name for path in disk.rglob(".gs-ssd*")]:
        return f"FAULT left behind: {left}"
    if newest(disk / "run") < before:
        return "FAULT the newest checkpoint is lost"
    return "fits" if code == 0 else "one sentence"


def newest(run: Path) -> str:
    """The name of its newest checkpoint; "" where there is none."""
    return max((path.name for path in (run / "checkpoints").glob("*.pt")), default="")


def room_of(folder: Path) -> int:
    """KiB that its files and folders take on a tmpfs: whole pages each."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*")) + 4


def main(argv: Sequence[str] | None = None) -> int:
    """Print counts by call; the exit code says whether there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=14, help="how many, from 8 KiB on")
    parser.add_argument("--files", action="store_true", help="limit files, mount nothing")
    add_asset(parser)
    args = parser.parse_args(argv)
    warm_up()
    run = (*RUN, *ASSETS[args.asset])
    mounts = not args.files and own_mounts()
    attempt: Callable[..., str] = on_a_disk_of if mounts else with_files_of
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="full-disk-") as name:
        folder = Path(name)
        child = start(run, folder, folder / "said")
        if child.wait(PATIENCE_S) != 0:
            raise RuntimeError(f"a run fails where there is room: {child.said}")
        for label, words in CALLS.items():
            filled = None if label == "train" else folder / "run"
            words = run if label == "train" else words
            there = 0 if filled is None or not mounts else room_of(filled)
            kib = 8
            for _ in range(args.sizes):
                outcome = attempt(there + kib, folder, filled, words)
                counts[f"{label}: {outcome[:20]}" if outcome.startswith("FAULT") else outcome] += 1
                if outcome.startswith("FAULT"):
                    print(f"{label} with {kib} KiB: {outcome}", flush=True)
                kib = kib * 3 // 2
    print("; ".join(f"{outcome}: {count}" for outcome, count in counts.items()))
    return int(any("FAULT" in outcome for outcome in counts))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
