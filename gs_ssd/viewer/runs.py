"""Finding one's way in a run's folder: the splat, the prompt, the settings, the last numbers."""

import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gs_ssd.errors import UserError
from gs_ssd.files import as_text
from gs_ssd.json_lines import last_record
from gs_ssd.yaml_files import MAX_BYTES, MAX_DEPTH

log = logging.getLogger(__name__)

PLY = "point_cloud.ply"
MOST_FOLDERS = 50_000
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where there is C
PATIENCE_S = 3.0
"""Of looking for runs, before it is said that this is a long way."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run; `settings` is its config.yaml, `metrics` the last line of metrics.jsonl (both
    may be empty)."""

    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def ply(self) -> Path:
        return self.folder / PLY

    @property
    def title(self) -> str:
        """The prompt, or the folder's name."""
        prompt = self.settings.get("prompt")
        named = isinstance(prompt, str) and prompt.strip()
        return as_text(prompt if named else self.folder.resolve().name)

    def setting(self, dotted: str) -> Any:
        """A setting by dotted name, or None."""
        return setting_of(self.settings, dotted)


def setting_of(settings: dict[str, Any], dotted: str) -> Any:
    """What is nested below a dotted name, or None."""
    value: Any = settings
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def open_run(folder: Path) -> Run:
    """Read what is in the folder.

    Raises:
        UserError: it is no folder, or holds no splat (yet).
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run or file")
    if not (folder / PLY).is_file():
        begun = (
            "; the run is not finished: gs-ssd train --resume --out it"
            if (folder / "config.yaml").exists()
            else ""
        )
        if earlier := sorted(
            folder.glob(f"earlier/*/{PLY}"), key=lambda path: path.stat().st_mtime
        ):
            begun += f"; what it was before is in {earlier[-1].parent}"
        raise UserError(f"{folder} holds no {PLY}{begun}")
    return Run(folder, read_settings(folder), read_last_metrics(folder))


def find_runs(paths: list[Path]) -> list[Run]:
    """The runs named, and those anywhere below the folders named, in order and each once.

    Raises:
        UserError: a path that is no folder, or nothing found at all.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        for folder in sorted(_holding_splats(path)):
            try:
                found.setdefault(folder.resolve(), open_run(folder))
            except UserError as error:  # it takes more steps, or was deleted, since it was found
                log.warning("%s; it is left out", error)
    if not found:
        raise UserError(f"no finished run in {', '.join(map(str, paths))}")
    return list(found.values())


def _holding_splats(path: Path) -> Iterator[Path]:
    """Folders at and below `path` that hold a splat, none of them hidden; says so where it is a
    long way.

    Raises:
        UserError: there are too many to look through.
    """
    began, told = time.monotonic(), False
    for looked, (name, folders, files) in enumerate(os.walk(path, onerror=_say_what_is_closed), 1):
        if looked > MOST_FOLDERS:
            raise UserError(
                f"{path} holds more than {MOST_FOLDERS} folders; name the runs' own folder"
            )
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        if PLY in files:
            yield Path(name)
        if not told and time.monotonic() - began > PATIENCE_S:
            told = True
            log.warning(
                "%s holds many folders (%d looked through so far); name the runs' own folder to "
                "be done sooner, or press Ctrl-C",
                path,
                looked,
            )


def _say_what_is_closed(error: OSError) -> None:
    log.warning("cannot look into %s: %s; its runs are left out", error.filename, error.strerror)


def source_of(path: Path) -> tuple[Path, str]:
    """The splat file and a title, for a run's folder or a file."""
    if path.is_dir() or not path.exists():
        run = open_run(path)
        return run.ply, run.title
    if path.name == PLY and (path.parent / "config.yaml").is_file():
        return path, Run(path.parent, read_settings(path.parent), {}).title
    return path, as_text(path.name.split(".")[0] or path.name)


def read_settings(folder: Path) -> dict[str, Any]:
    """A run's config.yaml; empty where there is none, or none that can be read, which is logged."""
    path = folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        _require_plain(text)
        value = yaml.load(text, Loader=_Loader)
        _require_finite(value)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        log.warning("%s: not readable (%s)", path, type(error).__name__)
        value = {}
    return value if isinstance(value, dict) else {}


def _require_plain(text: str) -> None:
    """Refuse what no run writes and a reader may work on for minutes: a long text, deep nesting,
    aliases.

    Raises:
        ValueError: it is such a text.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > MAX_BYTES:
        raise ValueError("too long")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ValueError("nested too deep, or with aliases")


def _require_finite(value: Any) -> None:
    """Refuse NaN and infinity, which no run writes and a page cannot be told in JSON.

    Raises:
        ValueError: there is one.
    """
    json.dumps(value, allow_nan=False, default=str)


def read_last_metrics(folder: Path) -> dict[str, Any]:
    """The last line of a run's metrics.jsonl; empty where there is none, or none that can be read,
    which is logged."""
    path = folder / "metrics.jsonl"
    try:
        value = last_record(path) if path.is_file() else {}
        _require_finite(value)
    except (OSError, UserError, ValueError, RecursionError):
        value = None
    if value is None:
        log.warning("%s: not readable", path)
    return value or {}
