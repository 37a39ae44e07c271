"""Where a training step's time goes, measured on a run that is there: its own config, its own last splats.

On a CPU with one thread, in seconds of processor time, so that other processes do not disturb; else wall time.
"""

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from gs_ssd import config as configs
from gs_ssd import trainer as trainers
from gs_ssd.render import regularizers


def breakdown(folder: Path, steps: int = 8) -> dict[str, float]:
    """Seconds a step by part over the last steps of the finished run in `folder`, from its newest checkpoint."""
    config = configs.load(folder / "config.yaml")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure(trainers.Trainer(config, folder, resume=True), steps)
    finally:
        torch.set_num_threads(threads)


def measure(trainer: trainers.Trainer, steps: int) -> dict[str, float]:
    """Seconds a step by part, over the run's last `steps` steps, which are trained for it."""
    config = trainer.config
    clock = time.process_time if trainer.device.type == "cpu" else _synchronized
    spent: dict[str, float] = collections.defaultdict(float)
    first = max(config.num_steps - steps - 1, 0)
    trainer.step(first)
    with _watched(trainer, spent, clock):
        started = clock()
        for step in range(first + 1, first + 1 + steps):
            trainer.step(step)
        whole = clock() - started
    parts = {name: seconds / steps for name, seconds in spent.items()}
    return parts | {"other": whole / steps - sum(parts.values()), "step": whole / steps}


def _synchronized() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _watched(trainer: trainers.Trainer, spent: dict[str, float], clock: Callable[[], float]) -> Iterator[None]:
    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += clock() - started

        return call

    with (
        mock.patch.object(trainers, "render", timed("render", trainers.render)),
        mock.patch.object(trainer.prior, "encode", timed("encode", trainer.prior.encode)),
        mock.patch.object(trainer.prior, "predict_noise", timed("unet", trainer.prior.predict_noise)),
        mock.patch.object(regularizers, "backward", timed("backward", regularizers.backward)),
        mock.patch.object(trainer.patient.optimizer, "step", timed("adam", trainer.patient.optimizer.step)),
        mock.patch.object(trainer.policy, "observe", timed("densify", trainer.policy.observe)),
        mock.patch.object(trainer.policy, "refine", timed("densify", trainer.policy.refine)),
    ):
        yield
