"""Named views and a camera path for the page, as `gs-ssd export --views FILE` reads them.

    {"views": [{"name": "front", "azimuth_deg": 0, "elevation_deg": 10},
               {"name": "cap", "azimuth_deg": 40, "elevation_deg": 35, "distance": 0.9, "target":
               [0, 0.3, 0]}],
     "default": "cap",
     "path": {"views": ["front", "cap"], "seconds": 8, "loop": true}}

What the page's "copy view" puts on the clipboard is one such view; a file may hold just that, or a
list of them. Azimuth 0 sees the front and grows towards -x; lengths are in the file's units,
`target` in y-up axes (glTF's). Without `distance` the whole object is seen, without `target` its
middle.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

MAX_BYTES, MAX_VIEWS = 1 << 16, 64


@dataclasses.dataclass(frozen=True)
class View:
    """Where the page's camera stands.

    `distance`, `target`, `fov_y_deg`: None leaves them to the page."""

    name: str
    azimuth_deg: float = 25.0
    elevation_deg: float = 12.0
    distance: float | None = None
    target: tuple[float, float, float] | None = None
    fov_y_deg: float | None = None

    def scene(self) -> dict[str, Any]:
        """As the page's script has it."""
        fov = None if self.fov_y_deg is None else math.tan(math.radians(self.fov_y_deg) / 2)
        return {
            "name": self.name,
            "azimuth": math.radians(self.azimuth_deg),
            "polar": math.radians(90 - self.elevation_deg),
            "distance": self.distance,
            "target": self.target,
            "tanHalfY": fov,
        }


@dataclasses.dataclass(frozen=True)
class Views:
    """`first`: the view that the page opens with; `path`: views that the camera flies through; both
    by index."""

    views: tuple[View, ...] = ()
    first: int | None = None
    path: tuple[int, ...] = ()
    seconds: float = 10.0
    loop: bool = True

    def scene(self) -> dict[str, Any]:
        """As the page's script has it."""
        path = (
            {"views": self.path, "seconds": self.seconds, "loop": self.loop} if self.path else None
        )
        return {"views": [view.scene() for view in self.views], "first": self.first, "path": path}


def read_views(path: str | os.PathLike[str]) -> Views:
    """Read a file of views.

    Raises:
        UserError: unreadable, no JSON, or an entry that is missing, unknown or out of range, by its
            name.
    """
    path = Path(path)
    if (size := require_plain_file(path)) > MAX_BYTES:
        raise UserError(f"{path}: {size} bytes; views take at most {MAX_BYTES}")
    try:
        document = json_text.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if isinstance(document, list):
        document = {"views": document}
    elif isinstance(document, dict) and "views" not in document:
        document = {"views": [document]}
    if not isinstance(document, dict) or not isinstance(document["views"], list):
        raise UserError(f'{path}: wanted {{"views": [...]}}, a list of views, or one view')
    _refuse_unknown(path, "the file", document, {"views", "default", "path"})
    entries = document["views"]
    if not 1 <= len(entries) <= MAX_VIEWS:
        raise UserError(f"{path}: {len(entries)} views; 1 to {MAX_VIEWS} are shown")
    views = tuple(_view(path, number, entry) for number, entry in enumerate(entries, start=1))
    names = [view.name for view in views]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f'{path}: two views are named "{twice}"; give each a name of its own')
    first = _index(path, "default", document["default"], names) if "default" in document else None
    if first is None and len(views) == 1:
        first = 0
    stops = document.get("path", {})
    if not isinstance(stops, dict):
        raise UserError(f'{path}: path: wanted {{"views": [...], "seconds": 10, "loop": true}}')
    _refuse_unknown(path, "path", stops, {"views", "seconds", "loop"})
    through = stops.get("views", names if stops else [])
    if not isinstance(through, list) or (stops and len(through) < 2):
        raise UserError(f"{path}: path.views: wanted a list of at least two names")
    loop = stops.get("loop", True)
    if not isinstance(loop, bool):
        raise UserError(f"{path}: path.loop: wanted true or false, not {loop!r}")
    seconds = _number(path, "path.seconds", stops.get("seconds", 10.0), 0.5, 3600.0)
    return Views(
        views,
        first,
        tuple(_index(path, "path.views", name, names) for name in through),
        seconds,
        loop,
    )


def _view(path: Path, number: int, entry: Any) -> View:
    where = f"view {number}"
    if not isinstance(entry, dict):
        raise UserError(
            f"{path}: {where}: wanted an object with name, azimuth_deg, elevation_deg, ..."
        )
    _refuse_unknown(path, where, entry, {field.name for field in dataclasses.fields(View)})
    name = entry.get("name", f"View {number}")
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 60:
        raise UserError(f"{path}: {where}.name: wanted 1 to 60 letters, not {name!r}")
    ranges = {
        "azimuth_deg": (-720.0, 720.0),
        "elevation_deg": (-89.0, 89.0),
        "distance": (1e-6, 1e9),
        "fov_y_deg": (5.0, 120.0),
    }
    numbers: dict[str, Any] = {
        key: _number(path, f"{where}.{key}", entry[key], *limits)
        for key, limits in ranges.items()
        if entry.get(key) is not None
    }
    return View(name.strip(), target=_target(path, where, entry.get("target")), **numbers)


def _target(path: Path, where: str, target: Any) -> tuple[float, float, float] | None:
    if target is None:
        return None
    if not isinstance(target, list) or len(target) != 3:
        raise UserError(f"{path}: {where}.target: wanted three numbers, not {target!r}")
    x, y, z = (_number(path, f"{where}.target", value, -1e9, 1e9) for value in target)
    return x, y, z


def _number(path: Path, key: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{path}: {key}: wanted a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def _index(path: Path, key: str, name: Any, names: list[str]) -> int:
    if name not in names:
        raise UserError(f"{path}: {key}: no view is named {name!r}; there are {', '.join(names)}")
    return names.index(name)


def _refuse_unknown(path: Path, where: str, entry: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise UserError(
            f'{path}: {where}: unknown key "{unknown[0]}"; known are {", ".join(sorted(known))}'
        )
