"""Floor 5c: what a run leaves in its folder, by name, and how it makes room for another run."""

from pathlib import Path

from gs_ssd import checkpoint, film, results
from gs_ssd.errors import UserError

LEFT = (
    *(results.PLY, results.PAGE, results.VIDEO, results.ANIMATION, results.SHEET, f"{results.TEST_VIEWS}/*.png"),
    *(film.VIDEO, "process/*.png", "previews/*.png", "live.ply"),
    *("metrics.jsonl", "wandb_id.txt", "tensorboard/events.*"),
)
"""Patterns of all files but two: config.yaml and environment.json, which the next run replaces as it begins. Whatever
else lies there is the user's own."""


def remove(folder: Path) -> None:
    """Delete what an earlier run left in `folder`, its checkpoints too: nothing old may lie under a new prompt.

    Raises:
        UserError: a file cannot be deleted.
    """
    old = [path for pattern in LEFT for path in folder.glob(pattern)]
    try:
        for path in [*old, *checkpoint.listing(folder / "checkpoints")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot delete {error.filename} of the earlier run: {error.strerror}; choose another --out"
        ) from error
