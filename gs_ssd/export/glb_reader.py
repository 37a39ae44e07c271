"""Reading `KHR_gaussian_splatting` out of a `.glb`: the scene's nodes, and all of its splats in
one."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.glb import EXTENSION
from gs_ssd.export.glb_file import GlbFile
from gs_ssd.export.glb_primitive import Primitive, read_primitive
from gs_ssd.export.splats import Splats

log = logging.getLogger(__name__)

MAX_DEPTH, MAX_NODES = 32, 10_000
Placed = tuple[Primitive, np.ndarray]

KNOWN_EXTENSIONS = (EXTENSION, "KHR_mesh_quantization")
OF_SURFACES = ("KHR_materials_", "KHR_texture_", "KHR_lights_", "EXT_texture_")
"""Extensions that do not concern splats, whether a file requires them or not."""


def read_glb(path: str | os.PathLike[str]) -> Splats:
    """All splats of the file's scene in one, in the glTF frame, with the nodes' transforms applied.

    Raises:
        UserError: no splats, compressed ones, data outside the file, indices that lead nowhere, or
            a node that stretches its splats unevenly.
    """
    path = Path(path)
    try:
        return _Reader(path).splats()
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise UserError(f"{path}: a damaged GLB ({type(error).__name__}: {error})") from error


class _Reader:
    """One file, and its splats where the scene's nodes put them."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, GlbFile(path)
        self.placed: list[Placed] = []
        self.known: dict[tuple[int, int], Primitive] = {}  # a mesh may hang on many nodes
        self.budget = MAX_NODES  # a graph with loops or shared children must end

    def splats(self) -> Splats:
        document = self.file.document
        nodes = document.get("nodes", [])
        scenes = document.get("scenes") or [{"nodes": list(range(len(nodes)))}]
        for index in scenes[document.get("scene", 0)].get("nodes", []):
            self._walk(index, np.eye(4), 0)
        if not self.placed:
            raise UserError(f"{self.path}: a GLB without Gaussian splats ({EXTENSION})")
        self._refuse_unknown_extensions()
        logarithms = any((part.sizes < 0).any() for part in self.known.values())
        if logarithms:  # of the whole file: one primitive alone may have none below zero
            log.warning(
                "%s: negative scales: taken as logarithms, as drafts of the extension had them",
                self.path,
            )
        parts = [self._transformed(part, matrix, logarithms) for part, matrix in self.placed]
        return Splats.joined(parts, "gltf")

    def _refuse_unknown_extensions(self) -> None:
        """After those of the splats, which have sentences of their own."""
        unknown = [
            name
            for name in self.file.document.get("extensionsRequired", [])
            if name not in KNOWN_EXTENSIONS and not name.startswith(OF_SURFACES)
        ]
        if unknown:
            raise UserError(f"{self.path}: it requires {', '.join(unknown)}, which is not read")

    def _walk(self, index: int, parent: np.ndarray, depth: int) -> None:
        self.budget -= 1
        if depth > MAX_DEPTH or self.budget < 0:
            raise UserError(f"{self.path}: its scene graph has loops, is too deep or too large")
        node = self.file.document["nodes"][index]
        matrix = parent @ _local_matrix(node)
        if "mesh" in node:
            for number, primitive in enumerate(
                self.file.document["meshes"][node["mesh"]]["primitives"]
            ):
                if EXTENSION not in primitive.get("extensions", {}):
                    continue
                key = node["mesh"], number
                if key not in self.known:
                    self.known[key] = read_primitive(self.file, primitive)
                self.placed.append((self.known[key], matrix))
                count = sum(len(part) for part, _ in self.placed)
                if (
                    count > len(self.file.binary) // 8
                ):  # an honest splat takes 20 bytes at the least
                    raise UserError(f"{self.path}: more splats than its data can hold")
        for child in node.get("children", []):
            self._walk(child, matrix, depth + 1)

    def _transformed(self, part: Primitive, matrix: np.ndarray, logarithms: bool) -> Splats:
        with np.errstate(
            divide="ignore"
        ):  # a size of zero becomes non-finite, which is counted later
            log_scales = part.sizes if logarithms else np.log(part.sizes)
        wxyz = np.roll(part.quats_xyzw, 1, axis=1)
        splats = Splats(part.means, log_scales, wxyz, part.logit_opacities, part.sh, "gltf")
        if np.array_equal(matrix, np.eye(4)):
            return splats
        if not np.isfinite(matrix).all():
            raise UserError(f"{self.path}: a node's transform is not finite")
        if not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise UserError(f"{self.path}: a node's transform is a projection; apply it first")
        linear = matrix[:3, :3]
        scale = float(np.cbrt(np.linalg.det(linear)))
        even = np.allclose(linear @ linear.T, scale**2 * np.eye(3), rtol=1e-3, atol=1e-3 * scale**2)
        if scale <= 0 or not even:
            raise UserError(
                f"{self.path}: a node mirrors or unevenly stretches its splats; apply its transform"
                " first"
            )
        turned = splats.rotated(linear / scale)
        return Splats(
            turned.means * scale + matrix[:3, 3],
            turned.log_scales + np.log(scale),
            turned.quats_wxyz,
            turned.logit_opacities,
            turned.sh,
            "gltf",
        )


def _local_matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    rotation = np.array(node.get("rotation", [0, 0, 0, 1]), dtype=np.float64).reshape(4)
    if not np.linalg.norm(rotation) > 0:
        raise ValueError("a rotation of zero length")
    turn = rotations_from_quaternions(np.roll(rotation, 1)[None])[0]
    matrix[:3, :3] = turn * np.array(node.get("scale", [1, 1, 1]), dtype=np.float64).reshape(3)
    matrix[:3, 3] = np.array(node.get("translation", [0, 0, 0]), dtype=np.float64).reshape(3)
    return matrix
