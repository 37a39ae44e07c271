"""Floor 5: optional sinks for numbers and pictures, TensorBoard and Weights & Biases, and the pictures worth sending.

Both are imported when a config asks for them. What they get is what metrics.jsonl and previews/ hold anyway: a run
without them loses nothing.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gs_ssd.errors import UserError

Picture = UInt8[np.ndarray, "h w 3"]


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
    """Event files in the run's tensorboard/ folder; resuming drops what is logged of steps that run again."""

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
    """A run in a W&B project; its id is kept in the run's folder, so that resuming continues the same curves."""

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]) -> None:
        self.wandb = wandb = _wandb()
        kept = folder / "wandb_id.txt"
        name = kept.read_text(encoding="utf-8").strip() if kept.is_file() else None
        self.run = wandb.init(
            project=project, dir=str(folder), name=folder.name, id=name, resume="allow", config=dict(config)
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
        raise UserError("output.tensorboard needs the tensorboard package: pip install tensorboard") from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError("output.wandb needs the wandb package: pip install wandb") from error
    return wandb


def open_boards(
    folder: Path, first_step: int, config: Mapping[str, Any], *, tensorboard: bool, wandb: str | None
) -> list[Board]:
    """The boards that a config asks for; `wandb` names the project, `config` is what it shows beside the curves.

    Raises:
        UserError: a package is not installed.
    """
    boards: list[Board] = []
    if tensorboard:
        boards.append(TensorBoard(folder, first_step))
    if wandb:
        boards.append(WeightsAndBiases(folder, wandb, config))
    return boards


@dataclasses.dataclass(frozen=True)
class Glimpse:
    """What one step of distillation saw and answered, V views; everything detached.

    `rgb`, `near` and `alpha` are [V, 3|1|1, H, W] in 0..1, `wished` [V, 3, h, w] is the prior's guided x0, decoded, and
    `gradient` [V, C, h, w] what reaches the latents. The last two are mirrored where the step mirrored its views.
    """

    rgb: Float[Tensor, "v 3 height width"]
    near: Float[Tensor, "v 1 height width"]
    alpha: Float[Tensor, "v 1 height width"]
    wished: Float[Tensor, "v 3 h w"]
    gradient: Float[Tensor, "v c p q"]


@torch.no_grad()
def collage(glimpse: Glimpse, size: int = 192) -> Picture:
    """One row a view: rendering, disparity, alpha, the prior's wish, |gradient| as heat; tiles of `size` pixels."""
    heat = heat_map(glimpse.gradient.float().norm(dim=1))
    columns = (glimpse.rgb, glimpse.near, glimpse.alpha, glimpse.wished, heat)
    tiles = [_fit(picture.float().cpu(), size) for picture in columns]
    rows = torch.cat(tiles, dim=3)  # side by side
    sheet = torch.cat(list(rows), dim=1)  # views below one another
    return (sheet.permute(1, 2, 0) * 255).round().byte().numpy()


def heat_map(values: Float[Tensor, "v h w"]) -> Float[Tensor, "v 3 h w"]:
    """Black, red, yellow, white for 0 .. the greatest value of all views, so that views can be compared."""
    share = (3 * values / values.amax().clamp_min(1e-30)).nan_to_num()
    return torch.stack([share, share - 1, share - 2], dim=1).clamp(0.0, 1.0)


def _fit(picture: Float[Tensor, "v c h w"], size: int) -> Float[Tensor, "v 3 size size"]:
    """Three channels of size x size pixels; small maps keep their pixels visible."""
    picture = picture.expand(-1, 3, -1, -1).clamp(0, 1)
    if picture.shape[-1] < size:
        return F.interpolate(picture, (size, size), mode="nearest")
    return F.interpolate(picture, (size, size), mode="bilinear", antialias=True)
