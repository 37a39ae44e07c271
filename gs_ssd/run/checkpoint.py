"""Everything a run needs to continue, in one file that is written whole or not at all.

Random numbers are not stored: every step draws from a generator made of (seed, step).
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, entries, require_plain_file
from gs_ssd.run.intact import fault_of, is_intact

VERSION = 2
FIX = "delete it, and --resume takes the one before"
NAME = re.compile(r"step_([0-9]+)\.pt")


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
    """Write `folder/step_XXXXXX.pt` atomically, then drop all but `keep`: it, and the newest."""
    path = folder / _name_of(checkpoint.step)
    with atomic_path(path) as temporary:
        try:
            torch.save(
                {"version": VERSION, "config": checkpoint.config, "state": checkpoint.state},
                temporary,
            )
        except RuntimeError as error:  # torch's zip writer reports a full disk this way
            raise UserError(
                f"cannot write {path}: {str(error).splitlines()[0]}; is the disk full?"
            ) from error
    older = [other for other in listing(folder) if other != path]
    for old in older[: max(len(older) - keep + 1, 0)]:
        old.unlink(missing_ok=True)
    return path


def _name_of(step: int) -> str:
    return f"step_{step:06d}.pt"


def listing(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest first.

    Raises:
        UserError: it may not be looked into.
    """
    named = {path: match for path in entries(folder) if (match := NAME.fullmatch(path.name))}
    return sorted(named, key=lambda path: int(named[path][1]))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; no code is run from it.

    Raises:
        UserError: missing, damaged, not a checkpoint, of another version, or of a state that no run
            can continue from.
    """
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}")
    require_plain_file(path)
    try:
        if not is_intact(path):
            raise UserError(f"{path} is damaged or no checkpoint; {FIX}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise UserError(f"{path} is damaged or no checkpoint; {FIX}") from error
    checkpoint = _read(path, content)
    fault = fault_of(checkpoint.state, checkpoint.config.get("num_steps"))
    if fault is not None:
        raise UserError(f"{path} is no checkpoint to continue from: {fault}; {FIX}")
    named = NAME.fullmatch(path.name)
    if named and int(named[1]) != checkpoint.step:
        raise UserError(
            f"{path} holds step {checkpoint.step}, so it is not what its name says; name it "
            f"{_name_of(checkpoint.step)}, or take it out of the folder"
        )
    return checkpoint


def load_newest(folder: Path) -> Checkpoint:
    """The newest of a `checkpoints` folder, in which a run may be at work: one that made room for a
    newer one while it was read is passed over.

    Raises:
        UserError: see `load`; or there is none.
    """
    while True:
        path = latest(folder)
        try:
            return load(path)
        except UserError:
            if path in listing(folder):
                raise


def _read(path: Path, content: Any) -> Checkpoint:
    version = content.get("version") if isinstance(content, dict) else None
    if version not in (1, VERSION):
        raise UserError(
            f"{path} is a checkpoint of version {version}; this program reads versions 1 to"
            f" {VERSION}"
        )
    state = content.get("state") if version == VERSION else _state_of_version_1(content)
    if not isinstance(content.get("config"), dict) or not isinstance(state, dict):
        raise UserError(f"{path} lacks its config or its state; {FIX}")
    return Checkpoint(content["config"], state)


def _state_of_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """The first layout knew splats alone.

    What is missing from it stays missing, to be named by who asks for it."""
    extra = content.get("extra")
    state = {name: content[name] for name in ("step",) if name in content}
    state |= {
        name: extra[name]
        for name in ("guidance", "bad_steps")
        if isinstance(extra, dict) and name in extra
    }
    asset = {
        name: content[name] for name in ("parameters", "adam", "statistics") if name in content
    }
    return state | {"kind": "splat", "asset": asset}


def latest(folder: Path) -> Path:
    """The newest checkpoint of a run's `checkpoints` folder."""
    found = listing(folder)
    if not found:
        raise UserError(
            f"nothing to resume: {folder} holds no checkpoint; start without --resume (with"
            " --overwrite, if a run was killed before its first)"
        )
    return found[-1]
