"""What the studio has to remember beside the runs' folders: an append-only file of JSON lines.

A line is on the disk before what it says is done. A line that a killed process left half written is
skipped.
"""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

log = logging.getLogger(__name__)


class Journal:
    """One writer's file; hold the folder (`gs_ssd.locks`) while it is open.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                require_plain_file(path)
            self._file = path.open("ab+")
            self._end_torn_line()
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error

    def append(self, event: str, run: str, **more: Any) -> None:
        """Write one line through to the disk."""
        line = {"time": round(time.time(), 3), "event": event, "run": run, **more}
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror or error}; free some room"
            ) from error

    def read(self) -> list[dict[str, Any]]:
        """All lines that are whole, oldest first."""
        lines = []
        for number, text in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                log.warning("%s: line %d is not whole, skipped", self.path, number)
                continue
            if isinstance(line, dict) and isinstance(line.get("run"), str):
                lines.append(line)
        return lines

    def close(self) -> None:
        """End it."""
        self._file.close()

    def _end_torn_line(self) -> None:
        """What comes next must not continue a line that a killed process left half written."""
        end = self._file.seek(0, os.SEEK_END)
        if end:
            self._file.seek(end - 1)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
