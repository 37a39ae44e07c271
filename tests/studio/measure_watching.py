"""What one watcher costs a real training: steps with and without one take turns in one run.

    python tests/studio/measure_watching.py --rounds 8

The worker's own loop, told now and then that somebody looks; its messages go through a pipe to a
process that throws them away. (The server and the browser are other processes, on other cores or
machines.) Counted is the processor time of the training thread; the share is what of it went into
showing, which is steady where a machine is busy.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from gs_ssd import config
from gs_ssd.studio.channel import Channel
from gs_ssd.studio.worker import Reporter, Steering
from gs_ssd.trainer import Trainer

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
KINDS = ("nobody looking", "one watcher")


def measure(
    rounds: int, steps: int, settings: list[str], sink: int
) -> tuple[dict[str, list[float]], list[float], int]:
    """By kind, a figure a round: seconds of the thread a step; the share that shows, while somebody
    looks; and how many frames were made."""
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    shares, frames = [], 0
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config.load(QUICKSTART, ["num_steps=100000", *settings]), Path(folder))
        steering = Steering()
        reporter = Reporter(Channel(0, sink), steering, trainer)
        for _ in range(5):
            trainer.step()
        left = time.monotonic()
        for _ in range(rounds):
            for kind in KINDS:
                steering.take({"watch": kind == KINDS[1]})
                if kind == KINDS[1]:  # it continues where the last watched round ended
                    reporter._next_frame += time.monotonic() - left
                began, showing = time.thread_time(), 0.0
                for _ in range(steps):
                    event = trainer.step()
                    before, shown = time.thread_time(), reporter.shown
                    reporter.tell(event)
                    reporter.between_steps()
                    showing += time.thread_time() - before
                    frames += reporter.shown != shown
                if kind == KINDS[1]:
                    left = time.monotonic()
                used = time.thread_time() - began
                seconds[kind].append(used / steps)
                if kind == KINDS[1]:
                    shares.append(showing / used)
    return seconds, shares, frames


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--splats", type=int, default=8000)
    args = parser.parse_args()
    settings = [f"initialize.num_points={args.splats}", f"densify.mcmc.budget={args.splats}"]
    source, sink = os.pipe()
    reader = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.DEVNULL)
    os.close(source)
    seconds, shares, frames = measure(args.rounds, args.steps, settings, sink)
    os.close(sink)
    reader.wait()
    plain = seconds[KINDS[0]]
    for kind in KINDS:
        ratios = sorted(ours / theirs for ours, theirs in zip(seconds[kind], plain, strict=True))
        print(
            f"{kind:15} {statistics.median(seconds[kind]):.4f} s per step,"
            f" x {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    print(f"showing is {statistics.mean(shares):.2%} of the thread's time; {frames} frames")


if __name__ == "__main__":
    main()
