"""`jobs.jsonl`: what became of every task, a line for each change, appended by the driver alone.

Lines: `queued` (with the task's line, prompt, seed, settings' fingerprint, tags), `running`
(attempt), `retry` (why), `done`, `failed`. The last one of a name counts.
"""

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gs_ssd.batch.task import Task
from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

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
        self.path = path
        self.records: dict[str, Record] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                require_plain_file(path)
                with path.open("rb") as file:
                    for text in file:
                        self._read(text)
            self._file = path.open("ab+")
            self._end_torn_line()
        except OSError as error:
            raise UserError(f"cannot use {path}: {error.strerror or error}") from error

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
                    f"line {task.line}: {task.name} is in {self.path} with other settings;"
                    " choose another --out, or give the row another name"
                )
        for task in new:
            self.append(
                task.name,
                "queued",
                sync=False,
                line=task.line,
                prompt=task.config.prompt,
                seed=task.config.seed,
                fingerprint=task.fingerprint,
                **({"tags": list(task.tags)} if task.tags else {}),
            )
        self.sync()

    def append(self, name: str, state: str, *, sync: bool = True, **more: Any) -> None:
        """One line, on the disk before this returns (where `sync`)."""
        line = {"name": name, "state": state, "time": round(time.time(), 3), **more}
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error
        self._take(line)
        if sync:
            self.sync()

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """End it."""
        self._file.close()

    def _refused(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"cannot write {self.path}: {reason}; free some room, then call it again")

    def _read(self, text: bytes) -> None:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return  # a killed driver left it half written: what it says did not happen
        if isinstance(line, dict) and isinstance(line.get("name"), str) and "state" in line:
            self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        record = self.records.setdefault(line["name"], Record(line["name"]))
        record.state = line["state"]
        record.fingerprint = line.get("fingerprint", record.fingerprint)
        if record.state == "running":
            record.attempts += 1
        record.seconds += line.get("seconds", 0.0)
        record.cpu_seconds += line.get("cpu_seconds", 0.0)
        if record.state in FINAL:
            record.last = line

    def _end_torn_line(self) -> None:
        """What comes next must not continue a half-written line."""
        if end := self._file.seek(0, os.SEEK_END):
            self._file.seek(end - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
