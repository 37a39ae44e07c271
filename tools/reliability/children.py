"""`gs-ssd` in processes forked from one that has imported everything already: a try costs no start
of Python."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
ASSETS: dict[str, tuple[str, ...]] = {
    "splat": (),
    "nerf": (
        *("asset=nerf", "nerf.levels=4", "nerf.levels_on=[[0, 4]]", "nerf.log2_entries=8"),
        *("nerf.base_resolution=4", "nerf.hidden=16", "nerf.steps=24", "nerf.cells=12"),
        *("nerf.resolution=[[0, 16]]", "nerf.occupancy_every=2", "nerf.learned_background=0.5"),
        *("nerf.warm_start.views=4", "nerf.warm_start.image_size=16", "nerf.warm_start.steps=8"),
        *("nerf.conversion.views=4", "nerf.conversion.image_size=24", "nerf.conversion.steps=2"),
        "nerf.conversion.spacing=0.1",
    ),
    "avatar": ("asset=avatar", "avatar.surface_points=2000", "avatar.rebind_every=2"),
}
"""Settings that make the smoke run one of each representation, small and quick."""


class Child(NamedTuple):
    """A running call of gs-ssd, and the file that takes what it says on stderr."""

    pid: int
    log: Path

    def wait(self, seconds: float) -> int | None:
        """The exit code (minus the signal's number where one killed it); None: it still runs after
        `seconds`."""
        end = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= end:
                return None
            time.sleep(0.005)

    def kill(self) -> int:
        """SIGKILL, and the exit code: -9, or another where it had ended before."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def has_ended(self) -> bool:
        """Whether it is over, and only waits to be waited for."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"

    @property
    def said(self) -> str:
        """What it has written to stderr so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def warm_up() -> None:
    """Import what the subcommands import, once for all of them.

    No operation of torch: its threads do not fork."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "BROWSER": "true"}
    from gs_ssd import cli

    importlib.import_module("gs_ssd.trainer")
    for command in cli.COMMANDS.values():
        importlib.import_module(command.module)


def add_asset(parser: argparse.ArgumentParser) -> None:
    """Declare `--asset`."""
    parser.add_argument(
        "--asset", choices=ASSETS, default="splat", help="what is trained (default: splat)"
    )


def start(
    words: Sequence[str], folder: Path, log: Path, gate: tuple[int, int] | None = None
) -> Child:
    """Begin a call in `folder`; with a `gate`, a pipe, only once its writing end is closed."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(words, folder, log, gate)
    return Child(pid, log)


def _child(words: Sequence[str], folder: Path, log: Path, gate: tuple[int, int] | None) -> None:
    """Never returns."""
    from gs_ssd import cli

    code = 70
    try:
        os.chdir(folder)
        null, said = (
            os.open(os.devnull, os.O_RDWR),
            os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        )
        for target, source in ((0, null), (1, null), (2, said)):
            os.dup2(source, target)
        if gate is not None:
            os.close(gate[1])  # ours is a copy
            os.read(gate[0], 1)
        code = cli.main(list(words))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
