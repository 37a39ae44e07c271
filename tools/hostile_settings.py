"""Hostile values for every setting: each is refused by its name, or taken for what it is; no
traceback, no hang.

    python tools/hostile_settings.py                 as `train.py key=value --dry-run` reads them
    python tools/hostile_settings.py --steps 2       also trains two steps with what is accepted
    python tools/hostile_settings.py --only densify  the settings whose names begin so
    python tools/hostile_settings.py --steps 2 --only nerf asset=nerf nerf.cells=12   beside others

The first takes four minutes of a CPU for 8007 tries, the second an hour. Prints what went wrong,
then how many tries ended how; the exit code is 1 if any ended in a traceback, ran longer than
--seconds, or was refused without the setting's name.
"""

import argparse
import collections
import signal
import tempfile
import time
import traceback
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gs_ssd import config as configs
from gs_ssd import refusals
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.memory import explained

SMOKE = Path(__file__).resolve().parents[1] / "configs" / "smoke.yaml"
QUICK = [
    "output.turntable_frames=2",
    "output.preview_every=1",
    "initialize.num_points=40",
    "device=cpu",
]
NUMBERS = (
    "0",
    "-1",
    "1",
    "0.5",
    ".nan",
    ".inf",
    "-.inf",
    "1e38",
    "-1e38",
    "100000000000",
    "1e-38",
    "-0.0",
    "true",
    "''",
)
OTHERS = (
    "[]",
    "{}",
    "null",
    "~",
    "a word",
    "'0'",
    "[[]]",
    "[null]",
    "{a: 1}",
    "1:30",
    "010",
    "a #1",
    "\udcff",
    '"\\0"',
)
WORDS = ("x" * 5000, "../../x", "/nonexistent", " ", "a/../b")


def values_of(annotation: Any) -> Iterator[str]:
    """What is tried for a setting: the same for all, and numbers in as many lists as it wants."""
    yield from (*NUMBERS, *OTHERS, *WORDS)
    for number in NUMBERS:
        shaped = _in_lists(annotation, number)
        if shaped != number:
            yield shaped
    inner = refusals.bare(annotation)
    if typing.get_origin(inner) is tuple:
        yield from ("[1, 2, 3, 4]", "[2, 1]", "[[1, 2], [0, 1]]", f"[{'1, ' * 999}1]")


def _in_lists(annotation: Any, number: str) -> str:
    inner = refusals.bare(annotation)
    if typing.get_origin(inner) is not tuple:
        return number
    items = (item for item in typing.get_args(inner) if item is not Ellipsis)
    return f"[{', '.join(_in_lists(item, number) for item in items)}]"


def outcome(
    key: str, value: str, steps: int, seconds: float, beside: Sequence[str] = ()
) -> tuple[str, str]:
    """How one try ends (taken, refused, unnamed, traceback, hang), and what was said; `beside` are
    the run's other settings."""
    begun = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 4 * seconds)
    try:
        config = configs.load(
            SMOKE, [*QUICK, *beside, f"num_steps={max(steps, 1)}", f"{key}={value}"]
        )
        if steps:
            _train(config, steps)
        ended, said = "taken", ""
    except UserError as error:
        ended, said = "refused" if key in str(error) else "unnamed", str(error)
    except TimeoutError:
        ended, said = "hang", f"longer than {4 * seconds} s"
    except Exception:  # the very thing that is looked for
        ended, said = "traceback", traceback.format_exc(limit=-3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return (
        ("hang", f"{time.monotonic() - begun:.1f} s")
        if time.monotonic() - begun > seconds
        else (ended, said)
    )


def _train(config: ExperimentConfig, steps: int) -> None:
    from gs_ssd.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder, explained():
        if config.num_steps > steps:
            Trainer(config, folder).fit(until=steps)
        else:
            Trainer(config, folder).fit()


def _alarm(*_: object) -> None:
    raise TimeoutError


def main() -> int:
    """Try everything; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="train so many steps with what is taken"
    )
    parser.add_argument("--only", default="", help="beginning of the settings' names")
    parser.add_argument("--seconds", type=float, default=20, help="what a try may take")
    parser.add_argument("beside", nargs="*", metavar="key=value", help="settings of every run")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, _alarm)
    counts: collections.Counter[str] = collections.Counter()
    for key, (annotation, _) in configs.known_keys().items():
        for value in values_of(annotation) if key.startswith(args.only) else ():
            ended, said = outcome(key, value, args.steps, args.seconds, args.beside)
            counts[ended] += 1
            if ended in ("traceback", "hang", "unnamed"):
                shown = f"{key}={value[:40]}".encode("utf-8", "backslashreplace").decode()
                print(f"{ended}: {shown}: {said}", flush=True)
    print(
        f"{counts.total()} tries: "
        + ", ".join(f"{number} {ended}" for ended, number in sorted(counts.items()))
    )
    return (
        1 if counts["traceback"] or counts["hang"] or (counts["unnamed"] and not args.steps) else 0
    )


if __name__ == "__main__":
    raise SystemExit(main())
