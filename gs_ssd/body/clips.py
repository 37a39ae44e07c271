"""Motions as poses at equal times: clips of our own by name, BVH files by path."""

from pathlib import Path
from typing import NamedTuple

from gs_ssd.body import bvh, poses
from gs_ssd.body.body import Pose, Skeleton
from gs_ssd.errors import UserError

MAX_FRAMES = 10_000


class Motion(NamedTuple):
    """A motion at a steady rate. One of our own clips is a cycle: its first frame follows its
    last."""

    name: str
    fps: float
    poses: tuple[Pose, ...]
    loop: bool

    @property
    def seconds(self) -> float:
        """How long one run of it takes."""
        return len(self.poses) / self.fps


def sample(name: str, fps: float, skeleton: Skeleton) -> Motion:
    """The motion that `name` says, at `fps` frames a second.

    Args:
        name: one of `poses.CLIPS`, or a BVH file (its nearest frames are taken).

    Raises:
        UserError: no such clip or file, or a motion that is too long.
    """
    if name in poses.CLIPS:
        clip, seconds = poses.CLIPS[name]
        count = _count(name, seconds, fps)
        return Motion(name, fps, tuple(clip(i / count) for i in range(count)), loop=True)
    path = Path(name)
    if path.suffix.lower() != ".bvh":
        raise UserError(
            f"there is no clip {name!r}; choose {', '.join(poses.CLIPS)}, or name a .bvh file"
        )
    motion = bvh.read(path)
    frames = bvh.poses(motion, skeleton, str(path))
    count = _count(name, len(frames) * motion.frame_seconds, fps)
    step = 1 / (fps * motion.frame_seconds)
    chosen = [frames[min(round(i * step), len(frames) - 1)] for i in range(count)]
    return Motion(path.stem, fps, tuple(chosen), loop=False)


def _count(name: str, seconds: float, fps: float) -> int:
    count = max(1, round(seconds * fps))
    if count > MAX_FRAMES:
        raise UserError(
            f"{name} has {count} frames at {fps:g} a second; at most {MAX_FRAMES}: lower the rate"
        )
    return count
