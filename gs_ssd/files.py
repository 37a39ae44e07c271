"""Floor 0: files are written whole or not at all, and are on the disk before they bear their name."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.processes import is_running

TEMPORARY = ".gs-ssd-tmp-"
"""How the names of our temporary files begin; the process's number follows, and a dash."""
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it there, on failure remove it.

    The temporary name keeps the suffix, so that writers that look at it behave alike. Content and name are written
    through to the disk: after a loss of power there lies the old file or the new one, and never an empty one.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full; whatever lay at `path` is intact.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{TEMPORARY}{os.getpid()}-"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; choose another folder") from error
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; free some room or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the file's content, or the names in the folder, are on the disk (where the file system can say).

    Raises:
        OSError: the disk refused them.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)


def sweep(folder: Path) -> int:
    """Remove what killed processes left half written in `folder` and below; returns how many files.

    Files of processes that still run (somebody exports into the folder) stay.
    """
    removed = 0
    for path in folder.rglob(f"{TEMPORARY}*"):
        pid = path.name.removeprefix(TEMPORARY).partition("-")[0]
        with contextlib.suppress(FileNotFoundError):
            if pid.isdecimal() and path.is_file() and not is_running(int(pid), path.stat().st_mtime):
                path.unlink()
                removed += 1
    return removed
