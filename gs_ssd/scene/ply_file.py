"""What a PLY's header says, read without trusting it, and plyfile for the rest.

plyfile believes headers: it allocates what they promise, asks for gigabytes where a list says so,
and takes the header to be ASCII, which comments often are not.
"""

import dataclasses
import io
import re
from pathlib import Path

from plyfile import PlyData, PlyParseError

from gs_ssd.digits import whole_number
from gs_ssd.errors import UserError

MAX_HEADER = 1 << 16  #: bytes; the longest honest header of a splat (62 properties) needs 2 KB
MAX_PROPERTIES, MAX_ELEMENTS = 512, 16
SIZES = {
    "char": 1,
    "uchar": 1,
    "short": 2,
    "ushort": 2,
    "int": 4,
    "uint": 4,
    "float": 4,
    "double": 8,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "float64": 8,
}
END = re.compile(rb"[\r\n]end_header[ \t]*(\r\n|\n|\r|$)")

#: What plyfile and numpy raise over a file that is not what its header says.
PLY_ERRORS = (
    PlyParseError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    OSError,
    EOFError,
)


@dataclasses.dataclass(frozen=True)
class Header:
    """`comments` in order, without the word; `elements` name -> rows; `left_over` bytes follow the
    last row of a binary file."""

    comments: tuple[str, ...]
    elements: dict[str, int]
    left_over: int = 0


def read_header(path: Path, *, size: int) -> Header:
    """The header of a PLY of `size` bytes whose rows all have a fixed width.

    Raises:
        UserError: no PLY, an element with lists (a mesh), or promises that `size` bytes cannot
            hold.
    """
    head = _head(path)
    if not head.startswith(b"ply"):
        raise UserError(f"{path}: not a PLY file{' (it is empty)' if not head else ''}")
    end = END.search(head)
    if end is None:
        raise UserError(
            f"{path}: no end_header in its first {MAX_HEADER // 1024} KB; the PLY is damaged"
        )
    is_text = False
    comments: list[str] = []
    rows: list[tuple[str, int, int]] = []  # name, count, bytes per row
    properties, exact = 0, True
    try:
        for line in re.split("\r\n|\n|\r", head[: end.start()].decode("utf-8", "replace"))[1:]:
            match line.split():
                case ["comment" | "obj_info", *_]:
                    comments.append(line.split(maxsplit=1)[-1])
                case ["format", kind, *_]:
                    is_text = kind == "ascii"
                case ["element", name, number]:
                    rows.append((name, whole_number(number), 0))
                    if rows[-1][1] < 0:
                        raise UserError(f"{path}: an element of {number} rows; the PLY is damaged")
                case ["property", "list", *_] if (
                    rows and rows[-1][1]
                ):  # each row may ask for 16 GB of its own
                    raise UserError(f"{path}: a mesh (its PLY has lists), not a Gaussian splat")
                case ["property", kind, _] if rows:
                    name, count, width = rows[-1]
                    rows[-1] = name, count, width + (2 if is_text else SIZES.get(kind, 1))
                    properties, exact = properties + 1, exact and kind in SIZES
    except ValueError as error:
        raise UserError(f"{path}: a damaged PLY header ({error})") from error
    promised = sum(count * max(width, 1) for _, count, width in rows)
    if len(rows) > MAX_ELEMENTS or properties > MAX_PROPERTIES:
        raise UserError(
            f"{path}: {len(rows)} elements with {properties} properties; not a Gaussian splat"
        )
    available = size - end.end() + (2 if is_text else 0)
    if promised > available:
        raise UserError(
            f"{path}: truncated: its header promises {promised} bytes, {max(available, 0)} are"
            " there"
        )
    elements = {name: count for name, count, _ in rows}
    return Header(tuple(comments), elements, 0 if is_text or not exact else available - promised)


def open_ply(path: Path) -> PlyData:
    """plyfile's view of the file; a header that is not ASCII is read with its comments' other bytes
    as `?`.

    Raises:
        any of `PLY_ERRORS`.
    """
    head = _head(path)
    end = END.search(head)
    if end is None or head[: end.start()].isascii():
        return PlyData.read(str(path))
    lines = head[: end.start()].split(b"\n")
    lines = [
        re.sub(rb"[\x80-\xff]", b"?", line) if line.startswith((b"comment", b"obj_info")) else line
        for line in lines
    ]
    return PlyData.read(io.BytesIO(b"\n".join(lines) + path.read_bytes()[end.start() :]))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_HEADER)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
