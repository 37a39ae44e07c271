"""The parametric body Anny (Brégier et al., arXiv 2511.03589), with the middle of each of its
settings: code under Apache-2.0, data of MakeHuman under CC0, from the package `anny`.

Its own rest pose has bent elbows; ours is the same A-pose as the mannequin's, so that poses, clips
and BVH files mean the same on both. The package takes minutes and more than a gigabyte to build its
model, so what we take from it is kept in the user's cache.
"""

import dataclasses
import importlib.metadata
import importlib.util
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from gs_ssd.body import mannequin
from gs_ssd.body.body import JOINTS, KEYPOINTS, Body, Pose
from gs_ssd.body.skinning import skin_points
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.maths import rotation
from gs_ssd.maths.conventions import FROM_WORLD

log = logging.getLogger(__name__)

TOPOLOGY: Final = "anny-notongue"
"""The whole body as triangles. (`smplx` and `smpl` would download data that is not free.)"""
BONES: Final = {
    "pelvis": "root",
    "spine": "spine04",
    "chest": "spine02",
    "neck": "neck01",
    "head": "head",
    **{
        f"{side}_{ours}": f"{theirs}.{mark}"
        for side, mark in (("right", "R"), ("left", "L"))
        for ours, theirs in (
            ("shoulder", "upperarm01"),
            ("elbow", "lowerarm01"),
            ("wrist", "wrist"),
            ("hip", "upperleg01"),
            ("knee", "lowerleg01"),
            ("ankle", "foot"),
        )
    },
}
"""Anny's bone for each of our joints; its other bones, fingers for instance, follow their nearest
ancestor among these."""
FACE: Final = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
"""Keypoints that the package finds from vertices; the others are joints."""
FORMAT: Final = "gs-ssd anny 1"
ARRAYS: Final = ("vertices", "faces", "joint_positions", "weights", "keypoint_positions")
TESTED: Final = "0.6.2"
FROM_BLENDER: Final = torch.from_numpy(FROM_WORLD["blender"]).float()
"""Rows of points in the package's axes (z up, facing -y) times this are in ours."""
STILL: Final = torch.tensor([1.0, 0.0, 0.0, 0.0])
BACK: Final = torch.tensor([1.0, -1.0, -1.0, -1.0])
"""A unit quaternion times this is its inverse."""
LIMBS: Final = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))


def create() -> Body:
    """The body in our A-pose, from the cache where it is there.

    Raises:
        UserError: the package is missing, or its model does not have what we ask of it.
    """
    if importlib.util.find_spec("anny") is None:
        raise UserError(
            "avatar.body=anny needs the package anny: pip install 'gs-ssd[avatar]' (or"
            " avatar.body=mannequin, which needs none)"
        )
    version = importlib.metadata.version("anny")
    path = cache_folder() / f"anny-{version}.npz"
    return _cached(path) or _built(path, version)


def cache_folder() -> Path:
    """Where programs keep what they can make again, ours among them."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "gs-ssd"


def _cached(path: Path) -> Body | None:
    """The body in the file; `None` where there is none that can be used."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            if str(archive["format"]) != FORMAT:
                return None
            return _body({name: archive[name] for name in archive.files if name != "format"})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, UserError) as error:
        log.warning("%s is damaged (%s); it is made again", path, type(error).__name__)
        return None


def _built(path: Path, version: str) -> Body:
    log.warning(
        "making the body of anny %s, once: minutes, 2 GB of memory; it is kept in %s", version, path
    )
    theirs = at_rest()
    body = posed(theirs, in_a_pose(theirs))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, format=np.array(FORMAT), **_arrays(body))
    return body


def _arrays(body: Body) -> dict[str, Any]:
    return {name: getattr(body, name).numpy() for name in ARRAYS}


def _body(arrays: Mapping[str, np.ndarray]) -> Body:
    """Raises:
    UserError: arrays that are no body.
    """
    carrier = {"neck": "chest"} | dict.fromkeys(FACE, "head")
    return Body(
        joint_names=JOINTS,
        parents=mannequin.create().parents,
        keypoint_joints=tuple(JOINTS.index(carrier.get(name, name)) for name in KEYPOINTS),
        keypoint_tolerance=0.03,  # its eyes lie .025 behind their lids
        forehead=2.3,
        overlapping=False,
        **{name: torch.from_numpy(arrays[name]) for name in ARRAYS},
    )


