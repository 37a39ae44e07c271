"""Ctrl-C, SIGTERM and a closed terminal: in a loop notes to read between two steps, elsewhere
exceptions.

Either way nothing dies in the middle of something: files half written and folders for the moment
are removed.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818 -- no error: the run did as it was asked
    """The run was asked to stop and has saved itself; `signal_number` says by what."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal_number = signal_number
        self.step = step


class Terminated(BaseException):
    """SIGTERM or SIGHUP came outside a loop; like KeyboardInterrupt no `Exception`, so that nothing
    swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def _watched(*numbers: str) -> list[int]:
    """Those that there are here and that nobody asked to ignore (`nohup`).

    Empty outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    found = [getattr(signal, name) for name in numbers if hasattr(signal, name)]
    return [n for n in found if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]


@contextmanager
def raised() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Terminated`, as Ctrl-C raises KeyboardInterrupt; a second one kills
    at once.

    Whatever goes wrong in a library's cleaning up after one of them, it is that one that comes out.
    Handlers that a program of the user's has set stay.
    """
    watched = [n for n in _watched("SIGTERM", "SIGHUP") if signal.getsignal(n) is signal.SIG_DFL]
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for watched_number in watched:
            signal.signal(watched_number, signal.SIG_DFL)
        raise Terminated(number)

    for number in watched:
        signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        asked = _request_behind(error)
        if asked is not None:
            raise asked from error
        if not received:
            raise
    finally:
        for number in watched:
            signal.signal(number, signal.SIG_DFL)
    # Python drops what is raised in a finalizer or while a process forks: the request still stands
    if received:
        raise Terminated(received[0])


def _request_behind(error: BaseException) -> BaseException | None:
    """The request to end during whose handling the error was raised; None: there was none.

    argparse restores its parser in a `finally` that fails if it was interrupted early.
    """
    behind = error.__context__
    while behind is not None and not isinstance(behind, KeyboardInterrupt | Terminated):
        behind = behind.__context__
    return behind


@contextmanager
def kept() -> Iterator[None]:
    """Whatever a library does to the handlers inside (Ray sets one of its own for SIGTERM), they
    are as before afterwards. Touches nothing outside the main thread."""
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set by C code, which Python cannot set again
                signal.signal(number, handler)


@contextmanager
def collected(tell: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Collect Ctrl-C, SIGTERM and SIGHUP in a list instead of dying; a second one acts at once.

    Main thread only.

    `tell` is called within the signal handler: it should set a flag, and no more.
    """
    received: list[int] = []
    before = {
        number: signal.getsignal(number) for number in _watched("SIGINT", "SIGTERM", "SIGHUP")
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        tell()
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
