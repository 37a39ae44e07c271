"""An avatar in a file: the splat in its rest pose, its skeleton, and which joints carry each splat.

A NumPy archive (`.npz`, without pickles), in world axes. Four joints a splat, as glTF has them.
"""

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.body.body import Body, Pose, Skeleton
from gs_ssd.body.skinning import skin_gaussians
from gs_ssd.errors import UserError
from gs_ssd.export.splats import ARRAYS, Splats, from_gaussians, to_gaussians
from gs_ssd.files import atomic_path

FILE = "avatar.npz"
"""Its name in a run's folder."""
FORMAT = "gs-ssd avatar 1"
INFLUENCES = 4
MAX_BYTES = 2 << 30
FIX = "train it again, or take it from a backup"


class BodyMesh(NamedTuple):
    """The body's own surface in the rest pose, and which joints carry it."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Int[np.ndarray, "f 3"]
    joints: Int[np.ndarray, "v 4"]
    weights: Float[np.ndarray, "v 4"]


@dataclasses.dataclass(frozen=True)
class Avatar:
    """N splats in the rest pose of a skeleton of J joints."""

    splats: Splats
    """In the world frame."""
    skeleton: Skeleton
    joints: Int[np.ndarray, "n 4"]
    weights: Float[np.ndarray, "n 4"]
    """Rows sum to one."""
    mesh: BodyMesh

    def __len__(self) -> int:
        return len(self.splats)

    def take(self, index: np.ndarray) -> "Avatar":
        """The splats that a boolean mask or an integer index selects."""
        return dataclasses.replace(
            self,
            splats=self.splats.take(index),
            joints=self.joints[index],
            weights=self.weights[index],
        )

    def dense_weights(self) -> Float[Tensor, "n j"]:
        """The weights of all joints."""
        dense = torch.zeros(len(self), len(self.skeleton.joint_names))
        return dense.scatter_add_(
            1, torch.from_numpy(self.joints).long(), torch.from_numpy(self.weights)
        )

    def posed(self, pose: Pose) -> Splats:
        """The splat in a pose, in the world frame."""
        moved = self.skeleton.transforms(pose)
        splat = skin_gaussians(to_gaussians(self.splats), self.dense_weights(), moved)
        return dataclasses.replace(from_gaussians(splat), antialiased=self.splats.antialiased)


def bind(splats: Splats, weights: Float[Tensor, "n j"], body: Body) -> Avatar:
    """An avatar whose splats and vertices keep the heaviest four of their joints."""
    mesh = BodyMesh(
        body.vertices.numpy(), body.faces.numpy().astype(np.int32), *heaviest(body.weights)
    )
    plain = Skeleton(body.joint_names, body.joint_positions, body.parents)
    return Avatar(splats.to_frame("world"), plain, *heaviest(weights), mesh)


def heaviest(
    weights: Float[Tensor, "n j"],
) -> tuple[Int[np.ndarray, "n 4"], Float[np.ndarray, "n 4"]]:
    """The four heaviest joints of each row and their weights, which sum to one."""
    values, joints = weights.detach().cpu().topk(INFLUENCES, dim=1)
    values = values / values.sum(dim=1, keepdim=True)
    return joints.numpy().astype(np.int32), values.numpy()


def write_avatar(path: str | os.PathLike[str], avatar: Avatar) -> None:
    """Write the file, whole or not at all."""
    arrays = {name: getattr(avatar.splats, name) for name in ARRAYS}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array(FORMAT),
            **arrays,
            joints=avatar.joints,
            weights=avatar.weights,
            **{f"body_{name}": part for name, part in avatar.mesh._asdict().items()},
            joint_names=np.array(avatar.skeleton.joint_names),
            joint_positions=avatar.skeleton.joint_positions.numpy(),
            parents=np.array(avatar.skeleton.parents),
        )


def read_avatar(path: Path) -> Avatar:
    """Read the file.

    Raises:
        UserError: it is not there, damaged, or no avatar.
    """
    if not path.is_file():
        raise UserError(
            f"there is no {path}; runs with asset=avatar leave one, and no other splat has a body"
        )
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES >> 30} GiB; no avatar of ours is")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        if str(found["format"]) != FORMAT:
            raise UserError(f"{path} is no avatar of ours: its format is {found['format']}")
        return _checked(found, path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged or no avatar ({type(error).__name__}); {FIX}"
        ) from error


def _checked(found: dict[str, np.ndarray], path: Path) -> Avatar:
    means, log_scales, quats_wxyz, logit_opacities, sh = (found[name] for name in ARRAYS)
    splats = Splats(means, log_scales, quats_wxyz, logit_opacities, sh, frame="world")
    names = tuple(str(name) for name in found["joint_names"])
    try:
        skeleton = Skeleton(
            names,
            torch.from_numpy(found["joint_positions"].astype(np.float32)),
            tuple(_whole(found, "parents", path).tolist()),
        )
    except UserError as error:
        raise UserError(f"{path}: {error}; {FIX}") from error
    joints, weights = _carried(found, "", len(splats), len(names), path)
    vertices, faces = found["body_vertices"].astype(np.float32), _whole(found, "body_faces", path)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise UserError(f"{path}: the body's faces name vertices that it does not have")
    carried = _carried(found, "body_", len(vertices), len(names), path)
    for name, numbers in (("vertices", vertices), ("joints", found["joint_positions"])):
        if not np.isfinite(numbers).all():
            raise UserError(f"{path}: the positions of the body's {name} are not all finite")
    mesh = BodyMesh(vertices, faces.astype(np.int32), *carried)
    return Avatar(splats, skeleton, joints, weights, mesh)


def _whole(found: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """An array of indices as it is in the file: no cast may bring one within its range."""
    if not np.issubdtype(found[name].dtype, np.integer):
        raise UserError(f"{path}: {name} are {found[name].dtype}, not whole numbers; {FIX}")
    return found[name]


def _carried(
    found: dict[str, np.ndarray], prefix: str, rows: int, num_joints: int, path: Path
) -> tuple[Int[np.ndarray, "n 4"], Float[np.ndarray, "n 4"]]:
    joints = _whole(found, f"{prefix}joints", path)
    weights = found[f"{prefix}weights"].astype(np.float32)
    shape = (rows, INFLUENCES)
    if joints.shape != shape or weights.shape != shape:
        what = "vertices of the body" if prefix else "splats"
        raise UserError(
            f"{path}: {len(joints)} rows of joints and {len(weights)} of weights for {rows} {what};"
            f" each needs one, of {INFLUENCES} numbers"
        )
    if rows and not 0 <= joints.min() <= joints.max() < num_joints:
        raise UserError(f"{path}: splats are bound to joints that the skeleton does not have")
    if not np.allclose(weights.sum(axis=1), 1.0, atol=1e-4):
        raise UserError(f"{path}: the skinning weights do not sum to one at every splat")
    return joints.astype(np.int32), weights
