"""Two runs started in one folder at the same moment: one continues, the other is told which process
has the folder.

    python tools/reliability/writers.py --times 40
    python tools/reliability/writers.py --times 40 --asset avatar

In turn: both begin in a new folder, both replace a finished run (--overwrite), both resume a
half-done one. The two differ in their seed; what lies there at the end is of one of them, to the
byte.
"""

import argparse
import collections
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from children import ASSETS, SMOKE, Child, add_asset, start, warm_up

from gs_ssd.locks import owner_of

WORDS = (
    *("train", "--config", str(SMOKE), "num_steps=8", "initialize.num_points=100"),
    *("output.preview_every=4", "output.checkpoint_every=4", "output.turntable_frames=0"),
)
SEEDS = (1, 2)
MODES = ("new", "overwrite", "resume")
PATIENCE_S = 300.0
NOT_AT_ONCE = "not at once, tried again"


def words_of(mode: str, seed: int, asset: str) -> list[str]:
    """One call; a resumed run has the seed of the one that it continues with."""
    if mode == "resume":
        return ["train", "--resume", "--out", "run"]
    return [
        *WORDS,
        *ASSETS[asset],
        "--out",
        "run",
        f"seed={seed}",
        *(["--overwrite"] if mode == "overwrite" else []),
    ]


def finished(folder: Path, seed: int, asset: str) -> bytes:
    """Leave a finished run of that seed in folder/run; its splat.

    Raises:
        RuntimeError: it fails.
    """
    shutil.rmtree(folder / "run", ignore_errors=True)
    child = start(words_of("new", seed, asset), folder, folder / "said")
    if child.wait(PATIENCE_S) != 0:
        raise RuntimeError(f"a run alone fails: {child.said}")
    return (folder / "run" / "point_cloud.ply").read_bytes()


def at_once(mode: str, folder: Path, splats: dict[int, bytes], asset: str) -> str:
    """Start two at once; "one continues", or what is wrong."""
    gate = os.pipe()
    children = [
        start(words_of(mode, seed, asset), folder, folder / f"said{seed}", gate=gate)
        for seed in SEEDS
    ]
    time.sleep(0.05)  # until both wait
    for end in reversed(gate):
        os.close(end)
    codes = _codes(children, folder / "run")
    if codes is None:
        return NOT_AT_ONCE
    if sorted(codes, key=str) != [0, 2]:
        return f"codes {codes}: {[child.said[-300:] for child in children]}"
    winner = codes.index(0)
    pid, said = children[winner].pid, children[1 - winner].said
    if f"process {pid} " not in said:
        return f"the refusal does not name the process {pid}: {said[-300:]}"
    run, seed = folder / "run", SEEDS[0] if mode == "resume" else SEEDS[winner]
    if f"\nseed: {seed}\n" not in (run / "config.yaml").read_text():
        return f"config.yaml is not of seed {seed}, which continued"
    if (run / "point_cloud.ply").read_bytes() != splats[seed]:
        return f"the splat is not of seed {seed}, which continued"
    left = [path.name for path in run.rglob(".gs-ssd*")]
    return f"left behind: {left}" if left else "one continues"


def _codes(children: Sequence[Child], run: Path) -> list[int | None] | None:
    """How both end, where the one that has the folder rests until the other one has ended; None:
    it was over before it could be made to, so that the two were not there at once.

    Without the rest, a busy machine may begin the second when the first is through.
    """
    first = _holder(children, run)
    if first is not None:
        os.kill(first.pid, signal.SIGSTOP)
        caught = not first.has_ended
        (other,) = (child for child in children if child is not first)
        codes = {other: other.wait(PATIENCE_S)}
        os.kill(first.pid, signal.SIGCONT)
        codes[first] = first.wait(PATIENCE_S)
    else:
        caught, codes = False, {child: child.wait(PATIENCE_S) for child in children}
    for child, code in codes.items():
        if code is None:
            child.kill()
    return [codes[child] for child in children] if caught else None


def _holder(children: Sequence[Child], run: Path) -> Child | None:
    """The one that has signed the folder's lock, as soon as one has; None: both have ended."""
    while not all(child.has_ended for child in children):
        owner = owner_of(run)
        for child in children:
            if owner is not None and owner.pid == child.pid:
                return child
        time.sleep(0.001)
    return None


def writers(times: int, seconds: float, asset: str = "splat") -> collections.Counter[str]:
    """So many pairs, or those that the time allows; counts by how they ended."""
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="writers-") as name:
        folder = Path(name)
        # a run of seed 1 stays
        splats = {seed: finished(folder, seed, asset) for seed in reversed(SEEDS)}
        done = folder / "done"
        (folder / "run").rename(done)
        number = 0
        while number < times and time.monotonic() < end:
            mode = MODES[number % len(MODES)]
            shutil.rmtree(folder / "run", ignore_errors=True)
            if mode != "new":
                shutil.copytree(done, folder / "run")
            if mode == "resume":
                (folder / "run" / "point_cloud.ply").unlink()
                (folder / "run" / "checkpoints" / "step_000008.pt").unlink()
            ended = at_once(mode, folder, splats, asset)
            number += ended != NOT_AT_ONCE
            counts[f"{mode}: {ended}"] += 1
            if ended not in ("one continues", NOT_AT_ONCE):
                print(f"FAULT: {mode}: {ended}", flush=True)
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts; the exit code says whether there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument(
        "--seconds", type=float, default=3600, help="stop after these, with what was done by then"
    )
    add_asset(parser)
    args = parser.parse_args(argv)
    warm_up()
    counts = writers(args.times, args.seconds, args.asset)
    fine = ("one continues", NOT_AT_ONCE)
    faults = sum(count for ended, count in counts.items() if not ended.endswith(fine))
    print("; ".join(f"{ended}: {count}" for ended, count in counts.items()) + f"; faults: {faults}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
