"""An avatar as a mesh with a skin and animations, for engines: glTF binary, y up.

The mesh is the body's own, moved along its normals to where the splat's surface is, and painted by
the splats around each vertex. Its joints and weights are exact. A preview: hair and clothes are as
fine as the body's triangles.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy.spatial import KDTree

from gs_ssd.body.body import JOINTS, Skeleton
from gs_ssd.body.clips import Motion
from gs_ssd.errors import UserError
from gs_ssd.export.avatar_file import Avatar
from gs_ssd.export.frames import (
    frame_rotation,
    multiply_quaternions,
    quaternion_from_rotation,
)
from gs_ssd.export.glb import srgb_to_linear
from gs_ssd.export.glb_builder import SHORT, GlbBuilder

NEIGHBOURS = 16
"""Splats that a vertex looks at."""
REACH = 0.012
"""World units: falloff of what a splat counts, beyond the distance of the nearest one."""
FAR = 0.06
"""World units: a vertex without a splat within this lies inside the body, and stays."""
MOST = 0.08
"""World units: no vertex is moved farther."""


def write_rigged(
    path: str | os.PathLike[str],
    avatar: Avatar,
    motions: Sequence[Motion],
    *,
    name: str = "avatar",
) -> int:
    """Write the file; returns how many triangles it has.

    Raises:
        UserError: another suffix, or an avatar without splats.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise UserError(f"{path}: a rigged mesh is written as .glb")
    if len(avatar) == 0:
        raise UserError(f"cannot write {path}: the avatar has no splats")
    surface = dressed(avatar)
    turn = frame_rotation("world", "gltf")
    builder = GlbBuilder()
    skeleton = avatar.skeleton
    document = {
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [{"name": name, "mesh": 0, "skin": 0}, *_joint_nodes(skeleton, turn)],
        "meshes": [{"name": name, "primitives": [_primitive(builder, surface, avatar)]}],
        "materials": [
            {"name": "colours", "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}}
        ],
        "skins": [_skin(builder, skeleton, turn)],
    }
    if motions:
        document["animations"] = [_animation(builder, skeleton, m, turn) for m in motions]
    builder.write(path, document)
    return len(surface.faces)


class Surface(NamedTuple):
    """V painted vertices in the world frame."""

    vertices: Float[np.ndarray, "v 3"]
    normals: Float[np.ndarray, "v 3"]
    faces: Integer[np.ndarray, "f 3"]
    colors: Float[np.ndarray, "v 3"]
    """Display-referred, 0..1."""


def dressed(avatar: Avatar) -> Surface:
    """The body's mesh where the splat's surface is, in its colours."""
    mesh, splats = avatar.mesh, avatar.splats
    distance, near = KDTree(splats.means).query(mesh.vertices, k=min(NEIGHBOURS, len(splats)))
    distance, near = (x.reshape(len(mesh.vertices), -1) for x in (distance, near))
    beyond = distance**2 - distance[:, :1] ** 2
    weight = splats.opacities[near] * np.exp(-0.5 * beyond / REACH**2) + 1e-12
    weight /= weight.sum(axis=1, keepdims=True)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    offset = splats.means[near] - mesh.vertices[:, None]
    outwards = np.einsum("vk,vkc,vc->v", weight, offset, normals).clip(-MOST, MOST)
    outwards *= distance[:, 0] < FAR
    vertices = mesh.vertices + outwards[:, None] * normals
    colors = np.einsum("vk,vkc->vc", weight, splats.colors[near]).clip(0, 1)
    return Surface(vertices, vertex_normals(vertices, mesh.faces), mesh.faces, colors)


def vertex_normals(
    vertices: Float[np.ndarray, "v 3"], faces: Integer[np.ndarray, "f 3"]
) -> Float[np.ndarray, "v 3"]:
    """Unit normals, each face weighted by its area; +z where there is none."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    normal = np.cross(b - a, c - a)
    total = np.zeros_like(vertices, dtype=np.float64)
    for corner in range(3):
        np.add.at(total, faces[:, corner], normal)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), [0.0, 0.0, 1.0])


def _primitive(builder: GlbBuilder, surface: Surface, avatar: Avatar) -> dict[str, Any]:
    turn = frame_rotation("world", "gltf")
    weights = avatar.mesh.weights.astype(np.float64)
    weights = np.where(weights > 1e-6, weights, 0.0)
    # glTF: a joint of no weight is joint 0.
    joints = np.where(weights > 0, avatar.mesh.joints, 0)
    attributes = {
        "POSITION": builder.add(surface.vertices @ turn.T, bounds=True, vertices=True),
        "NORMAL": builder.add(surface.normals @ turn.T, vertices=True),
        "COLOR_0": builder.add(srgb_to_linear(surface.colors), vertices=True),
        "JOINTS_0": builder.add(joints, SHORT, vertices=True),
        "WEIGHTS_0": builder.add(weights / weights.sum(1, keepdims=True), vertices=True),
    }
    faces = builder.add_indices(surface.faces)
    return {"attributes": attributes, "indices": faces, "material": 0, "mode": 4}


def _joint_nodes(skeleton: Skeleton, turn: np.ndarray) -> list[dict[str, Any]]:
    """The joints; node 0 is the mesh, so joint j is node j + 1."""
    rest = skeleton.joint_positions.double().numpy()
    nodes = []
    for joint, (name, parent) in enumerate(
        zip(skeleton.joint_names, skeleton.parents, strict=True)
    ):
        offset = rest[joint] - (rest[parent] if parent >= 0 else 0.0)
        node: dict[str, Any] = {"name": name, "translation": (turn @ offset).tolist()}
        children = [k + 1 for k, above in enumerate(skeleton.parents) if above == joint]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _skin(builder: GlbBuilder, skeleton: Skeleton, turn: np.ndarray) -> dict[str, Any]:
    inverse = np.tile(np.eye(4), (len(skeleton.joint_names), 1, 1))
    inverse[:, :3, 3] = -skeleton.joint_positions.double().numpy() @ turn.T
    columns = inverse.transpose(0, 2, 1).reshape(-1, 16)  # column-major
    joints = list(range(1, len(inverse) + 1))
    return {"inverseBindMatrices": builder.add(columns), "joints": joints, "skeleton": 1}


def _animation(
    builder: GlbBuilder, skeleton: Skeleton, motion: Motion, turn: np.ndarray
) -> dict[str, Any]:
    """Rotations of the joints that a pose turns, and the way of the root."""
    poses = [*motion.poses, motion.poses[0]] if motion.loop else list(motion.poses)
    times = np.arange(len(poses))[:, None] / motion.fps
    clock = builder.add(times, bounds=True)
    axes = quaternion_from_rotation(turn)
    back = axes * np.array([1.0, -1.0, -1.0, -1.0])
    quats = np.stack([pose.quats_wxyz.double().numpy() for pose in poses])
    quats = multiply_quaternions(multiply_quaternions(axes, quats), back)
    quats = quats / np.linalg.norm(quats, axis=-1, keepdims=True)
    samplers, channels = [], []

    def move(joint: int, what: str, values: np.ndarray) -> None:
        target = {"node": joint + 1, "path": what}
        channels.append({"sampler": len(samplers), "target": target})
        output = builder.add(values)
        samplers.append({"input": clock, "output": output, "interpolation": "LINEAR"})

    for index, name in enumerate(JOINTS):
        move(skeleton.joint_names.index(name), "rotation", np.roll(quats[:, index], -1, axis=1))
    rest = skeleton.joint_positions[0].double().numpy()
    moved = np.stack([rest + pose.translation.double().numpy() for pose in poses])
    move(0, "translation", moved @ turn.T)
    return {"name": motion.name, "samplers": samplers, "channels": channels}
