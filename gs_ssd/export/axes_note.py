"""`<file>.axes.json`: which axes a splat file is in, where they are not its format's own.

A note and its file are two files, and whoever is killed between them, or puts another file in the
place of the first, leaves a note that tells of something else. So a note holds the checksum of its
file, and one that does not fit is refused.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.export.frames import FROM_WORLD, Frame
from gs_ssd.files import atomic_path, require_plain_file

NOTHING: tuple[None, tuple[float, float, float]] = None, (0.0, 0.0, 0.0)
LONGEST = 4096


def note_of(path: Path) -> Path:
    """Where other axes than the format's own are noted."""
    return path.with_name(path.name + ".axes.json")


@contextlib.contextmanager
def written(path: Path, content: Mapping[str, Any]) -> Iterator[None]:
    """Write the note of the file that is written within.

    Meanwhile the note fits no file: a file that lies there without its note would be taken to be in
    its format's own axes. Where the writing fails, the note is what it was.

    Raises:
        UserError: it cannot be written.
    """
    note = note_of(path)
    before = note.read_bytes() if note.is_file() else None
    _write(note, {**content, "sha256": ""})
    try:
        yield
    except BaseException:
        with contextlib.suppress(UserError, OSError):  # what went wrong first is what is told
            note.unlink(missing_ok=True)
            if before is not None:
                with atomic_path(note) as temporary:
                    temporary.write_bytes(before)
        raise
    _write(note, {**content, "sha256": _checksum(path)})


def remove(path: Path) -> None:
    """The file is in its format's own axes now: no note tells otherwise."""
    note_of(path).unlink(missing_ok=True)


def read(path: Path) -> tuple[Frame | None, tuple[float, float, float]]:
    """The frame and the offset that are noted beside the file; None: nothing is.

    Raises:
        UserError: the note was written for another file, or is damaged: then the file's axes are
            not known.
    """
    note = note_of(path)
    if not note.exists():
        return NOTHING
    require_plain_file(note)
    try:
        with note.open("rb") as file:
            noted = json_text.parse(file.read(LONGEST))
        x, y, z = (float(number) for number in noted.get("offset", NOTHING[1]))
        frame, of = noted.get("frame"), noted.get("sha256")
        empty = noted.keys().isdisjoint({"frame", "offset"})
    except OSError as error:
        raise UserError(f"cannot read {note}: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _unknown_axes(f"{note} is damaged", path) from error
    if empty or frame not in (None, *FROM_WORLD) or not all(map(math.isfinite, (x, y, z))):
        raise _unknown_axes(f"{note} is damaged", path)
    if of is not None and of != _checksum(path):  # older notes name no file
        raise _unknown_axes(f"{note} was written for another file than {path}", path)
    return frame, (x, y, z)


def _unknown_axes(reason: str, path: Path) -> UserError:
    return UserError(
        f"{reason}, so the axes of {path.name} are not known: write the file again, or say which"
        " axis points up with --up, or delete the note if the file is in its format's own axes"
    )


def _write(note: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(content) + "\n")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
