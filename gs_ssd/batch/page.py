"""`index.html` of a batch: the gallery, written anew now and then while it runs."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gs_ssd.batch.task import Task
from gs_ssd.viewer.gallery import PICTURES, card, write_cards
from gs_ssd.viewer.runs import Run

FILE = "index.html"
EVERY_S, SHARE = 10.0, 0.02
"""The least time between two writings, and the most of the time that they may take."""
MOST = 2000  #: newest assets on the page: a browser has to show them


class Page:
    """Cards are made once, when their asset is done; pictures stay in the assets' folders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cards: dict[str, str] = {}
        self._count = 0
        self._next = 0.0
        self._changed = True

    def add(self, task: Task, counts: Mapping[str, Any], files: Sequence[str]) -> None:
        """An asset that is done."""
        self._count += 1
        self._changed = True
        settings = {
            "prompt": task.config.prompt,
            "seed": task.config.seed,
            "num_steps": task.config.num_steps,
            "guidance": {"estimator": task.config.guidance.estimator},
            "prior": {"model": task.config.prior.model},
        }
        link = quote(task.name)
        found = [f"{link}/{name}" for name in PICTURES if name in files]
        run = Run(self.path.parent / task.name, settings, dict(counts))
        self._cards[task.name] = card(run, link, files, found[0] if found else None)
        if len(self._cards) > MOST:
            del self._cards[next(iter(self._cards))]

    def write(self, total: int, failed: int, *, now: bool = False) -> bool:
        """Write the page if it is time to; whether it was."""
        began = time.monotonic()
        if not now and (began < self._next or not self._changed):
            return False
        shown = "" if len(self._cards) == self._count else f", the newest {len(self._cards)} here"
        count = f"{self._count} of {total} done, {failed} failed{shown}"
        write_cards(self.path, reversed(self._cards.values()), title="Batch", count=count)
        took = time.monotonic() - began
        self._next, self._changed = began + max(EVERY_S, took / SHARE), False
        return True
