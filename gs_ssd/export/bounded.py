"""Reading files that may lie: sizes are checked against what is really there before anything is allocated."""

import os
from pathlib import Path

from gs_ssd.errors import UserError

MAX_FILE = 4 << 30  #: bytes
MAX_SPLATS = 50_000_000  #: no tool known to us opens more


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole file.

    Raises:
        UserError: it is missing, unreadable, empty, not a plain file, or larger than `MAX_FILE`.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file" if not path.exists() else f"{path}: not a plain file")
        size = path.stat().st_size
        if size > MAX_FILE:
            raise UserError(f"{path}: {size >> 30} GB; files above {MAX_FILE >> 30} GB are not read")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise UserError(f"{path}: the file is empty")
    return data
