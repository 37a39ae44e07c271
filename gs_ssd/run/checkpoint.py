"""Everything a run needs to go on, in one file that is written whole or not at all.

Random numbers are not stored: every step draws from a generator made of (seed, step).
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.scene.gaussians import PARAMETERS, Gaussians

VERSION = 1
NAME = re.compile(r"step_(\d+)\.pt")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """State after `step` completed steps. `adam` maps a raw tensor's name to Adam's own entries for it."""

    step: int
    config: dict[str, Any]
    parameters: dict[str, Tensor]
    adam: dict[str, dict[str, Tensor]]
    statistics: dict[str, Tensor]
    extra: dict[str, Any]
    """State of components that keep some (an estimator that learns, counters)."""


def capture(
    step: int,
    config: dict[str, Any],
    gaussians: Gaussians,
    optimizer: torch.optim.Adam,
    statistics: dict[str, Tensor],
    extra: dict[str, Any],
) -> Checkpoint:
    """A checkpoint of the live state; tensors are shared, not copied."""
    parameters = gaussians.parameters()
    adam = {name: optimizer.state[tensor] for name, tensor in parameters.items() if tensor in optimizer.state}
    return Checkpoint(
        step, config, {name: tensor.detach() for name, tensor in parameters.items()}, adam, statistics, extra
    )


def restore_optimizer(checkpoint: Checkpoint, gaussians: Gaussians, optimizer: torch.optim.Adam) -> None:
    """Give the optimizer of `gaussians` the moments of the checkpoint."""
    for name, tensor in gaussians.parameters().items():
        if name in checkpoint.adam:
            # Adam keeps its step counter on the host unless it is fused; moments go where the tensor is.
            optimizer.state[tensor] = {
                key: value.clone() if key == "step" else value.to(tensor.device, copy=True)
                for key, value in checkpoint.adam[name].items()
            }


def save(checkpoint: Checkpoint, folder: Path, *, keep: int) -> Path:
    """Write `folder/step_XXXXXX.pt` atomically, then drop all but the newest `keep`."""
    path = folder / f"step_{checkpoint.step:06d}.pt"
    with atomic_path(path) as temporary:
        try:
            torch.save({"version": VERSION, **dataclasses.asdict(checkpoint)}, temporary)
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
    fields = {field.name for field in dataclasses.fields(Checkpoint)}
    if not isinstance(content, dict) or content.get("version") != VERSION or not fields <= set(content):
        found = content.get("version") if isinstance(content, dict) else None
        raise UserError(f"{path} is a checkpoint of version {found}; this program reads version {VERSION}")
    if set(content["parameters"]) != set(PARAMETERS):
        raise UserError(f"{path} lacks raw tensors of the splat; delete it, and --resume takes the one before")
    return Checkpoint(**{name: content[name] for name in fields})


def latest(folder: Path) -> Path:
    """The newest checkpoint of a run's `checkpoints` folder."""
    found = listing(folder)
    if not found:
        raise UserError(
            f"nothing to resume: {folder} holds no checkpoint; start without --resume (with --overwrite, if a run was "
            "killed before its first)"
        )
    return found[-1]
