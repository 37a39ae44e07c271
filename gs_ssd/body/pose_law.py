"""Which poses an avatar is trained in: the rest pose, hand-written ones, moments of clips and
files, and random ones.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import torch

from gs_ssd.body import bvh, poses
from gs_ssd.body.body import JOINTS, Body, Pose, Skeleton
from gs_ssd.bounds import Bounds, Share, choice, settings
from gs_ssd.errors import UserError
from gs_ssd.maths import rotation

Range = tuple[int, int]
RANGES: Final[dict[str, dict[str, Range]]] = {
    "pelvis": {"x": (-12, 12), "z": (-20, 20)},
    "spine": {"x": (-15, 8), "y": (-8, 8), "z": (-12, 12)},
    "chest": {"x": (-12, 8), "y": (-8, 8), "z": (-15, 15)},
    "neck": {"x": (-8, 8), "z": (-20, 20)},
    "head": {"x": (-15, 15), "y": (-10, 10), "z": (-25, 25)},
    "right_shoulder": {"y": (-125, 38), "x": (-45, 90)},
    "right_elbow": {"x": (-10, 100), "y": (-85, 75)},
    "right_wrist": {"x": (-20, 20), "y": (-20, 20)},
    "right_hip": {"x": (-30, 85), "y": (-28, 4)},
    "right_knee": {"x": (-95, 0)},
    "right_ankle": {"x": (-15, 20)},
}
"""Turns in degrees about the body's axes that a joint may make, by our judgement; the left side
mirrors the right.
"""


@settings
class PoseConfig:
    """What share of the poses is of which sort; the rest of them is random within what joints can
    do.
    """

    rest_share: Share = 0.2
    """In the pose that the splats are stored in."""
    named_share: Share = 0.25
    named: tuple[Annotated[str, choice(poses.POSES)], ...] = tuple(poses.POSES)
    clip_share: Share = 0.3
    """Moments of the clips, and of the files where there are any."""
    clips: tuple[Annotated[str, choice(poses.CLIPS)], ...] = tuple(poses.CLIPS)
    files: tuple[str, ...] = ()
    """BVH files."""
    spread: Annotated[float, Bounds(0, 1)] = 0.8
    """How much of their range the joints of random poses use."""

    def __post_init__(self) -> None:
        total = self.rest_share + self.named_share + self.clip_share
        if total > 1 + 1e-9:
            raise UserError(
                "avatar.poses.rest_share, avatar.poses.named_share and avatar.poses.clip_share add"
                f" up to {total:g}; at most 1"
            )
        if self.named_share and not self.named:
            raise UserError(
                "avatar.poses.named is empty; name a pose, or set avatar.poses.named_share to 0"
            )
        if self.clip_share and not (self.clips or self.files):
            raise UserError(
                "avatar.poses.clips is empty; name a clip, or set avatar.poses.clip_share to 0"
            )


class PoseLaw:
    """Draws poses for one body.

    Raises:
        UserError: a BVH file that cannot be read, or lacks limbs.
    """

    def __init__(self, config: PoseConfig, body: Body) -> None:
        self.config, self.body = config, body
        self.motions = [poses_of(Path(name), body) for name in config.files]

    def draw(self, generator: torch.Generator) -> Pose:
        """One pose; every draw takes the same number of random numbers."""
        config = self.config
        kind, which, moment = torch.rand(3, generator=generator).tolist()
        free = torch.rand(2, _num_turns(), generator=generator).sum(dim=0) - 1
        if kind < config.rest_share:
            return Pose.rest()
        kind -= config.rest_share
        if kind < config.named_share:
            return poses.POSES[config.named[int(which * len(config.named))]]
        if kind - config.named_share < config.clip_share:
            return self._moment(which, moment)
        return random_pose(self.body, (config.spread * free).tolist())

    def _moment(self, which: float, moment: float) -> Pose:
        index = int(which * (len(self.config.clips) + len(self.motions)))
        if index < len(self.config.clips):
            clip, _ = poses.CLIPS[self.config.clips[index]]
            return clip(moment)
        frames = self.motions[index - len(self.config.clips)]
        return frames[int(moment * len(frames))]


def poses_of(path: Path, body: Skeleton) -> list[Pose]:
    """All frames of a BVH file on `body`, walking on the spot: what it travels along the ground is
    left out.
    """
    frames = bvh.poses(bvh.read(path), body, str(path))
    upright = torch.tensor([0.0, 0.0, 1.0])
    return [Pose(frame.quats_wxyz, frame.translation * upright) for frame in frames]


def random_pose(body: Skeleton, shares: Sequence[float]) -> Pose:
    """A pose from one number in -1..1 for each turn of each joint: the ends of its range; the lower
    foot on the ground.
    """
    quats, left = Pose.rest().quats_wxyz.clone(), iter(shares)
    for name, turns in _all_ranges().items():
        for axis, (low, high) in turns.items():
            share = next(left)
            # 0 is the rest pose, so that a small spread stays near it.
            degrees = share * (high if share > 0 else -low)
            turn = rotation.quat_about(
                torch.eye(3)["xyz".index(axis)], torch.tensor(math.radians(degrees))
            )
            index = JOINTS.index(name)
            quats[index] = rotation.quat_multiply(turn, quats[index])
    pose = Pose(quats, torch.zeros(3))
    moved = body.transforms(pose)
    ankles = [body.joint_names.index(f"{side}_ankle") for side in ("right", "left")]
    sunk = (moved.position - moved.rest_position)[ankles, 2].amin()
    return Pose(quats, torch.tensor([0.0, 0.0, -float(sunk)]))


def _all_ranges() -> dict[str, dict[str, Range]]:
    mirrored = {
        name.replace("right", "left"): {
            axis: (low, high) if axis == "x" else (-high, -low)
            for axis, (low, high) in turns.items()
        }
        for name, turns in RANGES.items()
        if name.startswith("right")
    }
    return RANGES | mirrored


def _num_turns() -> int:
    return sum(len(turns) for turns in _all_ranges().values())
