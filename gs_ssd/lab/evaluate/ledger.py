"""Files of records, a JSON object a line, that a process may be killed over at any moment."""

import json
import os
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file


def records_in(path: Path) -> list[dict[str, Any]]:
    """The objects in a file; lines that a killed run left half written are dropped, and a file that
    is not there has none.

    Raises:
        UserError: it is no plain file.
    """
    if not path.exists():
        return []
    require_plain_file(path)
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line, and wait until it is on the disk: an asset is hours of work.

    Raises:
        UserError: it cannot be written.
    """
    line = json.dumps(record).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                line = (
                    b"\n" + line
                )  # a killed run left the last line torn: this one must not become its end
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free some room, then call it again"
        ) from error
