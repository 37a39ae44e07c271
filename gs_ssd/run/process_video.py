"""A video of the training: one frame every few steps, from a camera that goes once around the
asset."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from gs_ssd.assets.base import Renderable
from gs_ssd.export import turntable
from gs_ssd.files import atomic_path
from gs_ssd.run.pictures import pictures
from gs_ssd.run.results import OutputCameras

VIDEO = "process.mp4"


class ProcessVideo:
    """Frames lie as pictures in the run's process/ folder until the end, so an interrupted run
    loses none.

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
        with atomic_path(self._frame(index)) as temporary:
            Image.fromarray(frame).save(temporary)

    def write(self) -> list[Path]:
        """Write process.mp4 from the frames that are there and remove them; the video's path, if
        there is one."""
        frames = [
            path for index in sorted(self.due.values()) if (path := self._frame(index)).is_file()
        ]
        if not frames:
            return []
        turntable.write_mp4(
            self.folder / VIDEO, (np.asarray(Image.open(path).convert("RGB")) for path in frames)
        )
        shutil.rmtree(self.folder / "process")
        return [self.folder / VIDEO]

    def _frame(self, index: int) -> Path:
        return self.folder / "process" / f"{index:06d}.png"
