"""What a run leaves in its folder, by name, and how it makes room for another run."""

import shutil
from pathlib import Path

from gs_ssd.assets.choice import FILES
from gs_ssd.errors import UserError
from gs_ssd.run import checkpoint, process_video, results

LEFT = (
    *FILES,
    *(results.VIDEO, results.ANIMATION, results.SHEET),
    f"{results.TEST_VIEWS}/polar_*_azimuth_*.png",
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

    For a run that continues with other settings: until it ends, its old splat would lie beside its
    new settings. Returns where they are now; None: there were none.

    Raises:
        UserError: they cannot be moved.
    """
    there = [folder / name for name in RESULTS if (folder / name).exists()]
    if not there:
        return None
    try:
        (folder / EARLIER).mkdir(exist_ok=True)
        aside, number = folder / EARLIER / f"step_{step:06d}", 1
        while aside.exists():
            number += 1
            aside = folder / EARLIER / f"step_{step:06d}-{number}"
        aside.mkdir()
        for name in ("config.yaml", "environment.json"):
            if (folder / name).is_file():
                shutil.copy2(folder / name, aside / name)
        for path in there:
            path.rename(aside / path.name)
    except OSError as error:
        raise UserError(
            f"cannot move {error.filename} of the earlier results: {error.strerror}; choose "
            "another --out"
        ) from error
    return aside


def clear(folder: Path) -> None:
    """Delete what an earlier run left in `folder`, its checkpoints too: nothing old may lie under a
    new prompt.

    Raises:
        UserError: a file cannot be deleted.
    """
    old = [path for pattern in LEFT for path in folder.glob(pattern)]
    try:
        for path in [*old, *checkpoint.listing(folder / "checkpoints")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot delete {error.filename} of the earlier run: {error.strerror}; choose another"
            " --out"
        ) from error
