"""A body in its rest pose: surface, skeleton, skinning weights and keypoints; a pose moves all of
them.

World units and axes: z up, the body faces +y, its right hand is at +x, and it stands about 1.8
units tall around the origin. Every joint's local axes are the world's axes in the rest pose, so the
identity pose is the rest pose.
"""

import dataclasses
from typing import NoReturn

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.maths import rotation

JOINTS = (
    "pelvis", "spine", "chest", "neck", "head",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
)  # fmt: skip
"""Joints that a pose turns. A body may have more; those follow their parents."""

KEYPOINTS = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""The 18 COCO keypoints in openpose's order. Left and right are the person's own."""


@dataclasses.dataclass(frozen=True)
class Pose:
    """Local rotations of the joints in `JOINTS`, and where the pelvis moved.

    Raises:
        UserError: not one quaternion per joint.
    """

    quats_wxyz: Float[Tensor, "j 4"]
    """Unit quaternions in the rest pose's axes, each relative to the joint's parent."""
    translation: Float[Tensor, "3"]
    """World units."""

    @staticmethod
    def rest() -> "Pose":
        """The pose that moves nothing."""
        return Pose(torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(len(JOINTS), 1), torch.zeros(3))

    def __post_init__(self) -> None:
        if self.quats_wxyz.shape != (len(JOINTS), 4) or self.translation.shape != (3,):
            raise UserError(
                f"a pose needs {len(JOINTS)} quaternions and one translation, not"
                f" {tuple(self.quats_wxyz.shape)} and {tuple(self.translation.shape)}; the joints"
                f" are {', '.join(JOINTS)}"
            )


@dataclasses.dataclass(frozen=True)
class Transforms:
    """Rigid motion of every joint from the rest pose: x -> rotation (x - rest_position) +
    position."""

    rotation: Float[Tensor, "j 3 3"]
    quats_wxyz: Float[Tensor, "j 4"]
    rest_position: Float[Tensor, "j 3"]
    position: Float[Tensor, "j 3"]

    def to(self, device: torch.device | str) -> "Transforms":
        """The same motion on another device."""
        return Transforms(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Joints of a body in its rest pose: all that a pose needs.

    Raises:
        UserError: arrays that do not fit together, a parent that is no earlier joint, or one of
            `JOINTS` is absent.
    """

    joint_names: tuple[str, ...]
    joint_positions: Float[Tensor, "j 3"]
    parents: tuple[int, ...]
    """Index of each joint's parent, smaller than its own; -1 for the root, the first joint."""

    def __post_init__(self) -> None:
        joints = len(self.joint_names)
        if len(self.joint_positions) != joints or len(self.parents) != joints:
            raise UserError(
                f"the body names {joints} joints; positions and parents must have as many rows"
            )
        for joint, parent in enumerate(self.parents):
            if joint == 0 and parent != -1:
                self._refuse_parent(0, "it is the root, whose parent is -1")
            if joint > 0 and not 0 <= parent < joint:
                self._refuse_parent(joint, f"it must be an earlier joint, 0 to {joint - 1}")
        if missing := [name for name in JOINTS if name not in self.joint_names]:
            raise UserError(f"the body has no joint {', '.join(missing)}")

    def _refuse_parent(self, joint: int, wanted: str) -> NoReturn:
        raise UserError(
            f"the body's joint {joint} ({self.joint_names[joint]}) has the parent"
            f" {self.parents[joint]}; {wanted}"
        )

    def adjacent(self) -> Bool[Tensor, "j j"]:
        """Whether two joints are one, or parent and child."""
        near = torch.eye(len(self.parents), dtype=torch.bool)
        for child, parent in enumerate(self.parents):
            if parent >= 0:
                near[child, parent] = near[parent, child] = True
        return near

    def transforms(self, pose: Pose) -> Transforms:
        """Forward kinematics: every joint's motion from the rest pose."""
        local = dict(zip(JOINTS, pose.quats_wxyz, strict=True))
        still = torch.tensor([1.0, 0.0, 0.0, 0.0])
        quats: list[Tensor] = []
        positions: list[Tensor] = []
        for index, (name, parent) in enumerate(zip(self.joint_names, self.parents, strict=True)):
            own, rest = local.get(name, still), self.joint_positions[index]
            if parent < 0:
                quats.append(own)
                positions.append(rest + pose.translation)
                continue
            offset = rest - self.joint_positions[parent]
            turn = rotation.quat_to_matrix(quats[parent]) - torch.eye(3)
            # The difference from the rest pose is added, so that the identity pose is exact to the
            # last bit.
            moved = positions[parent] - self.joint_positions[parent]
            quats.append(rotation.quat_multiply(quats[parent], own))
            positions.append(rest + (moved + turn @ offset))
        quats_wxyz = torch.stack(quats)
        return Transforms(
            rotation.quat_to_matrix(quats_wxyz),
            quats_wxyz,
            self.joint_positions,
            torch.stack(positions),
        )


@dataclasses.dataclass(frozen=True)
class Body(Skeleton):
    """One body in its rest pose.

    Raises:
        UserError: arrays that do not fit together, weights that do not sum to one, a joint after
            its child.
    """

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    weights: Float[Tensor, "v j"]
    keypoint_joints: tuple[int, ...]
    """The joint that carries each of the 18 keypoints."""
    keypoint_positions: Float[Tensor, "18 3"]
    """Rest positions of `KEYPOINTS`."""
    keypoint_tolerance: float = 0.02
    """How far in front of a keypoint another surface may be met before the keypoint is hidden,
    world units (DreamWaltz's value)."""
    forehead: float = 0.6
    """How far the hairline is above the eyes, as a multiple of the eyes' height above the nose."""
    overlapping: bool = True
    """Whether parts of the surface lie inside others, as the mannequin's capsules do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        joints, vertices = len(self.joint_names), len(self.vertices)
        if self.weights.shape != (vertices, joints):
            raise UserError(
                f"the body's weights are {tuple(self.weights.shape)} for {vertices} vertices and"
                f" {joints} joints"
            )
        if len(self.faces) and not 0 <= int(self.faces.min()) <= int(self.faces.max()) < vertices:
            raise UserError(
                f"the body's faces name vertices beyond its {vertices}: another topology's faces?"
            )
        if not torch.allclose(self.weights.sum(dim=1), torch.ones(vertices), atol=1e-5):
            raise UserError("the body's skinning weights do not sum to one at every vertex")

    def keypoints(self, transforms: Transforms) -> Float[Tensor, "18 3"]:
        """World positions of the 18 keypoints."""
        index = list(self.keypoint_joints)
        offset = self.keypoint_positions - transforms.rest_position[index]
        turned = (transforms.rotation[index] @ offset.unsqueeze(-1)).squeeze(-1)
        return turned + transforms.position[index]
