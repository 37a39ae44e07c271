"""Whether another process is still there: one that wrote its number down, or the one that started
this."""

import os
import signal
import threading
import time
from pathlib import Path

PATIENCE_S = 120.0  # from the first request to end to the second, which acts at once
SLACK_S = 2.0  # /proc counts the start in ticks from a boot that is known to the second


def is_running(pid: int, at: float) -> bool:
    """Whether the process that had the number `pid` at the time `at` (seconds since 1970) still
    runs.

    Where there is no /proc, any process of that number counts.
    """
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it runs, and is another user's
    state, started = _state_and_start(pid)
    return state not in ("Z", "X") and (started is None or started <= at + SLACK_S)


def _state_and_start(pid: int) -> tuple[str, float | None]:
    """The letter of its state ("Z": ended, but not yet waited for) and the time of its start."""
    try:
        # The name in brackets may hold anything; what follows it is fields 3, 4, ... of proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = next(
            float(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime ")
        )
        return fields[0], boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return "", None


def end_with_stdin() -> None:
    """From now on ask this process to end (SIGTERM) when its standard input does.

    A program that starts this one and gives it a pipe thus leaves no orphan, even where it is
    killed itself.
    """
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def _wait_for_end_of_input() -> None:
    while _read_input():
        pass
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_S)


def _read_input() -> bytes:
    try:
        return os.read(0, 4096)  # not sys.stdin, whose lock would hang the end of the interpreter
    except OSError:  # closed
        return b""
