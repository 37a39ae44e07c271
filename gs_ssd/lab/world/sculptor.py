"""A small vocabulary for building an object out of solid parts.

A kind (see `kinds.py`) is a function that tells a `Sculptor` which parts to place; the sculptor
turns each part into an affine frame that maps a unit solid to the world. World: right-handed, z up;
the object's face looks to +y, and +x is the object's own right-hand side.
"""

import contextlib
import dataclasses
import math
import random
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gs_ssd.lab.world.colors import Rgb

Form = Literal["ellipsoid", "box", "gable", "sail", "pyramid", "frustum", "torus"]
Number = int | float
Point = tuple[Number, Number, Number]
Matrix = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Part:
    """One solid: `frame` maps the unit solid to the world (its columns are the axes), then `center`
    is added."""

    form: Form
    frame: Matrix  # [3, 3]
    center: Matrix  # [3]
    color: Rgb
    params: Point = (0.0, 0.0, 0.0)
    name: str = ""  # of small and thin parts that an asset must not lose

    def half_extent(self) -> Matrix:
        """Half sizes of the axis-aligned box around the part, `[3]`."""
        across = np.hypot(self.frame[:, 0], self.frame[:, 1])
        if self.form == "ellipsoid":
            return np.linalg.norm(self.frame, axis=1)
        if self.form == "frustum":
            return max(self.params[:2]) * across + np.abs(self.frame[:, 2])
        if self.form == "torus":
            return across + self.params[0] * np.linalg.norm(self.frame, axis=1)
        return np.abs(self.frame).sum(axis=1)


def rotation(turn: Point) -> Matrix:
    """Rotation by degrees about x, then y, then z."""
    (cx, sx), (cy, sy), (cz, sz) = (
        (math.cos(math.radians(a)), math.sin(math.radians(a))) for a in turn
    )
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


class Sculptor:
    """Collects parts.

    With `seed=None` every `vary` returns its mean: the canonical shape of a kind."""

    def __init__(self, seed: int | None = None) -> None:
        self.parts: list[Part] = []
        self._name = ""
        self._random = None if seed is None else random.Random(seed)

    def vary(self, mean: Number, spread: float = 0.1) -> Number:
        """A length within `mean * (1 +- spread)`."""
        return mean if self._random is None else mean * (1 + self._random.uniform(-spread, spread))

    @contextlib.contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Parts placed within bear this name."""
        self._name = name
        try:
            yield
        finally:
            self._name = ""

    def ellipsoid(
        self, center: Point, radii: Point | Number, color: Rgb, turn: Point = (0, 0, 0)
    ) -> None:
        self._solid("ellipsoid", center, radii, color, turn)

    def box(self, center: Point, half: Point, color: Rgb, turn: Point = (0, 0, 0)) -> None:
        self._solid("box", center, half, color, turn)

    def gable(self, center: Point, half: Point, color: Rgb, turn: Point = (0, 0, 0)) -> None:
        """A roof: triangular prism whose ridge runs along y, at the top."""
        self._solid("gable", center, half, color, turn)

    def sail(self, center: Point, half: Point, color: Rgb, turn: Point = (0, 0, 0)) -> None:
        """A right-angled triangle in the x-z plane, thick along y, its right angle at (-x, -z)."""
        self._solid("sail", center, half, color, turn)

    def pyramid(self, center: Point, half: Point, color: Rgb, turn: Point = (0, 0, 0)) -> None:
        self._solid("pyramid", center, half, color, turn)

    def frustum(
        self,
        start: Point,
        end: Point,
        radii: tuple[Number, Number],
        color: Rgb,
        *,
        hollow: bool = False,
        flat: float = 1.0,
    ) -> None:
        """A cone, cylinder or anything between, from `start` (radius `radii[0]`) to `end`.

        `hollow` leaves the end open, as a mug is; `flat` scales the cross-section along y for
        upright parts.
        """
        a, b = np.asarray(start, float), np.asarray(end, float)
        along = (b - a) / 2
        w = along / np.linalg.norm(along)
        # For an upright part (u, v) = (x, y): `flat` then means what it says.
        helper = np.array([0.0, 1.0, 0.0]) if abs(w[1]) < 0.9 else np.array([0.0, 0.0, 1.0])
        u = np.cross(helper, w)
        u /= np.linalg.norm(u)
        frame = np.stack([u, flat * np.cross(w, u), along], axis=1)
        self.parts.append(
            Part("frustum", frame, (a + b) / 2, color, (*radii, float(hollow)), self._name)
        )

    def torus(
        self,
        center: Point,
        major: Number | Point,
        minor: float,
        color: Rgb,
        turn: Point = (0, 0, 0),
    ) -> None:
        """A ring in the x-y plane before `turn`; `minor` is relative to `major` (a scale per axis
        when a triple)."""
        scale = (major, major, major) if isinstance(major, (int, float)) else major
        frame = rotation(turn) * np.asarray(scale, float)
        self.parts.append(
            Part("torus", frame, np.asarray(center, float), color, (minor, 0.0, 0.0), self._name)
        )

    def _solid(
        self, form: Form, center: Point, half: Point | Number, color: Rgb, turn: Point
    ) -> None:
        size = (half, half, half) if isinstance(half, (int, float)) else half
        frame = rotation(turn) * np.asarray(size, float)
        self.parts.append(Part(form, frame, np.asarray(center, float), color, name=self._name))

    def finished(self, half_extent: float = 0.8, radius: float = 1.0) -> list[Part]:
        """The parts, centred and scaled to a box of `half_extent` within a ball of `radius`."""
        low = np.min([part.center - part.half_extent() for part in self.parts], axis=0)
        high = np.max([part.center + part.half_extent() for part in self.parts], axis=0)
        center, half = (low + high) / 2, (high - low) / 2
        scale = min(half_extent / half.max(), radius / float(np.linalg.norm(half)))
        return [
            dataclasses.replace(
                part, frame=part.frame * scale, center=(part.center - center) * scale
            )
            for part in self.parts
        ]
