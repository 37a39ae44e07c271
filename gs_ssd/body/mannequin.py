"""A mannequin of capsules: a body that needs no asset and is always there.

Proportions are those of an adult of 1.8 units standing in an A-pose, by eye and not by any body
model.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.body.body import JOINTS, KEYPOINTS, Body

ARM = (math.sin(math.radians(45)), 0.0, -math.cos(math.radians(45)))
"""Direction of the right arm in the A-pose."""
UPPER_ARM, FOREARM, HAND = 0.27, 0.25, 0.15
BLEND = 0.18
"""Share of a bone on either side of a joint over which its skin is shared with the neighbour."""


class Bone(NamedTuple):
    """A capsule from joint `start` to `end` (a joint, or a point of the rest pose); radii in world
    units."""

    start: str
    end: str | tuple[float, float, float]
    radius: tuple[float, float]
    squash: tuple[float, float] = (1.0, 1.0)
    """Factors of the cross section along x and y."""


def create(rings: int = 6, sides: int = 12) -> Body:
    """The mannequin's body.

    Args:
        rings: along each bone, and over each of its round ends.
        sides: of the cross sections.
    """
    positions = joints()
    vertices: list[Tensor] = []
    faces: list[Tensor] = []
    weights: list[Tensor] = []
    for bone in bones():
        start = torch.tensor(positions[bone.start])
        end = torch.tensor(positions[bone.end] if isinstance(bone.end, str) else bone.end)
        points, along, triangles = _capsule(start, end, bone, rings, sides)
        faces.append(triangles + sum(len(part) for part in vertices))
        vertices.append(points)
        weights.append(_weights(bone, along))
    keypoints = _keypoints(positions)
    return Body(
        vertices=torch.cat(vertices),
        faces=torch.cat(faces),
        joint_names=JOINTS,
        joint_positions=torch.tensor([positions[name] for name in JOINTS]),
        parents=tuple(
            -1 if parent is None else JOINTS.index(parent) for parent in PARENTS.values()
        ),
        weights=torch.cat(weights),
        keypoint_joints=tuple(JOINTS.index(keypoints[name][0]) for name in KEYPOINTS),
        keypoint_positions=torch.tensor([keypoints[name][1] for name in KEYPOINTS]),
    )


PARENTS: dict[str, str | None] = {
    "pelvis": None,
    "spine": "pelvis",
    "chest": "spine",
    "neck": "chest",
    "head": "neck",
    "right_shoulder": "chest",
    "right_elbow": "right_shoulder",
    "right_wrist": "right_elbow",
    "left_shoulder": "chest",
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
    "right_hip": "pelvis",
    "right_knee": "right_hip",
    "right_ankle": "right_knee",
    "left_hip": "pelvis",
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
}

Point = tuple[float, float, float]


def joints() -> dict[str, Point]:
    """Rest positions by name, world units."""
    shoulder = (0.19, 0.0, 0.47)
    elbow = _towards(shoulder, ARM, UPPER_ARM)
    right = {
        "shoulder": shoulder,
        "elbow": elbow,
        "wrist": _towards(elbow, ARM, FOREARM),
        "hip": (0.095, 0.0, -0.04),
        "knee": (0.12, 0.005, -0.45),
        "ankle": (0.14, -0.01, -0.83),
    }
    middle = {"pelvis": (0.0, 0.0, 0.03), "spine": (0.0, 0.0, 0.17), "chest": (0.0, 0.0, 0.33)}
    sides = {f"right_{name}": point for name, point in right.items()}
    sides |= {f"left_{name}": (-x, y, z) for name, (x, y, z) in right.items()}
    return middle | {"neck": (0.0, 0.0, 0.52), "head": (0.0, 0.01, 0.62)} | sides


def bones() -> list[Bone]:
    """The capsules that the mannequin consists of."""
    at = joints()
    flat = (1.25, 0.8)
    middle = [
        Bone("pelvis", "spine", (0.125, 0.115), flat),
        Bone("spine", "chest", (0.115, 0.13), flat),
        Bone("chest", (0.0, 0.0, 0.44), (0.135, 0.12), (1.35, 0.8)),
        Bone("neck", "head", (0.052, 0.052)),
        Bone("head", (0.0, 0.012, 0.77), (0.095, 0.115), (0.92, 1.08)),
    ]
    limbs = [
        ("shoulder", "elbow", (0.062, 0.048)),
        ("elbow", "wrist", (0.047, 0.034)),
        ("wrist", "hand", (0.036, 0.03)),
        ("hip", "knee", (0.088, 0.062)),
        ("knee", "ankle", (0.06, 0.042)),
        ("ankle", "toe", (0.042, 0.036)),
    ]
    bones = list(middle)
    for side, sign in (("right", 1.0), ("left", -1.0)):
        arm = (sign * ARM[0], ARM[1], ARM[2])
        ankle = at[f"{side}_ankle"]
        tips = {
            "hand": _towards(at[f"{side}_wrist"], arm, HAND),
            "toe": (ankle[0] + sign * 0.015, ankle[1] + 0.16, -0.862),
        }
        for start, end, radius in limbs:
            bones.append(Bone(f"{side}_{start}", tips.get(end, f"{side}_{end}"), radius))
    return bones


def _keypoints(joints: dict[str, Point]) -> dict[str, tuple[str, Point]]:
    """The joint that carries each keypoint, and where it is in the rest pose."""
    face = {
        "nose": (0.0, 0.145, 0.7),
        "right_eye": (0.042, 0.122, 0.745),
        "right_ear": (0.105, 0.01, 0.715),
    }
    face |= {
        name.replace("right", "left"): (-x, y, z)
        for name, (x, y, z) in face.items()
        if name != "nose"
    }
    carried = {name: ("head", point) for name, point in face.items()}
    carried["neck"] = ("chest", (0.0, 0.0, joints["right_shoulder"][2]))
    return carried | {
        name: (name, joints[name]) for name in KEYPOINTS if name in joints and name != "neck"
    }


def _towards(point: Point, direction: Point, distance: float) -> Point:
    x, y, z = (p + distance * d for p, d in zip(point, direction, strict=True))
    return x, y, z


def _capsule(
    start: Tensor, end: Tensor, bone: Bone, rings: int, sides: int
) -> tuple[Float[Tensor, "v 3"], Float[Tensor, " v"], Int[Tensor, "f 3"]]:
    """Vertices, their place along the bone (0 at its start, 1 at its end, beyond on the caps), and
    faces outwards."""
    axis = end - start
    length = float(axis.norm())
    axis = axis / length
    side = (
        torch.tensor([0.0, 1.0, 0.0])
        if abs(float(axis[1])) < 0.9
        else torch.tensor([0.0, 0.0, 1.0])
    )
    u = torch.linalg.cross(side, axis)
    u = u / u.norm()
    v = torch.linalg.cross(axis, u)
    cap = torch.linspace(0, math.pi / 2, rings + 1)[:-1]
    middle = torch.linspace(0, 1, rings + 1)
    r0, r1 = bone.radius
    heights = torch.cat([-r0 * cap.flip(0).sin(), middle[1:-1] * length, length + r1 * cap.sin()])
    radii = torch.cat([r0 * cap.flip(0).cos(), r0 + (r1 - r0) * middle[1:-1], r1 * cap.cos()])
    angle = torch.arange(sides) * (2 * math.pi / sides)
    circle = angle.cos()[:, None] * u + angle.sin()[:, None] * v
    squash = torch.tensor([*bone.squash, 1.0])
    rim = start + heights[:, None, None] * axis + radii[:, None, None] * (circle * squash)
    tips = torch.stack([start - r0 * axis, end + r1 * axis])
    along = torch.cat(
        [(heights / length).repeat_interleave(sides), torch.tensor([-r0 / length, 1 + r1 / length])]
    )
    return torch.cat([rim.reshape(-1, 3), tips]), along, _tube_faces(len(heights), sides)


def _tube_faces(rows: int, sides: int) -> Int[Tensor, "f 3"]:
    row, column = torch.meshgrid(torch.arange(rows - 1), torch.arange(sides), indexing="ij")
    a = (row * sides + column).reshape(-1)
    b = (row * sides + (column + 1) % sides).reshape(-1)
    tube = torch.cat([torch.stack([a, b, b + sides], 1), torch.stack([a, b + sides, a + sides], 1)])
    ring = torch.arange(sides)
    following, low, high = (ring + 1) % sides, rows * sides, rows * sides + 1
    last = (rows - 1) * sides
    bottom = torch.stack([following, ring, torch.full_like(ring, low)], 1)
    top = torch.stack([last + ring, last + following, torch.full_like(ring, high)], 1)
    return torch.cat([tube, bottom, top])


def _weights(bone: Bone, along: Float[Tensor, " v"]) -> Float[Tensor, "v j"]:
    """The bone's own joint; near its ends shared with the parent and the child, half and half at
    the joint."""
    weights = torch.zeros(len(along), len(JOINTS))
    own, parent = JOINTS.index(bone.start), PARENTS[bone.start]
    at_start = (
        0.5 * (1 - along / BLEND).clamp(0, 1) if parent is not None else torch.zeros_like(along)
    )
    at_end = (
        0.5 * ((along - 1) / BLEND + 1).clamp(0, 1)
        if isinstance(bone.end, str)
        else torch.zeros_like(along)
    )
    weights[:, own] = 1 - at_start - at_end
    if parent is not None:
        weights[:, JOINTS.index(parent)] += at_start
    if isinstance(bone.end, str):
        weights[:, JOINTS.index(bone.end)] += at_end
    return weights
