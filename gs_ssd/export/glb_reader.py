"""Reading `KHR_gaussian_splatting` out of a `.glb`, trusting nothing that it says about itself."""

import dataclasses
import json
import logging
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.bounded import MAX_SPLATS, read_bytes
from gs_ssd.export.frames import rotations_from_quaternions
from gs_ssd.export.glb import EXTENSION, harmonic_names
from gs_ssd.export.splats import ARRAYS, BASES, SH_C0, Splats, logit

log = logging.getLogger(__name__)

MAX_JSON = 4 << 20
MAX_DEPTH, MAX_NODES = 32, 10_000
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def read_glb(path: str | os.PathLike[str]) -> Splats:
    """All splats of the file's scene in one, in the glTF frame, with the nodes' transforms applied.

    Raises:
        UserError: no splats, compressed ones, data outside the file, indices that lead nowhere, or a node that
            stretches its splats unevenly.
    """
    path = Path(path)
    try:
        return _Reader(path).splats()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: a damaged GLB ({type(error).__name__}: {error})") from error


class _Reader:
    """One file's JSON and binary chunk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = memoryview(read_bytes(path))
        if len(data) < 20 or bytes(data[:4]) != b"glTF":
            hint = "; a .gltf with separate files is not read" if bytes(data[:1]) == b"{" else ""
            raise UserError(f"{path}: not a GLB file{hint}")
        _, version, total = struct.unpack_from("<4sII", data)
        length, kind = struct.unpack_from("<I4s", data, 12)
        if version != 2 or kind != b"JSON":
            raise UserError(f"{path}: a GLB of version {version}; version 2 is read")
        if total > len(data) or 20 + length > len(data):
            raise UserError(f"{path}: truncated: {total} bytes promised, {len(data)} are there")
        if length > MAX_JSON:
            raise UserError(f"{path}: {length >> 20} MB of JSON; not a Gaussian splat")
        self.document = json.loads(bytes(data[20 : 20 + length]))
        self.binary = memoryview(b"")
        start = 20 + length
        if start + 8 <= len(data):
            length, kind = struct.unpack_from("<I4s", data, start)
            if kind == b"BIN\0":
                if start + 8 + length > len(data):
                    raise UserError(f"{path}: truncated: the binary part ends early")
                self.binary = data[start + 8 : start + 8 + length]

    def splats(self) -> Splats:
        document = self.document
        parts: list[Splats] = []
        nodes = document.get("nodes", [])
        scenes = document.get("scenes") or [{"nodes": list(range(len(nodes)))}]
        budget = [MAX_NODES]  # a graph with loops or shared children must end
        for index in scenes[document.get("scene", 0)].get("nodes", []):
            self._walk(index, np.eye(4), parts, budget, 0)
        if not parts:
            raise UserError(f"{self.path}: a GLB without Gaussian splats ({EXTENSION})")
        degree = max(part.sh_degree for part in parts)
        padded = [part.with_sh_degree(degree) for part in parts]
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in padded]) for name in ARRAYS}
        return dataclasses.replace(padded[0], **joined)

    def _walk(self, index: int, parent: np.ndarray, parts: list[Splats], budget: list[int], depth: int) -> None:
        budget[0] -= 1
        if depth > MAX_DEPTH or budget[0] < 0:
            raise UserError(f"{self.path}: its scene graph has loops, is too deep or too large")
        node = self.document["nodes"][index]
        matrix = parent @ _local_matrix(node)
        if "mesh" in node:
            for primitive in self.document["meshes"][node["mesh"]]["primitives"]:
                if EXTENSION in primitive.get("extensions", {}):
                    parts.append(self._transformed(self._primitive(primitive), matrix))
                    if sum(map(len, parts)) > len(self.binary) // 8:  # an honest splat takes 20 bytes at the least
                        raise UserError(f"{self.path}: more splats than its data can hold")
        for child in node.get("children", []):
            self._walk(child, matrix, parts, budget, depth + 1)

    def _primitive(self, primitive: dict[str, Any]) -> Splats:
        extension = primitive["extensions"][EXTENSION]
        if extension.get("extensions"):
            raise UserError(f"{self.path}: compressed splats ({', '.join(extension['extensions'])}); they are not read")
        attributes = primitive["attributes"]
        means = self._accessor(attributes["POSITION"], 3)
        count = len(means)

        def read(name: str, width: int) -> np.ndarray:
            values = self._accessor(attributes[name], width)
            if len(values) != count:
                raise UserError(f"{self.path}: {name} has {len(values)} values for {count} splats")
            return values

        scales = read(f"{EXTENSION}:SCALE", 3)
        if (scales < 0).any():
            log.warning("%s: negative scales: taken as logarithms, as drafts of the extension had them", self.path)
            log_scales = scales
        else:
            with np.errstate(divide="ignore"):  # a size of zero becomes non-finite, which is counted later
                log_scales = np.log(scales)
        degree = next((d for d in (3, 2, 1) if harmonic_names(d)[-1] in attributes), 0)
        sh = np.zeros((count, BASES[degree], 3), dtype=np.float32)
        for i, name in enumerate(harmonic_names(degree)):
            sh[:, i] = read(name, 3)
        if extension.get("colorSpace") == "lin_rec709_display":
            log.warning("%s: linear colours; only their constant part is turned into sRGB", self.path)
            linear = np.maximum(SH_C0 * sh[:, 0] + 0.5, 0)
            srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
            sh[:, 0] = (srgb - 0.5) / SH_C0
        opacities = read(f"{EXTENSION}:OPACITY", 1)[:, 0]
        xyzw = read(f"{EXTENSION}:ROTATION", 4)
        return Splats(means, log_scales, np.roll(xyzw, 1, axis=1), logit(opacities), sh, "gltf")

    def _transformed(self, splats: Splats, matrix: np.ndarray) -> Splats:
        if np.array_equal(matrix, np.eye(4)):
            return splats
        if not np.isfinite(matrix).all():
            raise UserError(f"{self.path}: a node's transform is not finite")
        linear = matrix[:3, :3]
        scale = float(np.cbrt(np.linalg.det(linear)))
        even = np.allclose(linear @ linear.T, scale**2 * np.eye(3), rtol=1e-3, atol=1e-3 * scale**2)
        if scale <= 0 or not even:
            raise UserError(f"{self.path}: a node mirrors or unevenly stretches its splats; apply its transform first")
        turned = splats.rotated(linear / scale)
        return Splats(
            turned.means * scale + matrix[:3, 3],
            turned.log_scales + np.log(scale),
            turned.quats_wxyz,
            turned.logit_opacities,
            turned.sh,
            "gltf",
        )

    def _accessor(self, index: int, width: int) -> np.ndarray:
        """Float32 [count, width], after checking that every byte of it lies inside the file's binary part."""
        accessor = self.document["accessors"][index]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise UserError(f"{self.path}: sparse accessors are not read")
        view = self.document["bufferViews"][accessor["bufferView"]]
        buffer = self.document["buffers"][view["buffer"]]
        if view["buffer"] != 0 or "uri" in buffer:
            raise UserError(f"{self.path}: its data lies outside the file; make one .glb of it")
        dtype = np.dtype(COMPONENTS[accessor["componentType"]])
        count, start = int(accessor["count"]), int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
        stride = int(view.get("byteStride", 0)) or width * dtype.itemsize
        end = start + stride * max(count - 1, 0) + width * dtype.itemsize * min(count, 1)
        limit = min(int(view.get("byteOffset", 0)) + int(view["byteLength"]), len(self.binary))
        if WIDTHS[accessor["type"]] != width or not 0 <= count <= MAX_SPLATS or stride < width * dtype.itemsize:
            raise UserError(f"{self.path}: accessor {index} is not what its attribute needs")
        if start < 0 or end > limit:
            raise UserError(f"{self.path}: accessor {index} reaches beyond the file's data")
        if count == 0:
            return np.zeros((0, width), dtype=np.float32)
        raw = np.ndarray((count, width), dtype, self.binary, start, (stride, dtype.itemsize))
        values = raw.astype(np.float32)
        if accessor.get("normalized") and dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(dtype).max, -1)
        return values


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
