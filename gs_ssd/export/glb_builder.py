"""Puts arrays into the binary part of a `.glb`, one buffer view and accessor each."""

import json
import os
import struct
from typing import Any

import numpy as np
from jaxtyping import Integer, Num

from gs_ssd import __version__
from gs_ssd.files import atomic_path

FLOAT, SHORT, INT = 5126, 5123, 5125
DTYPES = {FLOAT: "<f4", SHORT: "<u2", INT: "<u4"}
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
VERTICES, INDICES = 34962, 34963
"""Targets of buffer views."""


class GlbBuilder:
    """Collects arrays; `write` puts them behind a document."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def add(
        self,
        values: Num[np.ndarray, "n c"],
        component: int = FLOAT,
        *,
        bounds: bool = False,
        vertices: bool = False,
    ) -> int:
        """The number of an accessor for these rows.

        Args:
            component: one of `DTYPES`.
            bounds: state the least and greatest of each column, as positions and times must.
            vertices: they are attributes of vertices.
        """
        return self._put(values, component, VERTICES if vertices else None, bounds=bounds)

    def add_indices(self, faces: Integer[np.ndarray, "f 3"]) -> int:
        """The number of an accessor for the corners of triangles."""
        return self._put(faces.reshape(-1, 1), INT, INDICES, bounds=False)

    def _put(self, values: np.ndarray, component: int, target: int | None, *, bounds: bool) -> int:
        array = np.ascontiguousarray(values, dtype=DTYPES[component])
        start = sum(len(block) for block in self._blocks)
        view = {"buffer": 0, "byteOffset": start, "byteLength": array.nbytes}
        self._views.append(view if target is None else view | {"target": target})
        accessor: dict[str, Any] = {
            "bufferView": len(self._views) - 1,
            "componentType": component,
            "count": len(array),
            "type": TYPES[array.shape[1]],
        }
        if bounds:
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        self._accessors.append(accessor)
        self._blocks.append(array.tobytes() + b"\0" * (-array.nbytes % 4))
        return len(self._accessors) - 1

    def write(self, path: str | os.PathLike[str], document: dict[str, Any]) -> None:
        """Write the file, whole or not at all; `document` lacks only what this class knows."""
        size = sum(len(block) for block in self._blocks)
        document = {
            "asset": {"version": "2.0", "generator": f"GS-SSD {__version__}"},
            **document,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": size}],
        }
        header = json.dumps(document, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 4)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 20 + len(header) + 8 + size))
            file.write(struct.pack("<I4s", len(header), b"JSON") + header)
            file.write(struct.pack("<I4s", size, b"BIN\0"))
            file.writelines(self._blocks)
