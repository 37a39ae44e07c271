"""A video of the training: one frame every few steps, from a camera that goes once around the
asset."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from gs_ssd.assets.base import Renderable
from gs_ssd.export import turntable
from gs_ssd.files import atomic_path
from gs_ssd.run.pictures import pictures
from gs_ssd.run.results import OutputCameras

log = logging.getLogger(__name__)

VIDEO, FRAMES = "process.mp4", "process"


class ProcessVideo:
    """Frames lie as pictures in the run's process/ folder until the end, named by the number of
    completed steps, so an interrupted run loses none, and one that goes on with another number of
    frames or steps mixes none up.

    Args:
        folder: the run's.
        cameras: where the camera stands (on the first ring).
        frames: of the video, at most one per step; 0: no video.
        num_steps: of the whole run; frame i is taken after step (i + 1) num_steps / frames, rounded
            down.
    """

    def __init__(
        self, folder: Path, cameras: OutputCameras, frames: int, size: int, num_steps: int
    ) -> None:
        self.folder, self.cameras, self.size = folder, cameras, size
        self.count = min(frames, num_steps)
        self.due = {(i + 1) * num_steps // self.count: i for i in range(self.count)}

    def take(self, completed: int, asset: Renderable) -> None:
        """Take the frame that is due after `completed` steps, if one is."""
        index = self.due.get(completed)
        if index is None:
            return
        (frame,) = pictures(asset, self.cameras.ring(self.count, self.size)[index : index + 1])
        with atomic_path(self.folder / FRAMES / f"{completed:06d}.png") as temporary:
            Image.fromarray(frame).save(temporary)

    def write(self) -> list[Path]:
        """Write process.mp4 from the frames that are there and remove them; the video's path, if
        there is one."""
        frames = sorted(
            (path for path in self.folder.glob(f"{FRAMES}/*.png") if path.stem.isdecimal()),
            key=lambda path: int(path.stem),
        )
        if frames and self.count:
            turntable.write_mp4(self.folder / VIDEO, self._pictures(frames))
            if int(frames[0].stem) > min(self.due):
                log.warning("%s begins at step %d of the run", VIDEO, int(frames[0].stem))
        if frames:
            shutil.rmtree(self.folder / FRAMES)
        return [self.folder / VIDEO] if frames and self.count else []

    def _pictures(self, frames: list[Path]) -> Iterator[np.ndarray]:
        """In one size, where a run went on with another."""
        for path in frames:
            with Image.open(path) as picture:
                yield np.asarray(picture.convert("RGB").resize((self.size, self.size)))
