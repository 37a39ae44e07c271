"""From rows to tasks: each with its whole configuration, checked before anything starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gs_ssd import config as configs
from gs_ssd.batch.rows import Refusal, Row
from gs_ssd.batch.task import Task
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file, slug
from gs_ssd.guidance.prompts import check_prompt
from gs_ssd.prior.described import DescribedPrior, describe
from gs_ssd.resolve import resolve

Base = tuple[ExperimentConfig, DescribedPrior | None]
"""What rows with the same settings share."""


def plan(
    rows: Sequence[Row],
    *,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    anyway: bool = False,
) -> tuple[list[Task], list[Refusal]]:
    """One task for every row and seed, and the rows that cannot run.

    A row's settings win over `overrides`, which win over the file `config`. A row with a seed of
    its own is made once; the others once for each of `seeds` (by default the configuration's).

    Raises:
        UserError: the file or the overrides cannot be used for any row.
    """
    composed: dict[tuple[str, ...], Base | str] = {(): _checked(configs.load(config, overrides))}
    if twice := [seed for i, seed in enumerate(seeds) if seed in seeds[:i]]:
        raise UserError(f"--seeds names {twice[0]} twice; name each once")
    tasks: list[Task] = []
    refusals: list[Refusal] = []
    lines: dict[str, int] = {}
    for row in rows:
        try:
            made = _tasks(row, composed, config, overrides, seeds, anyway)
            for task in made:
                if task.name in lines:
                    raise UserError(
                        f"the name {task.name} is line {lines[task.name]}'s already;"
                        " give the row a `name` or a `seed` of its own"
                    )
        except UserError as error:
            refusals.append(Refusal(row.line, str(error)))
            continue
        lines |= dict.fromkeys((task.name for task in made), row.line)
        tasks += made
    return tasks, refusals


def _tasks(
    row: Row,
    composed: dict[tuple[str, ...], Base | str],
    path: Path | None,
    overrides: Sequence[str],
    seeds: Sequence[int],
    anyway: bool,
) -> list[Task]:
    # Checking settings takes a millisecond: once for all rows with the same ones.
    if row.settings not in composed:
        try:
            composed[row.settings] = _checked(_composed(row, composed, path, overrides))
        except UserError as error:
            composed[row.settings] = str(error)
    base = composed[row.settings]
    if isinstance(base, str):
        raise UserError(base)
    experiment, prior = base
    tasks = []
    for seed in (row.seed,) if row.seed is not None else seeds or (experiment.seed,):
        config = configs.for_prompt(experiment, row.prompt, seed)
        name = f"{slug(row.name or row.prompt)}-seed{seed}"
        tasks.append(Task(name, config, row.line, row.tags, anyway))
    if prior is not None:
        check_prompt(prior, row.prompt, anyway=anyway)
    return tasks


def _composed(
    row: Row,
    composed: Mapping[tuple[str, ...], Base | str],
    path: Path | None,
    overrides: Sequence[str],
) -> ExperimentConfig:
    base = composed[()]
    # What another program's file comes to depends on the estimator and on keys of its own, so
    # that such a row is read with the file.
    if isinstance(base, str) or not all(configs.is_own(text) for text in row.settings):
        return configs.load(path, [*overrides, *row.settings])
    return configs.varied(base[0], row.settings)


def _checked(experiment: ExperimentConfig) -> Base:
    """Raises UserError where the prior refuses the settings, or a file is missing."""
    prior = describe(experiment.prior)
    if prior is not None:
        resolve(experiment, prior)
    file = experiment.initialize.file
    if experiment.initialize.shape in ("points", "mesh", "splat") and file:
        require_plain_file(file)
    return experiment, prior
