"""The fixed lists that the benchmark measures on: prompts, seeds and cameras, committed before any
measurement.

A suite is a JSON file: ours lie beside this module (`suites/*.json`), anybody's own is named by its
path. The `development` suite is the only one that may be looked at while tuning; `quick` and `full`
are held out.
"""

import dataclasses
import math
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from gs_ssd import json_text
from gs_ssd.bounds import one_line
from gs_ssd.errors import UserError
from gs_ssd.files import slug
from gs_ssd.lab import world
from gs_ssd.scene.camera import Cameras, at_angles

ALIASES: Final[dict[str, str]] = {"dev": "development"}
MOST_VIEWS: Final = 720
LARGEST_SEED: Final = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """One prompt, and what the judge should see in it (`None` where no judge knows: Stable
    Diffusion's prompts)."""

    prompt: str
    kind: str | None = None
    color: str | None = None

    @property
    def slug(self) -> str:
        """The prompt as a folder's name: "a red car" is "a-red-car"; a long one is cut and ends
        with a hash."""
        return slug(self.prompt, otherwise="")


@dataclasses.dataclass(frozen=True)
class Turntable:
    """The cameras of the check: `views` evenly spaced azimuths from the front on, elevations taken
    in turn."""

    views: int = 16
    elevations_deg: tuple[float, ...] = (0.0, 15.0, 30.0)
    radius: float = 3.35
    fov_y_deg: float = 40.0

    def azimuths_rad(self) -> list[float]:
        """Azimuths [views] in [0, 2 pi); view i looks from i * 360 / views degrees."""
        return [2 * math.pi * i / self.views for i in range(self.views)]

    def polars_rad(self) -> list[float]:
        """Polar angles [views] from +z; view i has elevation `elevations_deg[i % len]`."""
        return [
            math.radians(90 - self.elevations_deg[i % len(self.elevations_deg)])
            for i in range(self.views)
        ]

    def cameras(self, size: int) -> Cameras:
        """All of its cameras, at `size` pixels a side."""
        return at_angles(
            self.azimuths_rad(),
            self.polars_rad(),
            radius=self.radius,
            fov_y_rad=math.radians(self.fov_y_deg),
            size=size,
        )


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
    return sorted(
        p.name.removesuffix(".json") for p in _folder().iterdir() if p.name.endswith(".json")
    )


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
        raise UserError(
            f"unknown suite {name!r}; there are {', '.join(suite_names())}, or the path of a .json"
            " file"
        )
    try:
        if path.exists() and not path.is_file():
            raise UserError(
                f"cannot read the suite {path}: it is a folder, a pipe or a device; name a file"
            )
        return parse_suite(path.stem, path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"the suite {path} is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read the suite {path}: {error.strerror or error}") from error


def parse_suite(name: str, text: str) -> Suite:
    """A suite from its JSON text.

    Raises:
        UserError: not JSON, an unknown key, or a value that no benchmark could be run with; names
            the key.
    """
    try:
        raw = json_text.parse(text)
    except ValueError as error:
        raise UserError(
            f"the suite {name!r} is not readable: {error}; compare it with suites/quick.json"
        ) from error
    reader = _Reader(name)
    keys = reader.table(
        raw, "it", ("about", "seeds", "views", "elevations_deg", "estimators", "prompts")
    )
    if missing := [key for key in ("seeds", "prompts") if key not in keys]:
        reader.refuse(missing[0], "missing", "a list")
    return Suite(
        name=name,
        about=reader.text(keys.get("about", ""), "about", empty=True),
        entries=reader.entries(keys["prompts"]),
        seeds=reader.seeds(keys["seeds"]),
        estimators=tuple(
            reader.text(e, "estimators")
            for e in reader.several(keys.get("estimators", ["ssd"]), "estimators")
        ),
        turntable=Turntable(
            reader.whole(keys.get("views", Turntable.views), "views", 1, MOST_VIEWS),
            reader.elevations(keys.get("elevations_deg", list(Turntable.elevations_deg))),
        ),
    )


class _Reader(NamedTuple):
    """Values of a suite's keys, or one sentence that names the key."""

    suite: str

    def refuse(self, key: str, value: Any, wanted: str) -> NoReturn:
        shown = value if value == "missing" else f"{value!r:.60}"
        raise UserError(f"the suite {self.suite!r}: {key} is {shown}; it must be {wanted}")

    def table(self, value: Any, key: str, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.refuse(key, value, "a JSON object {...}")
        for name in value:
            if name not in known:
                raise UserError(
                    f"the suite {self.suite!r} has an unknown key {name!r}; there are"
                    f" {', '.join(known)}"
                )
        return value

    def several(self, value: Any, key: str) -> list[Any]:
        """A list of different things, at least one."""
        if (
            not isinstance(value, list)
            or not value
            or any(x in value[:i] for i, x in enumerate(value))
        ):
            self.refuse(key, value, "a list that is not empty and has each value once")
        return value

    def text(self, value: Any, key: str, *, empty: bool = False) -> str:
        if not isinstance(value, str) or not (value.strip() or empty) or not _is_unicode(value):
            self.refuse(key, value, "text")
        return value

    def whole(self, value: Any, key: str, low: int, high: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(key, value, f"a whole number from {low} to {high}")
        return value

    def seeds(self, value: Any) -> tuple[int, ...]:
        return tuple(
            self.whole(seed, "seeds", 0, LARGEST_SEED) for seed in self.several(value, "seeds")
        )

    def elevations(self, value: Any) -> tuple[float, ...]:
        if not isinstance(value, list) or not value:
            self.refuse("elevations_deg", value, "a list of numbers from -90 to 90")
        for angle in value:
            if (
                not isinstance(angle, int | float)
                or isinstance(angle, bool)
                or not -90 <= angle <= 90
            ):  # nor NaN
                self.refuse("elevations_deg", angle, "a number from -90 to 90")
        return tuple(float(angle) for angle in value)

    def entries(self, value: Any) -> tuple[Entry, ...]:
        if not isinstance(value, list) or not value:
            self.refuse("prompts", value, "a list of objects with a prompt each")
        entries: dict[str, Entry] = {}
        for row in value:
            entry = self.entry(row)
            if not entry.slug:
                self.refuse(
                    "prompt", entry.prompt, "text with a letter or digit, which name its folder"
                )
            if entry.slug in entries:
                self.refuse(
                    "prompt", entry.prompt, "listed once (two of the same words share a folder)"
                )
            entries[entry.slug] = entry
        return tuple(entries.values())

    def entry(self, row: Any) -> Entry:
        keys = self.table(row, "an entry of prompts", ("prompt", "kind", "color"))
        prompt = (
            self.text(keys.get("prompt", "missing"), "prompt")
            if "prompt" in keys
            else self.refuse("the prompt of an entry", "missing", "text")
        )
        try:
            prompt = one_line(prompt)
        except ValueError:
            self.refuse("prompt", prompt, "text in one line")
        kind, color = keys.get("kind"), keys.get("color")
        if (kind is None) != (color is None):
            self.refuse(
                "color" if color is None else "kind",
                "missing",
                f"given with the other, or neither ({prompt!r})",
            )
        for key, word, known in (("kind", kind, world.kinds()), ("color", color, world.colors())):
            if word is not None and word not in known:
                self.refuse(key, word, f"one of {', '.join(known)}")
        return Entry(prompt, kind, color)


def _is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8 (JSON can name half a surrogate pair, which nothing else
    can)."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _folder() -> resources.abc.Traversable:
    return resources.files("gs_ssd.lab.evaluate") / "suites"
