"""What a run leaves in its folder, by name, and how it makes room for another run."""

from pathlib import Path

from gs_ssd.assets.choice import FILES
from gs_ssd.errors import UserError
from gs_ssd.run import checkpoint, process_video, results

LEFT = (
    *FILES,
    *(results.VIDEO, results.ANIMATION, results.SHEET, f"{results.TEST_VIEWS}/*.png"),
    *(process_video.VIDEO, "process/*.png", "previews/*.png", "live.ply"),
    *("metrics.jsonl", "wandb_id.txt", "tensorboard/events.*"),
)
"""Patterns of all files but two: config.yaml and environment.json, which the next run replaces as
it begins. Whatever else lies there is the user's own."""


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
