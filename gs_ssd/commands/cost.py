"""Where a training step's time goes, measured on a run that is there: its own config, its own last splats."""

import collections
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from gs_ssd import config as configs
from gs_ssd import trainer as trainers
from gs_ssd.render import regularizers


def breakdown(folder: Path, steps: int = 8) -> dict[str, float]:
    """Seconds a step by part over the last steps of the finished run in `folder`, from its newest checkpoint."""
    config = configs.load(folder / "config.yaml")
    trainer = trainers.Trainer(config, folder, resume=True)
    spent: dict[str, float] = collections.defaultdict(float)
    first = max(config.num_steps - steps - 1, 0)
    trainer.step(first)
    with _watched(trainer, spent):
        started = time.perf_counter()
        for step in range(first + 1, first + 1 + steps):
            trainer.step(step)
        whole = time.perf_counter() - started
    parts = {name: seconds / steps for name, seconds in spent.items()}
    return parts | {"other": whole / steps - sum(parts.values()), "step": whole / steps}


@contextmanager
def _watched(trainer: trainers.Trainer, spent: dict[str, float]) -> Iterator[None]:
    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - started

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
