"""BVH motion files: read, and carried over to our skeleton.

A BVH file has y up and faces +z by custom; its zero pose is given by its offsets, often a T-pose.
Bones are matched by name (Biovision, CMU, Mixamo and Blender names), and each of our joints takes
over its bone's turn in world axes, so the two skeletons may have different rest poses and
proportions.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.body.body import JOINTS, Pose, Skeleton
from gs_ssd.digits import whole_number
from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file
from gs_ssd.maths import rotation
from gs_ssd.maths.conventions import FROM_WORLD

MAX_BYTES = 256 * 2**20
NAMES: dict[str, tuple[str, ...]] = {
    "pelvis": ("hips", "hip", "pelvis", "root"),
    "spine": ("spine", "lowerback", "abdomen", "spine01", "torso"),
    "chest": ("chest", "spine1", "spine2", "upperchest", "spine02", "spine03", "thorax"),
    "neck": ("neck", "neck1", "neck01"),
    "head": ("head",),
    **{
        f"{side}_{ours}": tuple(
            pattern.replace("@", mark) for pattern in patterns for mark in marks
        )
        for side, marks in (("right", ("right", "r")), ("left", ("left", "l")))
        for ours, patterns in {
            "shoulder": ("@arm", "@shoulder", "@uparm", "@upperarm", "upperarm@", "@humerus"),
            "elbow": (
                "@forearm",
                "@lowarm",
                "@lowerarm",
                "lowerarm@",
                "@elbow",
                "forearm@",
                "@radius",
            ),
            "wrist": ("@hand", "@wrist", "hand@"),
            "hip": ("@upleg", "@thigh", "@hip", "thigh@", "@upperleg", "@femur"),
            "knee": ("@leg", "@shin", "@lowleg", "@knee", "shin@", "calf@", "@lowerleg", "@tibia"),
            "ankle": ("@foot", "@ankle", "foot@"),
        }.items()
    },
}
"""For each of our joints the names it may have in a file, best first; case, separators and a prefix
do not count."""
REQUIRED = tuple(name for name in JOINTS if name not in ("spine", "chest", "neck", "head"))

TO_WORLD = torch.from_numpy(FROM_WORLD["gltf"].T).float()
"""BVH axes (y up, facing +z, as glTF's) to ours (z up, facing +y)."""


class Bone(NamedTuple):
    """One joint of the file: its name, parent's index (-1: the root), rest offset, and channels in
    the file's order."""

    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[str, ...]


class Motion(NamedTuple):
    """A motion as it stands in the file."""

    bones: tuple[Bone, ...]
    frame_seconds: float
    values: Float[Tensor, "frames channels"]


def read(path: Path) -> Motion:
    """Read a BVH file.

    Raises:
        UserError: no BVH file, a truncated one, or one whose numbers do not fit its skeleton.
    """
    try:
        if require_plain_file(path) > MAX_BYTES:
            raise UserError(
                f"{path} is larger than {MAX_BYTES >> 20} MiB; cut the motion into shorter files"
            )
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read the BVH file {path}: {error.strerror}") from error
    head, sign, tail = text.partition("MOTION")
    if not sign or not head.lstrip().upper().startswith("HIERARCHY"):
        raise UserError(f"{path} is not a BVH file: it needs a HIERARCHY and a MOTION section")
    bones = _hierarchy(head.split()[1:], path)
    return _motion(bones, tail, path)


def poses(motion: Motion, body: Skeleton, source: str = "the BVH file") -> list[Pose]:
    """The motion on `body`, one pose per frame; the first stands at the origin, and the pelvis's
    path from there is scaled by the ratio of the legs' lengths.

    Raises:
        UserError: the file lacks limbs of ours; they are named, with the names that it has.
    """
    match = _match([bone.name for bone in motion.bones])
    if missing := [name for name in REQUIRED if name not in match]:
        raise UserError(
            f"{source} has no bone for {', '.join(missing)}; it has"
            f" {', '.join(bone.name for bone in motion.bones)}. Rename its bones, for instance to"
            " Mixamo's names"
        )
    rest = _rest_positions(motion.bones)
    align = _alignment(body, rest, match)
    scale = _leg(body.joint_positions, {n: body.joint_names.index(n) for n in JOINTS}) / _leg(
        rest, match
    )
    moved = [_root_position(motion, frame) for frame in motion.values]
    return [
        Pose(_local_turns(motion, frame, body, match, align), (position - moved[0]) * scale)
        for frame, position in zip(motion.values, moved, strict=True)
    ]


def _hierarchy(words: list[str], path: Path) -> tuple[Bone, ...]:
    bones: list[Bone] = []
    open_bones: list[int] = []
    index, end_site = 0, False
    try:
        while index < len(words):
            word = words[index].upper()
            if word in ("ROOT", "JOINT"):
                parent = open_bones[-1] if open_bones else -1
                bones.append(Bone(words[index + 1], parent, (0.0, 0.0, 0.0), ()))
                index += 2
            elif word == "END":
                end_site, index = True, index + 2
            elif word == "{":
                open_bones.append(-1 if end_site else len(bones) - 1)
                index += 1
            elif word == "}":
                end_site = False
                open_bones.pop()
                index += 1
            elif word == "OFFSET":
                x, y, z = (_number(text) for text in words[index + 1 : index + 4])
                if not end_site:
                    bones[-1] = bones[-1]._replace(offset=(x, y, z))
                index += 4
            elif word == "CHANNELS":
                count = int(words[index + 1])
                channels = tuple(name.lower() for name in words[index + 2 : index + 2 + count])
                bones[-1] = bones[-1]._replace(channels=channels)
                index += 2 + count
            else:
                raise UserError(
                    f"{path}: the hierarchy holds {words[index]!r}, which BVH does not know"
                )
    except (IndexError, ValueError) as error:
        raise UserError(
            f"{path}: the hierarchy is damaged near {' '.join(words[index : index + 4])!r}"
        ) from error
    if open_bones or not bones:
        raise UserError(f"{path}: the hierarchy ends early")
    allowed = {f"{axis}{kind}" for axis in "xyz" for kind in ("position", "rotation")}
    if unknown := sorted({channel for bone in bones for channel in bone.channels} - allowed):
        raise UserError(f"{path}: unknown channels {', '.join(unknown)}")
    return tuple(bones)


def _motion(bones: tuple[Bone, ...], tail: str, path: Path) -> Motion:
    found = re.match(r"\s*Frames:\s*(\d+)\s*Frame\s+Time:\s*(\S+)", tail, re.IGNORECASE)
    if found is None:
        raise UserError(f"{path}: MOTION must begin with `Frames:` and `Frame Time:`")
    channels = sum(len(bone.channels) for bone in bones)
    try:
        frames = whole_number(found[1])
        seconds = _number(found[2])
        numbers = [_number(word) for word in tail[found.end() :].split()]
    except ValueError as error:
        raise UserError(
            f"{path}: the motion holds something that is not a number ({error})"
        ) from error
    if not frames or seconds <= 0:
        raise UserError(f"{path}: {frames} frames, {seconds:g} seconds each; both must be above 0")
    if len(numbers) != frames * channels:
        raise UserError(
            f"{path}: {frames} frames of {channels} channels need {frames * channels} numbers, it"
            f" has {len(numbers)}"
        )
    return Motion(bones, seconds, torch.tensor(numbers).reshape(frames, channels))


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _match(names: list[str]) -> dict[str, int]:
    """Our joints to the file's bones."""
    plain = [re.sub(r"[^a-z0-9]", "", name.split(":")[-1].lower()) for name in names]
    found: dict[str, int] = {}
    for ours, candidates in NAMES.items():
        for candidate in candidates:
            if candidate in plain and plain.index(candidate) not in found.values():
                found[ours] = plain.index(candidate)
                break
    return found


def _rest_positions(bones: tuple[Bone, ...]) -> Float[Tensor, "b 3"]:
    positions: list[Tensor] = []
    for bone in bones:
        offset = TO_WORLD @ torch.tensor(bone.offset)
        positions.append(offset if bone.parent < 0 else positions[bone.parent] + offset)
    return torch.stack(positions)


CHILD = {
    **{
        f"{side}_{a}": f"{side}_{b}"
        for side in ("right", "left")
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"))
    },
    **{
        f"{side}_{a}": f"{side}_{b}"
        for side in ("right", "left")
        for a, b in (("hip", "knee"), ("knee", "ankle"))
    },
}


def _alignment(
    body: Skeleton, rest: Float[Tensor, "b 3"], match: dict[str, int]
) -> dict[str, Float[Tensor, "4"]]:
    """For each joint the turn from our rest pose to the file's: the limbs' directions differ, the
    trunk's do not."""
    align = {name: torch.tensor([1.0, 0.0, 0.0, 0.0]) for name in JOINTS}
    for name, child in CHILD.items():
        ours = _position(body, child) - _position(body, name)
        theirs = rest[match[child]] - rest[match[name]]
        align[name] = rotation.quat_between(ours, theirs)
    for side in ("right", "left"):
        align[f"{side}_wrist"] = align[f"{side}_elbow"]
    return align


def _position(body: Skeleton, name: str) -> Float[Tensor, "3"]:
    return body.joint_positions[body.joint_names.index(name)]


def _leg(positions: Float[Tensor, "b 3"], index: dict[str, int]) -> float:
    thigh = positions[index["right_hip"]] - positions[index["right_knee"]]
    shin = positions[index["right_knee"]] - positions[index["right_ankle"]]
    return max(float(thigh.norm() + shin.norm()), 1e-6)


def _root_position(motion: Motion, values: Float[Tensor, " channels"]) -> Float[Tensor, "3"]:
    position = torch.zeros(3)
    for name, value in zip(motion.bones[0].channels, values, strict=False):
        if name.endswith("position"):
            position = position + TO_WORLD @ torch.eye(3)["xyz".index(name[0])] * value
    return position


def _world_turns(motion: Motion, values: Float[Tensor, " channels"]) -> list[Float[Tensor, "4"]]:
    """Each bone's turn from the file's zero pose, in our axes.

    The file's first channel is the outermost."""
    turns: list[Tensor] = []
    start = 0
    for bone in motion.bones:
        local = torch.tensor([1.0, 0.0, 0.0, 0.0])
        for name, value in zip(
            bone.channels, values[start : start + len(bone.channels)], strict=True
        ):
            if name.endswith("rotation"):
                axis = TO_WORLD @ torch.eye(3)["xyz".index(name[0])]
                local = rotation.quat_multiply(local, rotation.quat_about(axis, value.deg2rad()))
        start += len(bone.channels)
        turns.append(
            local if bone.parent < 0 else rotation.quat_multiply(turns[bone.parent], local)
        )
    return turns


def _local_turns(
    motion: Motion,
    values: Float[Tensor, " channels"],
    body: Skeleton,
    match: dict[str, int],
    align: dict[str, Float[Tensor, "4"]],
) -> Float[Tensor, "j 4"]:
    turns = _world_turns(motion, values)
    world: dict[str, Tensor] = {}
    local = Pose.rest().quats_wxyz.clone()
    for name, parent in zip(body.joint_names, body.parents, strict=True):
        above = (
            world[body.joint_names[parent]] if parent >= 0 else torch.tensor([1.0, 0.0, 0.0, 0.0])
        )
        if name not in match or name not in JOINTS:
            world[name] = above
            continue
        world[name] = rotation.quat_multiply(turns[match[name]], align[name])
        inverse = above * torch.tensor([1.0, -1.0, -1.0, -1.0])
        local[JOINTS.index(name)] = rotation.quat_multiply(inverse, world[name])
    return local
