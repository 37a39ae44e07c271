"""Files are written whole or not at all, and are on the disk before they bear their name.

`slug` is how a text becomes a name of a file or folder.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.processes import is_running

TEMPORARY = ".gs-ssd-tmp-"
"""How the names of our temporary files begin; the process's number follows, and a dash."""
LONGEST_SLUG = 120
"""Bytes; file systems end at 255, and counters, endings and temporary names need some."""
RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
)
"""Names that Windows keeps for devices, with any ending."""
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def slug(text: str, otherwise: str = "run") -> str:
    """A text as a name that any file system takes: "A red mushroom!" is a-red-mushroom, in the
    letters of its script.

    One that is too long is cut and ends with a hash; `otherwise` is the name of a text without
    letters and digits.
    """
    letters = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    name = "-".join(
        "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in letters).split()
    )
    if len(name.encode()) > LONGEST_SLUG:
        start = name.encode()[: LONGEST_SLUG - 9].decode(errors="ignore")
        return f"{start}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{name}-" if name in RESERVED else name or otherwise


def as_text(name: str) -> str:
    """A name of a file for a page or a report; bytes in it that are no text are shown as U+FFFD."""
    return name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def require_text(text: str) -> str:
    """The text itself, from a command line.

    Raises:
        UserError: it holds bytes that are no text (Python shows them as halves of surrogates).
    """
    if as_text(text) != text:
        raise UserError(f"{as_text(text)!r} holds bytes that are no text; write it as UTF-8")
    return text


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it there, on failure remove it.

    The temporary name keeps the suffix, so that writers that look at it behave alike. Content and
    name are written through to the disk: after a loss of power there lies the old file or the new
    one, and never an empty one. A link is followed: the file that it points to is replaced. A new
    file has the permissions that the umask leaves, one that is replaced keeps its own.

    Raises:
        UserError: the folder cannot be made or written, the disk is full, or a folder, a device or
            a pipe bears the name; whatever lay at `path` is intact.
    """
    target = Path(os.path.realpath(path))
    number = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = target.parent / f"{TEMPORARY}{number}{target.suffix}"
    try:  # around the making too: a signal may come right after it
        try:
            mode = _mode_of(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; choose another folder"
            ) from error
        yield temporary
        if mode is not None:
            os.chmod(temporary, mode)
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some room or choose another"
            " folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            temporary.unlink()


def _mode_of(target: Path) -> int | None:
    """The permissions of the file that is there; None: there is none.

    Raises:
        UserError: it is something that a renamed file must not take the place of.
    """
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise UserError(f"cannot write {target}: it is {kind}; choose another name")
    return stat.S_IMODE(mode)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder for the moment in `parent`, for programs that write files of their own."""
    prefix = f"{TEMPORARY}{os.getpid()}-"
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def sync(path: Path) -> None:
    """Wait until the file's content, or the names in the folder, are on the disk (where the file
    system can say).

    Raises:
        OSError: the disk refused them.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        sync_handle(handle)
    finally:
        os.close(handle)


def sync_handle(handle: int) -> None:
    """The same for an open file.

    Raises:
        OSError: the disk refused its content.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def sweep(folder: Path) -> int:
    """Remove what killed processes left half written in `folder` and below; returns how much of it.

    Files of processes that still run (somebody exports into the folder) stay.
    """
    removed = 0
    for path in sorted(folder.rglob(f"{TEMPORARY}*")):
        pid = path.name.removeprefix(TEMPORARY).partition("-")[0]
        with contextlib.suppress(FileNotFoundError):
            if pid.isdecimal() and not is_running(int(pid), path.stat().st_mtime):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
                removed += 1
    return removed


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where there is no such folder.

    `Path.glob` takes one that may not be looked into for an empty one.

    Raises:
        UserError: it may not be looked into.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"cannot look into {folder}: {error.strerror or error}; fix its permissions"
        ) from error


def require_plain_file(path: str | os.PathLike[str]) -> int:
    """Its size in bytes.

    A pipe, socket or device is refused before it is opened: that could wait for ever.

    Raises:
        UserError: it is missing, cannot be looked at, or is not a plain file.
    """
    path = Path(path)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(
            f"{path}: not a plain file (a pipe, socket or device); save its content to a file first"
        )
    return status.st_size
