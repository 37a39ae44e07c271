"""A batch's folder: a path that all machines see, or a URL of fsspec (s3://bucket/folder).

Behind a URL a task is made in a folder of the worker's own machine; checkpoints and results go up
as they come, and a half-made task comes down again wherever it continues.
"""

import contextlib
import dataclasses
import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.files import TEMPORARY
from gs_ssd.locks import NAME as LOCK

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*(::|://)")

PROBE = ".gs-ssd-probe"


def is_url(text: str) -> bool:
    """Whether a batch's folder is named by a URL."""
    return URL.match(text) is not None


def is_torn_url(text: str) -> bool:
    """Whether it is a URL but for a slash, which would make a folder called `s3:`."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/[^/]", text) is not None and not is_url(text)


@dataclasses.dataclass(frozen=True)
class Store:
    """The place behind a URL. It travels to the workers; each opens its own connection.

    Raises:
        UserError: an unknown scheme, a missing package, a place that refuses.
    """

    url: str

    @functools.cached_property
    def _place(self) -> tuple[Any, str]:
        try:
            import fsspec

            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"--out {self.url}: {error}; S3 needs: pip install 'gs-ssd[cloud]'"
            ) from error
        except Exception as error:  # some connect as they are made, and have errors of their own
            raise self._refusal(error) from error

    def check(self) -> None:
        """See that the place can be reached, before anything starts."""
        fs, root = self._place
        with self._refusing():
            self._make_folder(root)
            fs.pipe_file(f"{root}/{PROBE}", b"gs-ssd")
            fs.rm_file(f"{root}/{PROBE}")

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """For the driver, which a fault of the place may end; a worker's tasks are tried again."""
        try:
            yield
        except Exception as error:  # every file system has errors of its own
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"--out {self.url} cannot be used: {reason}; check name and access")

    def pull(self, name: str, folder: Path) -> None:
        """Bring what there is of a task here; what lies here without being there goes."""
        fs, root = self._place
        there = self._listing(name)
        for path in _files(folder):
            if path.relative_to(folder).as_posix() not in there:
                path.unlink()
        for inside, size in there.items():
            target = folder / inside
            if target.is_file() and target.stat().st_size == size and inside.endswith(".pt"):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(f"{root}/{name}/{inside}", str(target))

    def push(self, name: str, folder: Path) -> None:
        """Bring a task's files there; a checkpoint goes up before an older one is deleted."""
        fs, root = self._place
        there = self._listing(name)
        here = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
        for inside, path in here.items():
            if inside.endswith(".pt") and there.get(inside) == path.stat().st_size:
                continue  # written once, under a name that says its step
            self._make_folder(f"{root}/{name}/{inside}".rpartition("/")[0])
            fs.put_file(str(path), f"{root}/{name}/{inside}")
        for inside in there.keys() - here.keys():
            fs.rm_file(f"{root}/{name}/{inside}")

    def push_file(self, path: Path, name: str) -> None:
        """Bring one file of the batch's own there.

        Raises:
            UserError: the place cannot be reached, or refuses.
        """
        fs, root = self._place
        with self._refusing():
            fs.put_file(str(path), f"{root}/{name}")

    def pull_file(self, name: str, path: Path) -> bool:
        """Bring one file of the batch's own here; False: there is none.

        Raises:
            UserError: the place cannot be reached, or refuses.
        """
        fs, root = self._place
        with self._refusing():
            fs.invalidate_cache()
            if not fs.exists(f"{root}/{name}"):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(f"{root}/{name}", str(path))
        return True

    def names(self) -> set[str]:
        """Of the tasks of which there is something.

        Raises:
            UserError: the place cannot be reached, or refuses.
        """
        fs, root = self._place
        with self._refusing():
            fs.invalidate_cache()
            try:
                found = fs.ls(root, detail=False)
            except FileNotFoundError:
                return set()
        return {str(path).rstrip("/").rpartition("/")[2] for path in found}

    def forget(self, folder: Path) -> None:
        """Delete a task's folder here: everything in it is there."""
        shutil.rmtree(folder, ignore_errors=True)

    def _make_folder(self, path: str) -> None:
        """Object stores have no folders, and asking S3's for one may make a bucket."""
        fs, _ = self._place
        if "file" in fs.protocol or "local" in fs.protocol:
            fs.makedirs(path, exist_ok=True)

    def _listing(self, name: str) -> dict[str, int]:
        """Sizes of a task's files, by their names in its folder."""
        fs, root = self._place
        fs.invalidate_cache()  # another machine may have written there
        try:
            found = fs.find(f"{root}/{name}", detail=True)
        except FileNotFoundError:
            return {}
        start = len(f"{root}/{name}/".lstrip("/"))
        return {path.lstrip("/")[start:]: int(about["size"]) for path, about in found.items()}


def names_in(folder: Path) -> set[str]:
    """Of the tasks of which there is something, where all machines see the folder."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != LOCK and not path.name.startswith(TEMPORARY):
            yield path