@contextmanager
def _building_place(paths: Any) -> Iterator[None]:
    """The package keeps half a gigabyte of its own where it builds: a folder for the moment, unless
    the user has its cache already."""
    own = paths.get_anny_cache_path()
    if own.is_dir():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="gs-ssd-anny-") as folder:
        paths.set_anny_cache_path(folder)
        try:
            yield
        finally:
            paths.set_anny_cache_path(own)


def at_rest() -> Body:
    """The body in the package's rest pose, in our axes, metres.

    Raises:
        UserError: another version, which lacks a bone.
    """
    import anny
    import anny.paths

    with _building_place(anny.paths):
        # "lbs" needs no Warp; "original" spares a basis for shapes that we do not ask for.
        model = anny.Anny(
            topology=TOPOLOGY, skinning_method="lbs", phenotype_blendshapes="original"
        )
    labels, parents = list(model.bone_labels), list(model.bone_parents)
    if missing := [bone for bone in BONES.values() if bone not in labels]:
        raise UserError(
            f"this version of anny has no bone {', '.join(missing)}: pip install anny=={TESTED}"
        )
    rest = model()
    heads = rest["rest_bone_heads"][0][[labels.index(BONES[name]) for name in JOINTS]]
    face = anny.KeypointsRegressor.coco(model, labels=list(FACE))(rest)[0]
    at = dict(zip(JOINTS, heads, strict=True)) | dict(zip(FACE, face, strict=True))
    at["neck"] = (at["right_shoulder"] + at["left_shoulder"]) / 2
    owner = torch.tensor(_owners(labels, parents))[model.vertex_bone_indices]
    weights = torch.zeros(len(owner), len(JOINTS), dtype=model.vertex_bone_weights.dtype)
    weights.scatter_add_(1, owner, model.vertex_bone_weights)
    points = {
        "vertices": rest["rest_vertices"][0],
        "joint_positions": heads,
        "keypoint_positions": torch.stack([at[name] for name in KEYPOINTS]),
    }
    arrays = {name: (x @ FROM_BLENDER.to(x)).float().numpy() for name, x in points.items()}
    weights = weights / weights.sum(dim=1, keepdim=True)
    return _body(arrays | {"weights": weights.float().numpy(), "faces": model.faces.long().numpy()})


def _owners(labels: Sequence[str], parents: Sequence[int]) -> list[int]:
    """The joint of ours that carries each of the package's bones."""
    ours = {bone: JOINTS.index(name) for name, bone in BONES.items()}
    owners: list[int] = []
    for label, parent in zip(labels, parents, strict=True):
        owners.append(ours[label] if label in ours else owners[parent])
    return owners


def in_a_pose(body: Body) -> Pose:
    """The pose that gives the body's limbs the directions of the mannequin's.

    Hands go on along their forearms; feet stay level.
    """
    target = mannequin.joints()
    place = dict(zip(JOINTS, body.joint_positions, strict=True))
    along = {f"{s}_{a}": f"{s}_{b}" for s in ("right", "left") for a, b in LIMBS}
    local, world = Pose.rest().quats_wxyz.clone(), {}
    for index, (name, parent) in enumerate(zip(JOINTS, body.parents, strict=True)):
        above = STILL if parent < 0 else world[JOINTS[parent]]
        turn = above
        if name in along:
            bone = rotation.quat_to_matrix(above) @ (place[along[name]] - place[name])
            wanted = torch.tensor(target[along[name]]) - torch.tensor(target[name])
            turn = rotation.quat_multiply(rotation.quat_between(bone, wanted), above)
        elif name.endswith("ankle"):
            turn = STILL
        world[name] = turn
        local[index] = rotation.quat_multiply(above * BACK, turn)
    return Pose(local, torch.zeros(3))


def posed(body: Body, pose: Pose) -> Body:
    """The body with this pose as its rest pose, as tall as the mannequin and on the same ground."""
    moved = body.transforms(pose)
    vertices = skin_points(body.vertices, body.weights, moved)
    ground, top = (float(z) for z in mannequin.create().vertices[:, 2].aminmax())
    low, high = (float(z) for z in vertices[:, 2].aminmax())
    size = (top - ground) / (high - low)
    shift = torch.tensor([0.0, 0.0, ground - size * low])
    return dataclasses.replace(
        body,
        vertices=size * vertices + shift,
        joint_positions=size * moved.position + shift,
        keypoint_positions=size * body.keypoints(moved) + shift,
    )
