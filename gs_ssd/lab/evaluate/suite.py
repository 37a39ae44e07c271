"""The fixed lists that the benchmark measures on: prompts, seeds and cameras, committed before any measurement.

A suite is a JSON file: ours lie beside this module (`suites/*.json`), anybody's own is named by its path. The
`development` suite is the only one that may be looked at while tuning; `quick` and `full` are held out.
"""

import dataclasses
import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, Final

from gs_ssd.errors import UserError

ALIASES: Final[dict[str, str]] = {"dev": "development"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One prompt, and what the judge should see in it (`None` where no judge knows: Stable Diffusion's prompts)."""

    prompt: str
    kind: str | None = None
    color: str | None = None

    @property
    def slug(self) -> str:
        """The prompt as a folder's name: "a red car" is "a-red-car"."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.prompt.lower()).split())


@dataclasses.dataclass(frozen=True)
class Turntable:
    """The cameras of the check: `views` evenly spaced azimuths from the front on, elevations taken in turn."""

    views: int = 16
    elevations_deg: tuple[float, ...] = (0.0, 15.0, 30.0)
    radius: float = 3.35
    fov_y_deg: float = 40.0

    def azimuths_rad(self) -> list[float]:
        """Azimuths [views] in [0, 2 pi); view i looks from i * 360 / views degrees."""
        return [2 * math.pi * i / self.views for i in range(self.views)]

    def polars_rad(self) -> list[float]:
        """Polar angles [views] from +z; view i has elevation `elevations_deg[i % len]`."""
        return [math.radians(90 - self.elevations_deg[i % len(self.elevations_deg)]) for i in range(self.views)]


@dataclasses.dataclass(frozen=True)
class Suite:
    """Prompts x seeds x estimators, seen by one turntable."""

    name: str
    about: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    estimators: tuple[str, ...] = ("ssd",)
    turntable: Turntable = Turntable()


def suite_names() -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(p.name.removesuffix(".json") for p in _folder().iterdir() if p.name.endswith(".json"))


def load_suite(name: str) -> Suite:
    """The suite of that name, or the one in that JSON file.

    Raises:
        UserError: no such suite or file, or the file does not hold a suite.
    """
    name = ALIASES.get(name, name)
    if name in suite_names():
        return parse_suite(name, (_folder() / f"{name}.json").read_text(encoding="utf-8"))
    path = Path(name)
    if path.suffix != ".json":
        raise UserError(f"unknown suite {name!r}; there are {', '.join(suite_names())}, or the path of a .json file")
    try:
        return parse_suite(path.stem, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the suite {path}: {error.strerror or error}") from error


def parse_suite(name: str, text: str) -> Suite:
    """A suite from its JSON text.

    Raises:
        UserError: not JSON, an unknown key, no prompts, or a prompt that is listed twice.
    """
    try:
        raw: dict[str, Any] = json.loads(text)
        entries = tuple(Entry(**entry) for entry in raw.pop("prompts"))
        elevations = tuple(float(e) for e in raw.pop("elevations_deg", Turntable.elevations_deg))
        turntable = Turntable(raw.pop("views", Turntable.views), elevations)
        suite = Suite(
            name=name,
            about=raw.pop("about", ""),
            entries=entries,
            seeds=tuple(raw.pop("seeds")),
            estimators=tuple(raw.pop("estimators", ("ssd",))),
            turntable=turntable,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"the suite {name!r} is not readable: {error!r}; compare it with suites/quick.json") from error
    if raw:
        raise UserError(f"the suite {name!r} has an unknown key {next(iter(raw))!r}")
    slugs = [entry.slug for entry in entries]
    if not slugs or len(set(slugs)) < len(slugs):
        raise UserError(f"the suite {name!r} needs prompts, each of them once")
    return suite


def _folder() -> resources.abc.Traversable:
    return resources.files("gs_ssd.lab.evaluate") / "suites"
