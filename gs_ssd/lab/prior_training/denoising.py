"""What every training of a noise prediction here shares: its timesteps, its loss, its rate, and the
loop that may stop after some minutes and continue later."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gs_ssd.json_lines import append_record

SAVE_EVERY_S = 120
LOG_EVERY = 50


def timesteps(count: int, generator: torch.Generator, late_share: float, late_from: int) -> Tensor:
    """`[count]` in 0..999, a share of them from `late_from` on only, where shape is decided."""
    t = torch.randint(1000, (count,), generator=generator)
    late = torch.rand(count, generator=generator) < late_share
    return torch.where(late, late_from + t * (1000 - late_from) // 1000, t)


def losses(
    predicted: Tensor, noise: Tensor, alpha: Tensor, min_snr: float
) -> tuple[Tensor, Tensor]:
    """The mean squared error with min-SNR weights (Hang et al. 2023, arXiv 2303.09556), and the
    plain one; `alpha` is the cumulative product, one per sample."""
    error = (predicted.float() - noise).square().mean((1, 2, 3))
    snr = (alpha / (1 - alpha)).flatten()
    return (snr.clamp(max=min_snr) / snr * error).mean(), error.mean()


def learning_rate(peak: float, step: int, steps: int, warmup: int) -> float:
    """A linear rise over `warmup` steps, then half a cosine down to a hundredth."""
    fall = max(0.01, 0.5 * (1 + math.cos(math.pi * step / steps)))
    return peak * min(1.0, (step + 1) / warmup) * fall


@runtime_checkable
class Training(Protocol):
    """A run whose state is in a folder."""

    step: int
    seconds: float

    def save(self) -> None:
        """Write the state."""
        ...


def fit(
    training: Training,
    take_step: Callable[[], dict[str, float]],
    *,
    steps: int,
    minutes: float,
    log: Path,
    report: Callable[[str], None],
) -> bool:
    """Take steps for at most `minutes`; true when all are done.

    Every 50 steps a line of means goes to `log` (JSON) and to `report`; the state is saved every
    two minutes and at the end.
    """
    tally: list[dict[str, float]] = []
    start = saved = time.monotonic()
    while training.step < steps and time.monotonic() - start < minutes * 60:
        began = time.monotonic()
        tally.append(take_step())
        training.seconds += time.monotonic() - began
        if training.step % LOG_EVERY == 0:
            means = {name: sum(row[name] for row in tally) / len(tally) for name in tally[0]}
            line = {"step": training.step, "seconds": training.seconds} | means
            append_record(log, line)
            said = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
            report(f"step {training.step}/{steps}  {said}")
            tally = []
        if time.monotonic() - saved > SAVE_EVERY_S:
            training.save()
            saved = time.monotonic()
    training.save()
    return training.step >= steps
