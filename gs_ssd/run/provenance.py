"""What a run was made with, beyond its settings: versions, weights, the estimator, what open
settings became.

A resumed run is held to it: another estimator is refused, everything else that differs is told.
"""

import logging
from pathlib import Path

import torch

from gs_ssd import config as configs
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.guidance.estimators import ESTIMATORS, Estimator
from gs_ssd.prior import DiffusionPrior
from gs_ssd.run import environment

log = logging.getLogger(__name__)

RECORD = "environment.json"


def name_of(estimator: Estimator) -> str:
    """Module and name of a function of the user's own (of its type, where it is an object)."""
    named = estimator if hasattr(estimator, "__qualname__") else type(estimator)
    return f"{named.__module__}.{named.__qualname__}"


def refuse_another_estimator(folder: Path, estimator: str) -> None:
    """The config names an estimator even where a function took its place: no run may continue with
    the wrong one.

    Raises:
        UserError: the run in `folder` was made with a function of the user's own, and `estimator`
            is another.
    """
    before = environment.recall(folder / RECORD).get("estimator", estimator)
    if before != estimator and not {before, estimator} <= set(ESTIMATORS):
        raise UserError(
            f"the run in {folder} was made with the estimator {before}, not {estimator}: pass the"
            " same function as Trainer(estimator=...) to resume it, or begin another run in a"
            " folder of its own"
        )


def write(
    folder: Path,
    device: torch.device,
    prior: DiffusionPrior,
    estimator: str,
    settings: tuple[ExperimentConfig, ExperimentConfig],
    *,
    completed: int,
) -> None:
    """Write the record of `folder`; a resumed run logs what differs from the one before, and keeps
    what the steps before were made with.

    Args:
        settings: as given, and as `resolved`; what the second adds is recorded.
        completed: steps so far; 0: the run begins.

    Raises:
        UserError: the file cannot be written.
    """
    weights = getattr(prior, "source", "") or type(prior).__name__
    found = environment.describe(device) | {"prior": weights, "estimator": estimator}
    found |= {key: new for key, (_, new) in configs.differences(*settings).items()}
    changed = environment.write(folder / RECORD, found, completed=completed)
    changed.pop("estimator", None)  # between names, the config's own warning has said it already
    for key, (old, new) in changed.items():
        log.warning(
            "resuming with %s %s (it was %s): not the numbers of one uninterrupted run",
            key,
            new,
            old,
        )
