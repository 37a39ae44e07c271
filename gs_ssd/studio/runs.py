"""The runs in a folder, as the disk shows them: each direct subfolder that a run has left."""

import dataclasses
import logging
import shutil
import stat
import time
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.viewer.runs import PLY, read_last_metrics, read_settings, setting_of

log = logging.getLogger(__name__)

OWN = ".gs-ssd-studio"
"""The studio's own folder, inside the runs' folder."""
MOVED = "start the server again where the folder is now"
"""What to do where that was lost."""
TRASH, UPLOADS, JOURNAL = f"{OWN}/trash", f"{OWN}/uploads", f"{OWN}/journal.jsonl"
SNAPSHOT = "live.ply"  #: a run's splat as it was when somebody asked for it in the middle
FILES = {
    "index.html": "text/html",
    "turntable.mp4": "video/mp4",
    "turntable.webp": "image/webp",
    "process.mp4": "video/mp4",
    "views.png": "image/png",
    PLY: "application/octet-stream",
    "config.yaml": "text/plain",
    "metrics.jsonl": "text/plain",
    "environment.json": "application/json",
}
"""What may be read of a run by its name, and its media type."""
GROWING = ("metrics.jsonl",)
"""Of them what gets longer while it is read; the others are replaced as a whole."""
SUBFOLDERS = {"previews": ".png", "exports": ""}
"""What may be read of a run's subfolders: files with this ending."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a run's folder says.

    `completed`: steps in the newest checkpoint; `done`: all steps are taken, the result is there.
    """

    settings: dict[str, Any]
    metrics: dict[str, Any]
    completed: int
    checkpoints: tuple[int, ...]
    done: bool
    has: tuple[str, ...]
    previews: tuple[str, ...]
    changed: float

    def setting(self, dotted: str) -> Any:
        """A setting by its dotted name, or None."""
        return setting_of(self.settings, dotted)


class RunsFolder:
    """All runs below `root`.

    Raises:
        UserError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if root.is_file():
            raise UserError(f"{root} is a file; name a folder of runs")
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {root}: {error.strerror}") from error
        self._seen: dict[str, tuple[tuple[Any, ...], Facts]] = {}

    def names(self) -> list[str]:
        """The runs' names, in the alphabet's order."""
        found = [path.name for path in self.root.iterdir() if self._is_run(path)]
        return sorted(found)

    def folder(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            UserError: no such run; also for names that are no plain folder inside the root.
        """
        path = self.place(name)
        if not self._is_run(path):
            raise UserError(f"there is no run {name!r}")
        return path

    def place(self, name: str) -> Path:
        """Where a run of this name lies or would lie.

        Raises:
            UserError: a name that leads elsewhere.
        """
        if not name or name.startswith(".") or any(c in name for c in "/\\\0") or len(name) > 200:
            raise UserError(f"there is no run {name!r}")
        return self.root / name

    def file(self, name: str, inside: str) -> tuple[Path, str]:
        """One of a run's files that may be read, and its media type.

        Raises:
            UserError: no such file, or one that is not for reading.
        """
        folder = self.folder(name)
        parent, _, last = inside.rpartition("/")
        kind = FILES.get(inside)
        if kind is None and parent in SUBFOLDERS and last.endswith(SUBFOLDERS[parent]):
            kind = "image/png" if parent == "previews" else "application/octet-stream"
        path = folder / inside
        hidden = last.startswith(".") or "\0" in inside or "\\" in inside
        real = None if kind is None or hidden else path.resolve()
        if real is None or kind is None or not real.is_file():
            raise UserError(f"{name} has no file {inside!r}")
        if not real.is_relative_to(self.root.resolve()):  # a link that leads out
            raise UserError(f"{name} has no file {inside!r}")
        return real, kind

    def facts(self, name: str) -> Facts:
        """What is in the run's folder now; read again only where it has changed."""
        folder = self.folder(name)
        stamp = (
            *(_stamp(folder / file) for file in FILES),
            *(_stamp(folder / part) for part in ("checkpoints", "previews")),
        )
        if name in self._seen and self._seen[name][0] == stamp:
            return self._seen[name][1]
        facts = _read(folder)
        self._seen[name] = stamp, facts
        return facts

    def free_name(self, wanted: str) -> str:
        """`wanted`, or the first of `wanted`-2, -3, ... that no folder bears."""
        return _free_name(self.root, wanted)

    def discard(self, name: str) -> str:
        """Move a run to the trash; returns its name there."""
        folder, trash = self.folder(name), self.root / TRASH
        first = f"{name}~{time.strftime('%Y%m%d-%H%M%S')}"
        trash.mkdir(parents=True, exist_ok=True)
        trashed = _free_name(trash, first)  # moved onto a folder, it would disappear in that one
        shutil.move(folder, trash / trashed)
        return trashed

    def trash(self) -> list[str]:
        """What lies in the trash, newest first."""
        folder = self.root / TRASH
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(names, key=lambda name: name.rpartition("~")[2], reverse=True)

    def restore(self, trashed: str) -> str:
        """Take a run out of the trash; returns its name, another one where it is taken.

        Raises:
            UserError: it is not there.
        """
        if trashed not in self.trash():
            raise UserError(f"{trashed!r} is not in the trash")
        name = self.free_name(trashed.rpartition("~")[0])
        shutil.move(self.root / TRASH / trashed, self.root / name)
        return name

    def _is_run(self, path: Path) -> bool:
        """A real folder, not a link: paths never leave the root. One that may not be looked into
        is somebody else's."""
        if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            return False
        try:
            return any((path / mark).exists() for mark in ("config.yaml", "checkpoints", PLY))
        except PermissionError:
            return False


def _free_name(parent: Path, wanted: str) -> str:
    number = 1
    while (parent / (name := wanted if number == 1 else f"{wanted}-{number}")).exists():
        number += 1
    return name


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _changed(file: Path) -> float | None:
    """When it was written last, in seconds; None: there is no such file (any more)."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime if stat.S_ISREG(status.st_mode) else None


def _read(folder: Path) -> Facts:
    settings = read_settings(folder)
    try:
        found = checkpoints.listing(folder / "checkpoints")
    except UserError as error:  # the page shows what else there is
        log.warning("%s", error)
        found = []
    steps = tuple(int(path.stem.removeprefix("step_")) for path in found)
    # In one look: a run that takes more steps moves its old results away meanwhile.
    times = {file: time for file in FILES if (time := _changed(folder / file)) is not None}
    has = tuple(times)
    wanted = settings.get("num_steps")
    finished = PLY in has and (not steps or not isinstance(wanted, int) or steps[-1] >= wanted)
    previews = sorted(path.name for path in (folder / "previews").glob("*.png"))
    return Facts(
        settings=settings,
        metrics=read_last_metrics(folder),
        completed=steps[-1] if steps else 0,
        checkpoints=steps,
        done=finished,
        has=has,
        previews=tuple(previews),
        changed=max(times.values(), default=folder.stat().st_mtime),
    )
