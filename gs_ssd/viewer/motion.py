"""What a page needs to move an avatar: joints and weights of its splats, and its motions.

A splat's joints and weights are one RGBA32UI texel, four little-endian words:

    0, 1  joints, 16 bits each
    2, 3  weights, 16 bits each, 65535 is 1

A frame of a motion is a row `[w, x, y, z, px, py, pz]` for each joint: its turn and where it has
moved, in glTF axes, lengths in units of the page's radius around its centre.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from gs_ssd.body.body import Pose
from gs_ssd.body.clips import Motion
from gs_ssd.export.avatar_file import Avatar
from gs_ssd.export.frames import frame_rotation, multiply_quaternions, quaternion_from_rotation

DIGITS = 4
"""Of the numbers in a frame: a ten thousandth of the body is far below a pixel."""


@dataclasses.dataclass(frozen=True)
class Moving:
    """An avatar's motions, for the page that shows its splats."""

    avatar: Avatar
    motions: Sequence[Motion]

    def packed(self, seen: np.ndarray) -> bytes:
        """Joints and weights of the splats `seen` (a mask): 16 bytes each, weights summing to
        65535."""
        avatar = self.avatar.take(seen)
        units = np.floor(avatar.weights.astype(np.float64) * 65535).astype(np.int64)
        units[:, 0] += 65535 - units.sum(axis=1)  # the heaviest joint takes what rounding left
        words = np.zeros((len(avatar), 4), dtype="<u4")
        joints, values = avatar.joints.astype("<u4"), units.astype("<u4")
        words[:, 0] = joints[:, 0] | joints[:, 1] << 16
        words[:, 1] = joints[:, 2] | joints[:, 3] << 16
        words[:, 2] = values[:, 0] | values[:, 1] << 16
        words[:, 3] = values[:, 2] | values[:, 3] << 16
        return words.tobytes()

    def scene(self, center: Sequence[float], radius: float) -> dict[str, Any]:
        """The skeleton and its motions as the page reads them, around its centre."""
        skeleton, turn = self.avatar.skeleton, frame_rotation("world", "gltf")
        axes = quaternion_from_rotation(turn)
        back = axes * np.array([1.0, -1.0, -1.0, -1.0])

        def placed(points: np.ndarray) -> np.ndarray:
            return (points @ turn.T - np.asarray(center)) / radius

        def frame(pose: Pose) -> list[list[float]]:
            moved = skeleton.transforms(pose)
            quats = multiply_quaternions(axes, moved.quats_wxyz.double().numpy())
            quats = multiply_quaternions(quats, back)
            rows = np.concatenate([quats, placed(moved.position.double().numpy())], axis=1)
            return np.round(rows, DIGITS).tolist()

        clips = [
            {
                "name": motion.name,
                "seconds": motion.seconds,
                "loop": motion.loop,
                "frames": [frame(pose) for pose in motion.poses],
            }
            for motion in self.motions
        ]
        rest = placed(skeleton.joint_positions.double().numpy())
        return {"rest": np.round(rest, DIGITS + 2).tolist(), "clips": clips}
