"""One writer at a time in a folder. A second one is refused and told who the first is.

The lock is the system's (`flock`) on a file in the folder: it ends with its process however that
ends, so a file that a killed process left behind locks nothing. On file systems without flock the
file itself is the lock; it is stale once the process that it names is gone.
"""

import contextlib
import dataclasses
import errno
import importlib.util
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import TEMPORARY, require_plain_file
from gs_ssd.processes import is_running

fcntl: Any = (
    importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None
)  # not on Windows

NAME = ".gs-ssd.lock"
CALL_AGAIN = "call it again with --out where the folder is now"
"""What to do where an output folder was moved away from a command."""
NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
UNSIGNED_S = 10.0
"""A file without an owner's name that is older was left by a process that died as it wrote it."""
SIGNING_S = 10.0
"""What a refused process waits for the name of the one that holds the lock."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who holds a folder: a process, the machine that it runs on, what it does, and since when
    (seconds, UTC)."""

    pid: int
    host: str
    what: str
    since: float

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        where = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{where} ({self.what}, since {began})"

    @property
    def is_gone(self) -> bool:
        """Whether it certainly runs no longer; of other machines nothing is certain."""
        return self.host == socket.gethostname() and not is_running(self.pid, self.since)


_held: dict[str, tuple[int, int]] = {}  # real path of the folder: thread, depth
_guard = threading.Lock()


@contextlib.contextmanager
def held(folder: Path | str, what: str) -> Iterator[None]:
    """Hold `folder` (made if need be) against all other writers; `what` tells them who it is.

    The same thread may take it again within. A folder that was made and left empty is removed.

    Raises:
        UserError: somebody else holds it, or it cannot be written.
    """
    folder = Path(folder)
    key, me = os.path.realpath(folder), threading.get_ident()
    with _guard:
        thread, depth = _held.get(key, (me, 0))
        if thread != me:
            raise UserError(
                f"{folder} is in use by another thread of this process; choose another folder"
            )
        _held[key] = (me, depth + 1)
    try:
        if depth:
            yield
        else:
            with _folder(folder), _locked(folder / NAME, what):
                yield
    finally:
        with _guard:
            if depth:
                _held[key] = (me, depth)
            else:
                del _held[key]


def owner_of(folder: Path | str) -> Owner | None:
    """Who holds it now, as far as the file in it says; None: nobody, or nobody who still runs."""
    owner = _read(Path(folder) / NAME)
    return None if owner is None or owner.is_gone else owner


def refuse_if_lost(
    folder: Path | str, fix: str = "where the folder is now, its last checkpoint is intact"
) -> None:
    """Where this process holds `folder`: see that it still does, before something is written there.

    Args:
        fix: what is true or to be done where the folder is now.

    Raises:
        UserError: the folder was moved or deleted meanwhile, or its lock file was.
    """
    with _guard:
        holds = os.path.realpath(folder) in _held
    owner = _read(Path(folder) / NAME)
    mine = owner is not None and (owner.pid, owner.host) == (os.getpid(), socket.gethostname())
    if holds and not mine:
        raise UserError(
            f"{folder} was moved or deleted, or its {NAME} was, while this process was at work in "
            f"it; it writes nothing more there; {fix}"
        )


@contextlib.contextmanager
def alone(handle: int) -> Iterator[bool]:
    """Wait until no other process has this open file in such a block, then keep them out of theirs.

    Yields whether that is so; false: the file system has no flock.

    Raises:
        OSError: the system refused the lock.
    """
    locked = fcntl is not None
    if locked:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            locked = False
    try:
        yield locked
    finally:
        if locked:
            fcntl.flock(handle, fcntl.LOCK_UN)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write into {folder}: {error.strerror}; choose another folder"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()  # only where it is empty


@contextlib.contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    me = Owner(os.getpid(), socket.gethostname(), what, time.time())
    if path.exists():
        require_plain_file(path)
    try:
        handle = _flock(path, me) if _has_flock(path.parent) else None
        if handle is None:
            _create(path, me)
    except OSError as error:
        raise UserError(
            f"cannot write into {path.parent}: {error.strerror}; choose another folder"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_still(path, handle) if handle is not None else _read(path) == me:
                path.unlink()  # before it is let go: who opened it by then tries the next one
        if handle is not None:
            os.close(handle)


def _has_flock(folder: Path) -> bool:
    """Tried on a file of its own: one made under the lock's name would look like somebody's
    lock."""
    if fcntl is None:
        return False
    probe = folder / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-probe"
    handle = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_FLOCK:
            return False
        raise
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)
    return True


def _flock(path: Path, me: Owner) -> int:
    """The open file with the system's lock on it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, handle):
                os.ftruncate(handle, 0)
                os.write(handle, _signed(me))
                return handle
        except BlockingIOError:
            os.close(handle)
            raise UserError(_refusal(path, _signer(path))) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(
            handle
        )  # its holder removed it between our opening and locking it: try the next one


def _signer(path: Path) -> Owner | None:
    """Who holds the lock.

    It signs just after it has it: until then the file is empty, or names one that is gone."""
    end = time.monotonic() + SIGNING_S
    while (owner := owner_of(path.parent)) is None and time.monotonic() < end:
        time.sleep(0.01)
    return owner


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _create(path: Path, me: Owner) -> None:
    """The lock of a file system without flock: whoever makes the file, name and content at once,
    has it."""
    signed = path.with_name(f"{TEMPORARY}{me.pid}-{threading.get_ident()}")
    signed.write_bytes(_signed(me))
    try:
        for _ in range(3):
            try:
                _link(signed, path)
                return
            except FileExistsError:
                owner = _read(path)
                if not _is_stale(path, owner):
                    raise UserError(_refusal(path, owner or _signer(path))) from None
                _take_away(path, owner)
        raise UserError(_refusal(path, _read(path)))
    finally:
        signed.unlink(missing_ok=True)


def _link(signed: Path, path: Path) -> None:
    try:
        os.link(signed, path)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(handle, signed.read_bytes())
        os.close(handle)


def _is_stale(path: Path, owner: Owner | None) -> bool:
    if owner is not None:
        return owner.is_gone
    try:
        return time.time() - path.stat().st_mtime > UNSIGNED_S
    except FileNotFoundError:
        return True


def _take_away(path: Path, owner: Owner | None) -> None:
    """Remove a stale lock; a new one that took its place in the meantime is put back."""
    aside = path.with_name(f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-stale")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    try:
        if _read(aside) != owner:
            _link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)


def _signed(owner: Owner) -> bytes:
    return json.dumps(dataclasses.asdict(owner)).encode() + b"\n"


def _read(path: Path) -> Owner | None:
    """The owner that signed the file; None: no file, or nobody (yet)."""
    try:
        content = json_text.parse(path.read_bytes() if path.is_file() else b"")
        return Owner(
            int(content["pid"]), str(content["host"]), str(content["what"]), float(content["since"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refusal(path: Path, owner: Owner | None) -> str:
    who = "another process" if owner is None else str(owner)
    sure = owner is not None and owner.host == socket.gethostname()
    otherwise = "" if sure else f" (if that one is gone: delete {path})"
    return (
        f"{path.parent} is in use by {who}; wait for it or stop it, or choose another"
        f" folder{otherwise}"
    )
