"""The configurations that the form offers to start from."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import gs_ssd
from gs_ssd import config as configs
from gs_ssd.errors import UserError


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration file by a name for people; `about` is one sentence."""

    name: str
    title: str
    file: str
    about: str


PRESETS = (
    Preset(
        "quick",
        "Quick",
        "quickstart.yaml",
        "A small object in half a minute, on any computer. Uses the model that comes with GS-SSD.",
    ),
    Preset(
        "object",
        "Object",
        "presets/object.yaml",
        "Anything without a face, in detail. Needs a graphics card and Stable Diffusion.",
    ),
    Preset(
        "creature",
        "Creature",
        "presets/creature.yaml",
        "Animals and faces, in detail. Needs a graphics card and Stable Diffusion.",
    ),
    Preset(
        "avatar",
        "Avatar",
        "quickstart_avatar.yaml",
        "A person who stands, walks and waves, in some minutes, on any computer.",
    ),
    Preset(
        "nerf",
        "NeRF",
        "quickstart_nerf.yaml",
        "The same as a radiance field (NeRF): smoother, one or two minutes.",
    ),
    Preset(
        "draft",
        "Draft",
        "presets/quick.yaml",
        "A first look with Stable Diffusion, in an eighth of the work.",
    ),
    Preset("tiny", "Test", "smoke.yaml", "A coloured disc in seconds: shows that all works."),
)


def folder() -> Path:
    """Where the configuration files lie: in the package, or beside it in a checkout."""
    inside = Path(gs_ssd.__file__).parent / "configs"
    return inside if inside.is_dir() else inside.parents[1] / "configs"


def path_of(name: str) -> Path:
    """The file of a preset.

    Raises:
        UserError: no preset has this name.
    """
    for preset in PRESETS:
        if preset.name == name:
            return folder() / preset.file
    raise UserError(
        f"there is no preset {name!r}; choose one of {', '.join(p.name for p in PRESETS)}"
    )


@functools.cache
def described() -> list[dict[str, Any]]:
    """All presets whose files are there, with the settings in which they differ from the
    defaults."""
    found, defaults = [], configs.ExperimentConfig()
    for preset in PRESETS:
        if not os.path.isfile(folder() / preset.file):
            continue
        config = configs.load(folder() / preset.file)
        changed = {key: new for key, (_, new) in configs.differences(defaults, config).items()}
        found.append({**dataclasses.asdict(preset), "settings": changed})
    return found
