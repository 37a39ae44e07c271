"""The container of a `.glb`: its JSON, and numbers out of its binary part, trusting nothing that it
says."""

import struct
from pathlib import Path

import numpy as np

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.export.bounded import MAX_SPLATS, read_bytes

MAX_JSON = 4 << 20
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class GlbFile:
    """One file's `document` and `binary` chunk.

    Raises:
        UserError: not a GLB, or truncated; what its JSON holds may still raise anything when it is
            looked at.
    """

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
        self.document = json_text.parse(bytes(data[20 : 20 + length]))
        self.binary = memoryview(b"")
        start = 20 + length
        if start + 8 <= len(data):
            length, kind = struct.unpack_from("<I4s", data, start)
            if kind == b"BIN\0":
                if start + 8 + length > len(data):
                    raise UserError(f"{path}: truncated: the binary part ends early")
                self.binary = data[start + 8 : start + 8 + length]

    def accessor(self, index: int, width: int) -> np.ndarray:
        """Float32 [count, width], after checking that every byte of it lies inside the file's
        binary part."""
        accessor = self.document["accessors"][index]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise UserError(f"{self.path}: sparse accessors are not read; export it without them")
        view = self.document["bufferViews"][accessor["bufferView"]]
        for name in view.get("extensions", {}):
            if name.endswith("meshopt_compression"):
                raise UserError(
                    f"{self.path}: its data is compressed with meshopt ({name}); export it without"
                )
        buffer = self.document["buffers"][view["buffer"]]
        if view["buffer"] != 0 or "uri" in buffer:
            raise UserError(f"{self.path}: its data lies outside the file; make one .glb of it")
        dtype = np.dtype(COMPONENTS[accessor["componentType"]])
        count, start = (
            int(accessor["count"]),
            int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0)),
        )
        stride = int(view.get("byteStride", 0)) or width * dtype.itemsize
        end = start + stride * max(count - 1, 0) + width * dtype.itemsize * min(count, 1)
        limit = min(int(view.get("byteOffset", 0)) + int(view["byteLength"]), len(self.binary))
        if (
            WIDTHS[accessor["type"]] != width
            or not 0 <= count <= MAX_SPLATS
            or stride < width * dtype.itemsize
        ):
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
