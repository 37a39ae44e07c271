"""Everything a run needs to go on, in one file that is written whole or not at all.

Random numbers are not stored: every step draws from a generator made of (seed, step).
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path

VERSION = 2
NAME = re.compile(r"step_(\d+)\.pt")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The settings of a run as nested plain values, and what `Job.state_dict` gave."""

    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Completed steps."""
        return self.state["step"]


def save(checkpoint: Checkpoint, folder: Path, *, keep: int) -> Path:
    """Write `folder/step_XXXXXX.pt` atomically, then drop all but the newest `keep`."""
    path = folder / f"step_{checkpoint.step:06d}.pt"
    with atomic_path(path) as temporary:
        try:
            torch.save({"version": VERSION, "config": checkpoint.config, "state": checkpoint.state}, temporary)
        except RuntimeError as error:  # torch's zip writer reports a full disk this way
            raise UserError(f"cannot write {path}: {str(error).splitlines()[0]}; is the disk full?") from error
    for old in listing(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def listing(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest first."""
    named = {path: match for path in folder.glob("step_*.pt") if (match := NAME.fullmatch(path.name))}
    return sorted(named, key=lambda path: int(named[path][1]))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; no code is run from it.

    Raises:
        UserError: missing, truncated, not a checkpoint, or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise UserError(f"{path} is damaged or no checkpoint; delete it, and --resume takes the one before") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version == 1:
        return _from_version_1(content)
    if version != VERSION or not {"config", "state"} <= set(content):
        raise UserError(f"{path} is a checkpoint of version {version}; this program reads versions 1 to {VERSION}")
    return Checkpoint(content["config"], content["state"])


def _from_version_1(content: dict[str, Any]) -> Checkpoint:
    """The first layout knew splats alone."""
    extra = content["extra"]
    state = {
        "step": content["step"],
        "kind": "splat",
        "asset": {name: content[name] for name in ("parameters", "adam", "statistics")},
        "guidance": extra["guidance"],
        "bad_steps": extra["bad_steps"],
    }
    return Checkpoint(content["config"], state)


def latest(folder: Path) -> Path:
    """The newest checkpoint of a run's `checkpoints` folder."""
    found = listing(folder)
    if not found:
        raise UserError(
            f"nothing to resume: {folder} holds no checkpoint; start without --resume (with --overwrite, if a run was "
            "killed before its first)"
        )
    return found[-1]
