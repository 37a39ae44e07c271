"""What the live view costs a real training: processor time a step without it, with nobody looking,
with one browser.

    python tests/viewer/measure_live.py --rounds 5

The three kinds of steps take turns in one process, so that they share whatever else the machine
does. Counted is the processor time of that process, page server and all; not the browser's own,
which is another machine's as a rule. The last column is steadier where the machine is busy: the
share of the training thread's own time that went into showing.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from conftest import CHROMIUM, FLAGS, wait_for
from playwright.sync_api import Browser, sync_playwright

from gs_ssd import config
from gs_ssd.trainer import Trainer
from gs_ssd.viewer.live import LiveView

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def measure(
    browser: Browser, rounds: int, steps: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """By who looks, a figure a round: processor seconds per step, and the training thread's share
    that is showing."""
    seconds: dict[str, list[float]] = {"no live view": [], "nobody looking": [], "one browser": []}
    shares: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        LiveView(
            prompt="a red mushroom",
            num_steps=500,
            port=8765,
            load=lambda path: trainer.asset.splats(),
        ) as view,
    ):
        trainer = Trainer(config.load(QUICKSTART, []), Path(folder))
        step = 0

        def run(kind: str, count: int) -> None:
            nonlocal step
            started, thread, showing = time.process_time(), time.thread_time(), 0.0
            for _ in range(count):
                metrics = trainer.step().metrics
                before = time.thread_time()
                if kind != "no live view":
                    view.update(step, trainer.asset, metrics)
                showing += time.thread_time() - before
                step += 1
            shares.setdefault(kind, []).append(showing / (time.thread_time() - thread))
            seconds.setdefault(kind, []).append((time.process_time() - started) / count)

        run("first steps", 5)
        for _ in range(rounds):
            run("no live view", steps)
            run("nobody looking", steps)
            page = browser.new_page()
            page.goto(view.url)
            wait_for(page, "document.querySelector('canvas') !== null")
            run("connecting", 2)
            run("one browser", steps)
            page.close()
            time.sleep(1)
    return seconds, shares


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        seconds, shares = measure(browser, args.rounds, args.steps)
        browser.close()
    plain = seconds["no live view"]
    for kind in ("no live view", "nobody looking", "one browser"):
        ratios = sorted(ours / theirs for ours, theirs in zip(seconds[kind], plain, strict=True))
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        median = statistics.median(ratios)
        share = statistics.mean(shares[kind])
        print(
            f"{kind:15} {statistics.median(seconds[kind]):.4f} s/step, x {median:.3f} ({spread});"
            f" {share:.2%} shows"
        )


if __name__ == "__main__":
    main()
