"""The numbers of a run: metrics.jsonl, a line per logged step, and the progress bar."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from gs_ssd.json_lines import Appender, read_records, write_records
from gs_ssd.run.boards import Board


class Recorder:
    """Appends one JSON object a line to `metrics.jsonl` and keeps a progress bar; a context
    manager.

    Resuming drops the lines of steps that will be run again, so that each step stands there once.
    """

    def __init__(
        self, folder: Path, first_step: int, num_steps: int, boards: Sequence[Board] = ()
    ) -> None:
        self.path = folder / "metrics.jsonl"
        self._keep_until(first_step)
        self.file = Appender(self.path, fix="free some room, then --resume")
        quiet = not sys.stderr.isatty()
        self.bar = tqdm(
            total=num_steps,
            initial=first_step,
            unit="step",
            mininterval=30.0 if quiet else 0.1,
            ncols=110 if quiet else None,
            bar_format=(
                "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            ),
        )
        self.boards = boards
        self.grad_norm: float | None = None

    def _keep_until(self, first_step: int) -> None:
        if self.path.exists():
            rows = read_records(self.path, {"step": int})
            write_records(self.path, (row for row in rows if row["step"] < first_step))

    def log(self, metrics: dict[str, Any]) -> None:
        """Write one step's numbers; what is not finite is written as null, which JSON can say."""
        row = {key: _plain(value) for key, value in metrics.items()}
        self.grad_norm = row.get("grad_norm")
        self.file.append(row, wait=False)
        if self.boards:
            numbers = {
                key: value
                for key, value in row.items()
                if isinstance(value, int | float) and key != "step"
            }
            if isinstance(row.get("t"), list):
                numbers["t"] = sum(row["t"]) / len(row["t"])
            for board in self.boards:
                board.numbers(numbers, row["step"])

    def sync(self) -> None:
        """Wait until the lines so far are on the disk: a resumed run does not write those before
        its checkpoint."""
        self.file.sync()

    def show(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        """Send a picture to the boards."""
        for board in self.boards:
            board.picture(name, picture, step)

    def advance(self, counts: Mapping[str, int], seconds: float) -> None:
        """Move the bar by one step; it shows the norm that was last logged, as reading one makes a
        GPU wait."""
        parts = [f"{count} {name.removeprefix('num_')}" for name, count in counts.items()]
        parts += [] if self.grad_norm is None else [f"|g| {self.grad_norm:.3g}"]
        self.bar.set_postfix_str(", ".join([*parts, f"{seconds:.2f} s/step"]), refresh=False)
        self.bar.update()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        self.file.close()
        for board in self.boards:
            board.close()


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else value.tolist()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
