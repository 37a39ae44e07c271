"""Runs killed with SIGKILL at random moments, then resumed: each must end with the bytes of one
that was left alone.

    python tools/reliability/kills.py --kills 100
    python tools/reliability/kills.py --kills 100 --asset nerf

Every other kill falls after the last step, while results are written; a third of the resumed runs
is killed once more. Nothing but a run's own files may be left. The exit code is 1 if anything
differs.
"""

import argparse
import collections
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from children import ASSETS, SMOKE, Child, add_asset, start, warm_up

STEPS = 12
WORDS = (
    *("train", "--config", str(SMOKE), f"num_steps={STEPS}", "seed=3"),
    *("initialize.num_points=100", "densify.adaptive.every=4"),
    *("output.preview_every=4", "output.checkpoint_every=3", "output.turntable_frames=8"),
)
PATIENCE_S = 300.0


class Reference(NamedTuple):
    """A run that was left alone: its words, its results, the names of its files, and how long it
    took (seconds) to what."""

    words: tuple[str, ...]
    results: dict[str, bytes]
    names: frozenset[str]
    until_results: float
    in_all: float


def names_in(folder: Path) -> frozenset[str]:
    """Of all files below, by relative path."""
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def results_in(run: Path) -> dict[str, bytes]:
    """The content of every file that is written when a run ends."""
    from gs_ssd.run.folder import RESULTS

    return {name: (run / name).read_bytes() for name in RESULTS if (run / name).is_file()}


def last_checkpoint(folder: Path) -> Path:
    """Which is written between the last step and the results."""
    return folder / "run" / "checkpoints" / f"step_{STEPS:06d}.pt"


def left_alone(folder: Path, words: tuple[str, ...]) -> Reference:
    """Run to the end.

    Raises:
        RuntimeError: that fails.
    """
    began = time.monotonic()
    child = start([*words, "--out", "run"], folder, folder / "said")
    until_results = _until_results(child, folder) - began
    if child.wait(PATIENCE_S) != 0:
        raise RuntimeError(f"a run that nobody kills fails: {child.said}")
    run = folder / "run"
    return Reference(
        words,
        results_in(run),
        names_in(run),
        until_results,
        time.monotonic() - began,
    )


def _until_results(child: Child, folder: Path) -> float:
    """Wait for the last checkpoint; the time at which it lay there."""
    while (
        not last_checkpoint(folder).exists()
        and child.log.parent.exists()
        and time.sleep(0.002) is None
    ):
        if child.has_ended:
            break
    return time.monotonic()


def killed(
    words: Sequence[str], folder: Path, reference: Reference, rng: random.Random, *, late: bool
) -> bool:
    """Begin, and kill at a random moment of the whole or (`late`) of the writing of results; False:
    it was faster."""
    child = start(words, folder, folder / "said")
    if late:
        _until_results(child, folder)
        time.sleep(rng.uniform(0, reference.in_all - reference.until_results))
    else:
        time.sleep(rng.uniform(0, reference.until_results))
    return child.kill() == -9


def one_try(reference: Reference, rng: random.Random, *, late: bool) -> collections.Counter[str]:
    """Kill, resume, compare; counts of what happened."""
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="killed-") as name:
        folder, run = Path(name), Path(name) / "run"
        again = rng.random() < 1 / 3
        hit = killed([*reference.words, "--out", "run"], folder, reference, rng, late=late)
        counts["kills"] += hit
        counts["kills while results were written"] += hit and last_checkpoint(folder).exists()
        counts["runs that left temporaries"] += bool(list(run.rglob(".gs-ssd-tmp-*")))
        if again:
            counts["kills"] += killed(_go_on(run, reference), folder, reference, rng, late=late)
        words = _go_on(run, reference)
        counts["resumed" if "--resume" in words else "begun again: no checkpoint yet"] += 1
        child = start(words, folder, folder / "said")
        code = child.wait(PATIENCE_S)
        if code != 0:
            print(f"FAULT: {words[-1]}: code {code}: {child.said[-500:]}", flush=True)
            counts["faults"] += 1
            if code is None:
                child.kill()
            return counts
        same = results_in(run) == reference.results
        extra, lost = names_in(run) - reference.names, reference.names - names_in(run)
        counts["the same bytes"] += same
        counts["temporaries after it"] += any(".gs-ssd" in path for path in extra)
        if not same or extra or lost:
            print(
                f"FAULT: same bytes {same}; extra {sorted(extra)}, lost {sorted(lost)}", flush=True
            )
            counts["faults"] += 1
        shutil.rmtree(run)
    return counts


def _go_on(run: Path, reference: Reference) -> list[str]:
    if list(run.glob("checkpoints/step_*.pt")):
        return ["train", "--resume", "--out", "run"]
    return [*reference.words, "--out", "run", "--overwrite"]


def kills(number: int, seed: int, seconds: float, asset: str) -> collections.Counter[str]:
    """Tries until so many runs were killed, or the time is over; counts of what happened."""
    rng, end = random.Random(seed), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="left-alone-") as name:
        reference = left_alone(Path(name), (*WORDS, *ASSETS[asset]))
    counts: collections.Counter[str] = collections.Counter()
    while counts["kills"] < number and time.monotonic() < end:
        counts["tries"] += 1
        counts += one_try(reference, rng, late=counts["tries"] % 2 == 0)
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts; the exit code says whether there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=3600, help="stop after these, with what was done by then"
    )
    add_asset(parser)
    args = parser.parse_args(argv)
    warm_up()
    counts = kills(args.kills, args.seed, args.seconds, args.asset)
    print(
        "; ".join(f"{key}: {count}" for key, count in counts.items())
        + f"; faults: {counts['faults']}"
    )
    return int(counts["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())
