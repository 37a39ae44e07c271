"""Reading files that may lie: sizes are checked against what is really there before anything is
allocated."""

import os
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

MAX_FILE = 4 << 30  #: bytes
MAX_SPLATS = 50_000_000  #: no tool known to us opens more

RATIO, ALWAYS_ALLOWED = 1024, 64 << 20


def room_for(packed: int) -> int:
    """Bytes that `packed` bytes may honestly unpack to, where the packing itself sets no limit.

    1024 times as many, which is what SPZ's own library allows and near the limit of deflate; small
    results always.
    """
    return max(RATIO * packed, ALWAYS_ALLOWED)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole file.

    Raises:
        UserError: it is missing, unreadable, empty, not a plain file, or larger than `MAX_FILE`.
    """
    path = Path(path)
    size = require_plain_file(path)
    if size > MAX_FILE:
        raise UserError(f"{path}: {size >> 30} GB; files above {MAX_FILE >> 30} GB are not read")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise UserError(f"{path}: the file is empty")
    return data
