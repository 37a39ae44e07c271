"""Trainings as processes: each with one thread, its cost measured, ended (and saved) when this
process ends."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """What one training took: wall time and processor time.

    Not the process's largest memory: Linux begins a child's with what its parent has, so that it
    would grow from training to training. The run's own gauge says it (`metrics.jsonl`)."""

    seconds: float
    cpu_seconds: float


class TrainingError(Exception):
    """A training that ended badly; its text says how."""


_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def run_process(command: Sequence[str], log: Path) -> Cost:
    """One training as a process with one thread; its output goes to `log`.

    Its input is a pipe that nobody writes to: with `--end-with-stdin` it ends when this process
    does, however that is.

    Raises:
        TrainingError: it ended with another code than 0; carries the log's last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    started = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | single,
        )
        with _lock:
            _running.add(process)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.terminate()
            raise
        finally:
            with _lock:
                _running.discard(process)
            if process.stdin is not None:
                process.stdin.close()
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise TrainingError(f"exit code {process.returncode}: {' | '.join(tail)}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime)


def end_all() -> None:
    """Ask all trainings that run to save themselves and end; the threads in `run_process` return
    once they have."""
    with _lock:
        for process in _running:
            process.terminate()
