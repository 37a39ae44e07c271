"""A training within this process, with a prior that is loaded already: where assets take seconds, a
process for each would spend most of its time on beginning."""

import time
from collections.abc import Sequence
from pathlib import Path

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.trainings import Cost, TrainingError
from gs_ssd.prior import DiffusionPrior
from gs_ssd.trainer import Trainer


def train(
    config: Path, overrides: Sequence[str], folder: Path, prior: DiffusionPrior, *, resume: bool
) -> Cost:
    """One training to its end; one at a time, as the processor time is this process's.

    Raises:
        TrainingError: it ended early; says why.
    """
    wall, processor = time.monotonic(), time.process_time()
    try:
        trainer = Trainer(configs.load(config, overrides), folder, prior=prior, resume=resume)
        for _ in trainer.events():
            pass
    except UserError as error:
        raise TrainingError(str(error)) from error
    return Cost(time.monotonic() - wall, time.process_time() - processor)
