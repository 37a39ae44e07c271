"""What happens in a run, as values: a job yields its steps, a trainer all of them, and whoever
likes listens."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gs_ssd.render.step_pictures import StepPictures


@dataclasses.dataclass(frozen=True)
class Stepped:
    """One step was taken."""

    completed: int
    """Steps so far, this one included."""
    metrics: Mapping[str, Any]
    """What is worth logging. Tensors stay on the device: reading one makes the host wait for a
    GPU."""
    seconds: float
    """Of wall time; on a GPU until the work was queued."""
    pictures: StepPictures | None = None
    """What guidance saw, in steps after which a preview is due."""


@dataclasses.dataclass(frozen=True)
class Previewed:
    """Contact sheets were written: of the asset, and of what guidance saw."""

    completed: int
    paths: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint was written."""

    completed: int
    path: Path


@dataclasses.dataclass(frozen=True)
class Trained:
    """The steps asked for are taken and saved; what follows (finish, results) can be repeated from
    the checkpoint."""

    completed: int


@dataclasses.dataclass(frozen=True)
class Stopped:
    """The run was asked to stop and has saved itself; no event follows."""

    completed: int


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run is over; no event follows.

    `paths` are its results, empty where steps are left to do."""

    completed: int
    paths: tuple[Path, ...]


Event = Stepped | Previewed | Saved | Trained | Stopped | Finished
