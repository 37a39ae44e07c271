"""Independent parts of an experiment side by side: processes of one thread each, which end when
their caller does."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """`map` with that many processes; in this one, with all of its threads, for one worker or one
    item.

    `function`, the items and the results must be picklable. An exception of the function arrives
    here.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a process was killed, by the kernel for want
        of memory say.
    """
    if min(workers, len(items)) <= 1:
        yield from map(function, items)
        return
    fresh = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(min(workers, len(items)), fresh, _begin) as pool:
        yield from pool.map(function, items)


def _begin() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's process whose caller was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
