"""What the studio has to remember beside the runs' folders: what was asked for, and what ended.

A line is on the disk before what it says is done.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gs_ssd.json_lines import Appender, read_records


class Journal:
    """One writer's file; hold the folder (`gs_ssd.locks`) while it is open.

    Raises:
        UserError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = Appender(path, fix="free some room, then try again")

    def append(self, event: str, run: str, **more: Any) -> None:
        """Write one line through to the disk."""
        self._file.append({"time": round(time.time(), 3), "event": event, "run": run, **more})

    def read(self) -> Iterator[dict[str, Any]]:
        """All lines that are whole, oldest first."""
        return read_records(self._file.path, {"run": str})

    def close(self) -> None:
        """End it."""
        self._file.close()
