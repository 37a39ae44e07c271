"""Files of records, a JSON object a line, that a process may be killed over at any moment.

- What is appended is on the disk before that returns, and so is the name of a new file.
- A line is there whole or not at all: one that could not be written is taken back, and one that a
  killed process left half written is never continued and never read.
- Lines stand in the order in which they were appended; several threads and processes may append.
- A damaged line costs that line alone. It stays in the file, and reading names it in the log.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, require_plain_file, sync, sync_handle
from gs_ssd.locks import alone

log = logging.getLogger(__name__)

LAST_LINE = 1 << 16  #: bytes from a file's end that `last_record` looks at
SOON = "free some room, then call it again"


class Appender:
    """A file that is open for more lines; it is made if need be, with its folder.

    Args:
        fix: what the user is told to do where a line cannot be written.

    Raises:
        UserError: the file cannot be made or written, or is no plain file.
    """

    def __init__(self, path: Path, fix: str = SOON) -> None:
        self.path, self.fix = path, fix
        self._threads = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            if not new:
                require_plain_file(path)
            self._file = path.open("ab+", buffering=0)
            if new:
                sync(path.parent)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; choose another folder"
            ) from error

    def append(self, record: Mapping[str, Any], *, wait: bool = True) -> None:
        """Add a line.

        Args:
            wait: until it is on the disk; else `sync` does it later, for many lines at once.

        Raises:
            UserError: it cannot be written; the file is as it was.
        """
        line = json.dumps(record).encode() + b"\n"
        with self._refusal(), self._threads, alone(self._file.fileno()) as locked:
            end = self._file.seek(0, os.SEEK_END)
            try:
                self._write(b"\n" + line if self._is_torn(end) else line)
                if wait:
                    sync_handle(self._file.fileno())
            except OSError:
                if locked:  # else another's line may lie behind this one
                    with contextlib.suppress(OSError):
                        self._file.truncate(end)
                raise

    def sync(self) -> None:
        """Wait until all lines are on the disk.

        Raises:
            UserError: the disk refused them.
        """
        with self._refusal():
            sync_handle(self._file.fileno())

    def close(self) -> None:
        """End it; nothing is pending."""
        self._file.close()

    def _is_torn(self, end: int) -> bool:
        """Whether the last line has no end: what comes next must not continue it."""
        if not end:
            return False
        self._file.seek(end - 1)
        return self._file.read(1) != b"\n"

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]

    @contextlib.contextmanager
    def _refusal(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {self.path}: {reason}; {self.fix}") from error


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line to a file that is not open.

    Raises:
        UserError: see `Appender`.
    """
    with contextlib.closing(Appender(path)) as file:
        file.append(record)


def read_records(
    path: Path,
    fields: Mapping[str, type] | None = None,
    others: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """The objects in a file, in their order; a file that is not there has none.

    Lines that are no objects are passed over, with a word in the log. A last one without an end
    goes without saying: it was never appended, or is about to be.

    Args:
        fields: what an object must have, and of what type; one that does not is passed over too.
        others: of what type its other fields are, where it has them; the rest may be anything.

    Raises:
        UserError: the file cannot be read, or is no plain file.
    """
    if not path.exists():
        return
    require_plain_file(path)
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                record = _object(text)
                fault = _fault(record, fields or {}, others or {})
                if record is not None and not fault:
                    yield record
                elif text.strip() and (record is not None or text.endswith(b"\n")):
                    log.warning("%s: line %d %s, skipped", path, number, fault)
                if not text.endswith(b"\n"):
                    return  # it is being written: what another read would find is its other half
    except OSError as error:
        raise _unreadable(path, error) from error


def last_record(path: Path) -> dict[str, Any] | None:
    """The object in the last line that is written to its end; {}: there is no line yet; None: that
    one is no object, or too long.

    Raises:
        UserError: there is no such file, it cannot be read, or it is no plain file.
    """
    size = require_plain_file(path)
    try:
        with path.open("rb") as file:
            file.seek(max(size - LAST_LINE, 0))
            *whole, rest = file.read().split(b"\n")
    except OSError as error:
        raise _unreadable(path, error) from error
    record = _object(rest)  # all but the end of its line may have been written
    if record is not None:
        return record
    return _object(whole[-1]) if whole else {} if size <= LAST_LINE else None


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file, whole or not at all. Nobody may have it open for appending.

    Raises:
        UserError: see `gs_ssd.files.atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))


def _fault(
    record: dict[str, Any] | None, fields: Mapping[str, type], others: Mapping[str, Any]
) -> str:
    if record is None:
        return "is no JSON object"
    bad = [name for name, kind in fields.items() if not isinstance(record.get(name), kind)]
    bad += [
        name
        for name, kind in others.items()
        if name in record and not isinstance(record[name], kind)
    ]
    return next((f"has no {name!r}, or a wrong one" for name in bad), "")


def _object(text: bytes) -> dict[str, Any] | None:
    """What a line says; no object's beginning is an object, so half a line says nothing."""
    try:
        value = json_text.parse(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {error.strerror or error}")
