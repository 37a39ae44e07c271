"""What a run leaves in its folder, by name, and how it makes room for another run."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from gs_ssd.assets.choice import FILES
from gs_ssd.errors import UserError
from gs_ssd.export.targets import TARGETS
from gs_ssd.run import checkpoint, process_video, results

VIEWS = f"{results.TEST_VIEWS}/polar_*_azimuth_*.png"
LEFT = (
    *FILES,
    *(results.VIDEO, results.ANIMATION, results.SHEET),
    VIEWS,
    *(process_video.VIDEO, "process/[0-9]*.png", "live.ply"),
    *("previews/step_[0-9]*.png", "previews/guidance_[0-9]*.png"),
    *("metrics.jsonl", "wandb_id.txt", "tensorboard/events.*"),
)
"""Patterns of all files but two: config.yaml and environment.json, which the next run replaces as
it begins. Whatever else lies there is the user's own."""


RESULTS = (
    *(*FILES, results.VIDEO, results.ANIMATION, results.SHEET, results.TEST_VIEWS),
    process_video.VIDEO,
)
"""What is written when a run ends."""
EXPORTS = (
    "exports",
    *(f"*.{name}{target.suffix}" for name, target in TARGETS.items()),
    *(f"*.{name}{target.suffix}.axes.json" for name, target in TARGETS.items()),
)
"""Patterns of what `export --for` and the studio write beside a run's splat, made from it."""
EARLIER = "earlier"


def would_replace(folder: Path) -> str | None:
    """The first file of a run's names that lies in `folder`, if there is one."""
    names = ("config.yaml", "checkpoints", "metrics.jsonl", *RESULTS)
    return next((name for name in names if (folder / name).exists()), None)


def refuse_to_replace(path: Path, source: Path | None = None) -> None:
    """See that `path` is no result of a run: what is written there is not what its settings say.

    Args:
        source: the file that it is made from; its own run's other files may be made again.

    Raises:
        UserError: a run's result, or `source` itself.
    """
    if source is not None and path.exists() and path.samefile(source):
        raise UserError(f"{path} is the file that is read; choose another name")
    if not path.exists() or not (path.parent / "config.yaml").is_file():
        return
    own = source is not None and path.parent.resolve() == source.parent.resolve()
    if path.name in (*RESULTS, "config.yaml", "environment.json", "metrics.jsonl") and not own:
        raise UserError(f"{path} is of the run in {path.parent}; choose another name")


def set_aside(folder: Path, step: int) -> Path | None:
    """Move the results of a finished run, with its settings, into a folder of their own below.

    For a run that takes more steps: until it ends, its old splat would lie beside its new settings,
    and afterwards what is not written again beside its new splat. Returns where they are now; None:
    there were none.

    Raises:
        UserError: they cannot be moved.
    """
    names = [name for name in RESULTS if name != results.TEST_VIEWS]
    return _move_aside(folder, [*names, VIEWS, *EXPORTS], f"step_{step:06d}")


def _move_aside(folder: Path, patterns: Sequence[str], name: str) -> Path | None:
    there = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not there:
        return None
    try:
        (folder / EARLIER).mkdir(exist_ok=True)
        aside, number = folder / EARLIER / name, 1
        while aside.exists():
            number += 1
            aside = folder / EARLIER / f"{name}-{number}"
        aside.mkdir()
        for kept in ("config.yaml", "environment.json"):
            if (folder / kept).is_file():
                shutil.copy2(folder / kept, aside / kept)
        for path in there:
            place = aside / path.relative_to(folder)
            place.parent.mkdir(exist_ok=True)
            path.rename(place)
    except OSError as error:
        raise UserError(
            f"cannot move {error.filename} of the earlier results: {error.strerror}; choose "
            "another --out"
        ) from error
    return aside


def remove_after(folder: Path, completed: int) -> None:
    """Delete pictures of steps that are about to be taken again, maybe with other settings.

    Raises:
        UserError: a file cannot be deleted.
    """
    pictures = [*folder.glob("previews/*_[0-9]*.png"), *folder.glob("process/[0-9]*.png")]
    try:
        for path in pictures:
            step = path.stem.removeprefix("step_").removeprefix("guidance_")
            if step.isdecimal() and int(step) > completed:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot delete {error.filename} of a later step: {error.strerror}; choose another"
            " --out"
        ) from error


def clear(folder: Path) -> None:
    """Delete what an earlier run left in `folder`, its checkpoints too: nothing old may lie under a
    new prompt. What somebody has exported from it moves aside.

    Raises:
        UserError: a file cannot be deleted.
    """
    _move_aside(folder, EXPORTS, "exported")
    old = [path for pattern in LEFT for path in folder.glob(pattern)]
    try:
        for path in [*old, *checkpoint.listing(folder / "checkpoints")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot delete {error.filename} of the earlier run: {error.strerror}; choose another"
            " --out"
        ) from error
