"""Optional destinations of numbers and pictures: TensorBoard and Weights & Biases.

Both are imported when a config asks for them. What they get is what metrics.jsonl and previews/
hold anyway: a run without them loses nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gs_ssd.errors import UserError


@runtime_checkable
class Board(Protocol):
    """Takes the numbers and pictures of a step."""

    def numbers(self, values: Mapping[str, int | float], step: int) -> None:
        """Points of curves."""
        ...

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """An 8-bit RGB picture."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


class TensorBoard:
    """Event files in the run's tensorboard/ folder; resuming drops what is logged of steps that run
    again."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.writer = _summary_writer()(str(folder / "tensorboard"), purge_step=first_step or None)

    def numbers(self, values: Mapping[str, int | float], step: int) -> None:
        """Points of curves."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """An 8-bit RGB picture."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is pending."""
        self.writer.close()


class WeightsAndBiases:
    """A run in a W&B project; its id is kept in the run's folder, so that resuming continues the
    same curves."""

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]) -> None:
        self.wandb = wandb = _wandb()
        kept = folder / "wandb_id.txt"
        name = kept.read_text(encoding="utf-8").strip() if kept.is_file() else None
        self.run = wandb.init(
            project=project,
            dir=str(folder),
            name=folder.name,
            id=name,
            resume="allow",
            config=dict(config),
        )
        kept.write_text(self.run.id, encoding="utf-8")

    def numbers(self, values: Mapping[str, int | float], step: int) -> None:
        """Points of curves."""
        self.run.log(dict(values), step=step)

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """An 8-bit RGB picture."""
        self.run.log({name: self.wandb.Image(picture)}, step=step)

    def close(self) -> None:
        """Write what is pending."""
        self.run.finish()


def check(*, tensorboard: bool, wandb: str | None) -> None:
    """Whether `open_boards` will find what it needs, before a run begins.

    Raises:
        UserError: a package is not installed.
    """
    if tensorboard:
        _summary_writer()
    if wandb:
        _wandb()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "output.tensorboard needs the tensorboard package: pip install tensorboard"
        ) from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError("output.wandb needs the wandb package: pip install wandb") from error
    return wandb


def open_boards(
    folder: Path,
    first_step: int,
    config: Mapping[str, Any],
    *,
    tensorboard: bool,
    wandb: str | None,
) -> list[Board]:
    """The boards that a config asks for; `wandb` names the project, `config` is what it shows
    beside the curves.

    Raises:
        UserError: a package is not installed.
    """
    boards: list[Board] = []
    if tensorboard:
        boards.append(TensorBoard(folder, first_step))
    if wandb:
        boards.append(WeightsAndBiases(folder, wandb, config))
    return boards
