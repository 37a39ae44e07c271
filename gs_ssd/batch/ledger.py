"""`jobs.jsonl`: what became of every task, a line for each change, appended by the driver alone.

Lines: `queued` (with the task's line, prompt, seed, settings' fingerprint, tags), `running`
(attempt), `retry` (why), `done`, `failed`. The last one of a name counts.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gs_ssd.batch.task import Task
from gs_ssd.errors import UserError
from gs_ssd.json_lines import Appender, read_records

FILE = "jobs.jsonl"
FINAL = ("done", "failed")


@dataclasses.dataclass
class Record:
    """What the ledger says of one task."""

    name: str
    state: str = "queued"
    attempts: int = 0
    fingerprint: str = ""
    seconds: float = 0.0
    """Of all attempts that ended."""
    cpu_seconds: float = 0.0
    last: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The line of its end."""


class Ledger:
    """One writer's file; hold the folder (`gs_ssd.locks`) while it is open.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.records: dict[str, Record] = {}
        for line in read_records(path, {"name": str, "state": str}):
            self._take(line)
        self._file = Appender(path)

    def queue(self, tasks: Sequence[Task]) -> None:
        """Write down those tasks that are new.

        Raises:
            UserError: a name is there already with other settings.
        """
        new = []
        for task in tasks:
            record = self.records.get(task.name)
            if record is None:
                new.append(task)
            elif record.fingerprint != task.fingerprint:
                raise UserError(
                    f"line {task.line}: {task.name} is in {self._file.path} with other settings;"
                    " choose another --out, or give the row another name"
                )
        for task in new:
            self.append(
                task.name,
                "queued",
                wait=False,
                line=task.line,
                prompt=task.config.prompt,
                seed=task.config.seed,
                fingerprint=task.fingerprint,
                **({"tags": list(task.tags)} if task.tags else {}),
            )
        self._file.sync()

    def append(self, name: str, state: str, *, wait: bool = True, **more: Any) -> None:
        """One line, on the disk before this returns (where it is to `wait`)."""
        line = {"name": name, "state": state, "time": round(time.time(), 3), **more}
        self._file.append(line, wait=wait)
        self._take(line)

    def close(self) -> None:
        """End it."""
        self._file.close()

    def _take(self, line: dict[str, Any]) -> None:
        record = self.records.setdefault(line["name"], Record(line["name"]))
        record.state = line["state"]
        record.fingerprint = line.get("fingerprint", record.fingerprint)
        if record.state == "running":
            record.attempts += 1
        record.seconds += _seconds(line, "seconds")
        record.cpu_seconds += _seconds(line, "cpu_seconds")
        if record.state in FINAL:
            record.last = line


def _seconds(line: dict[str, Any], key: str) -> float:
    value = line.get(key)
    return value if isinstance(value, int | float) else 0.0
