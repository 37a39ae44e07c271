"""Floor 0: Ctrl-C and SIGTERM as notes to read between two steps, not as a death in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818 -- no error: the run did as it was asked
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved itself; `signal_number` says by what."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal_number = signal_number
        self.step = step


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list instead of dying; a second one acts at once. Main thread only."""
    received: list[int] = []
    watched = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in watched}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for watched_number in watched:
            signal.signal(watched_number, before[watched_number])

    for number in watched:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in watched:
            signal.signal(number, before[number])
