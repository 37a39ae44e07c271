"""Poses and short clips written by hand, as turns of joints about the body's own axes.

Turns are in degrees, right-handed. About x a hanging limb swings forwards; about y the right arm is
raised by negative and the left by positive turns; about z the body turns to its left.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from gs_ssd.body.body import JOINTS, Pose
from gs_ssd.errors import UserError
from gs_ssd.maths import rotation

Turn = tuple[str, float]
"""An axis (x, y or z) and degrees."""
Clip = Callable[[float], Pose]
"""A pose for each phase; phase 0 and 1 are the same moment."""


def pose(
    turns: Mapping[str, Sequence[Turn]], translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Pose:
    """A pose of named joints; each joint's turns are applied one after the other.

    Raises:
        UserError: a joint that the skeleton does not have.
    """
    quats = Pose.rest().quats_wxyz.clone()
    for name, steps in turns.items():
        if name not in JOINTS:
            raise UserError(f"there is no joint {name!r}; the joints are {', '.join(JOINTS)}")
        for axis, degrees in steps:
            direction = torch.eye(3)["xyz".index(axis)]
            turn = rotation.quat_about(direction, torch.tensor(math.radians(degrees)))
            quats[JOINTS.index(name)] = rotation.quat_multiply(turn, quats[JOINTS.index(name)])
    return Pose(quats, torch.tensor(translation))


def _arms(right: Sequence[Turn], left: Sequence[Turn] | None = None) -> dict[str, Sequence[Turn]]:
    """Turns of both shoulders; without `left`, mirrored."""
    mirrored = [(axis, degrees if axis == "x" else -degrees) for axis, degrees in right]
    return {"right_shoulder": right, "left_shoulder": mirrored if left is None else left}


POSES: dict[str, Pose] = {
    "a": Pose.rest(),
    "t": pose(_arms([("y", -45.0)])),
    "stand": pose(_arms([("y", 35.0)])),
    "cheer": pose(_arms([("y", -125.0)]) | {"head": [("x", -10.0)]}),
    "hands_on_hips": pose(
        _arms([("y", 10.0), ("x", -25.0)])
        | {
            "right_elbow": [("y", 75.0)],
            "left_elbow": [("y", -75.0)],
        }
    ),
    "reach": pose(_arms([("x", 60.0)]) | {"chest": [("x", 8.0)]}),
    "sit": pose(
        _arms([("y", 30.0), ("x", 30.0)])
        | {"right_hip": [("x", 85.0)], "left_hip": [("x", 85.0)]}
        | {"right_knee": [("x", -85.0)], "left_knee": [("x", -85.0)]},
        (0.0, 0.0, -0.35),
    ),
    "lunge": pose(
        _arms([("y", 20.0)])
        | {"right_hip": [("x", 55.0)], "right_knee": [("x", -60.0)]}
        | {"left_hip": [("x", -25.0)], "left_knee": [("x", -20.0)]},
        (0.0, 0.0, -0.12),
    ),
    "look_left": pose(_arms([("y", 30.0)]) | {"neck": [("z", 25.0)], "head": [("z", 30.0)]}),
}
"""Single poses by name; "a" is the rest pose."""


def walk(phase: float) -> Pose:
    """A step with each leg.

    The feet leave the ground by their knees; the body bobs twice a cycle."""
    swing = math.sin(2 * math.pi * phase)
    lift = [max(0.0, math.cos(2 * math.pi * phase + shift)) for shift in (0.0, math.pi)]
    return pose(
        {
            "right_hip": [("x", 28 * swing)],
            "left_hip": [("x", -28 * swing)],
            "right_knee": [("x", -8 - 45 * lift[0])],
            "left_knee": [("x", -8 - 45 * lift[1])],
            "right_shoulder": [("y", 36.0), ("x", -24 * swing)],
            "left_shoulder": [("y", -36.0), ("x", 24 * swing)],
            "right_elbow": [("x", 18.0)],
            "left_elbow": [("x", 18.0)],
            "spine": [("z", 5 * swing)],
            "pelvis": [("z", -4 * swing)],
        },
        (0.0, 0.0, -0.015 + 0.012 * math.cos(4 * math.pi * phase)),
    )


def wave(phase: float) -> Pose:
    """The right hand waves twice a cycle; the left arm hangs."""
    swing = math.sin(4 * math.pi * phase)
    return pose(
        {
            "right_shoulder": [("y", -70.0)],
            "right_elbow": [("y", -75 + 22 * swing)],
            "left_shoulder": [("y", -36.0)],
            "head": [("y", 4 * swing)],
        }
    )


CLIPS: dict[str, tuple[Clip, float]] = {"walk": (walk, 1.1), "wave": (wave, 1.6)}
"""Clips by name, with the seconds of one cycle."""
