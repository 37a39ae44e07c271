"""glTF binary with `KHR_gaussian_splatting` (ratified 2026): one POINTS primitive, y up, values as
they are.

Sigmas are linear, quaternions x, y, z, w, opacities 0..1, harmonics one VEC3 attribute a
coefficient.
"""

import json
import os
import struct

import numpy as np

from gs_ssd import __version__
from gs_ssd.errors import UserError
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path

EXTENSION = "KHR_gaussian_splatting"
FLOAT, UNSIGNED_SHORT = 5126, 5123
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def harmonic_names(degree: int) -> list[str]:
    """Attribute names in the order of `Splats.sh`."""
    return [
        f"{EXTENSION}:SH_DEGREE_{band}_COEF_{n}"
        for band in range(degree + 1)
        for n in range(2 * band + 1)
    ]


def write_glb(path: str | os.PathLike[str], splats: Splats, *, name: str = "splat") -> None:
    """Write `splats` in their frame (glTF wants its own: y up, front +z).

    COLOR_0 is what a viewer without splats shows as points: linear light, as glTF asks.

    Raises:
        UserError: a mean is NaN or infinite; the file states their bounds, and JSON has no word for
            either.
    """
    if not np.isfinite(splats.means).all():
        raise UserError(
            f"{path}: glTF cannot hold NaN or infinite positions; leave --keep-non-finite out"
        )
    color = np.concatenate(
        [srgb_to_linear(splats.colors.clip(0, 1)), splats.opacities[:, None]], axis=1
    )
    attributes = {
        "POSITION": splats.means,
        "COLOR_0": np.rint(color * 65535).astype("<u2"),
        f"{EXTENSION}:ROTATION": np.roll(splats.unit_quats_wxyz, -1, axis=1),
        f"{EXTENSION}:SCALE": splats.scales,
        f"{EXTENSION}:OPACITY": splats.opacities[:, None],
    }
    attributes |= {key: splats.sh[:, i] for i, key in enumerate(harmonic_names(splats.sh_degree))}
    blocks, views, accessors = [], [], []
    offset = 0
    for key, values in attributes.items():
        values = np.ascontiguousarray(values, dtype="<u2" if key == "COLOR_0" else "<f4")
        views.append(
            {"buffer": 0, "byteOffset": offset, "byteLength": values.nbytes, "target": 34962}
        )
        accessor = {
            "bufferView": len(views) - 1,
            "componentType": UNSIGNED_SHORT if key == "COLOR_0" else FLOAT,
            "count": len(splats),
            "type": TYPES[values.shape[1]],
        }
        if key == "COLOR_0":
            accessor["normalized"] = True
        if (
            key == "POSITION"
        ):  # float32 written out in full, or the validator finds values beyond the bounds
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        accessors.append(accessor)
        blocks.append(values.tobytes())
        offset += values.nbytes
    document = {
        "asset": {"version": "2.0", "generator": f"GS-SSD {__version__}"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [_primitive(list(attributes))]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    header = json.dumps(document, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 4)
    total = 12 + 8 + len(header) + 8 + offset  # every block is a multiple of 4 bytes long
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, total))
        file.write(struct.pack("<I4s", len(header), b"JSON") + header)
        file.write(struct.pack("<I4s", offset, b"BIN\0"))
        file.writelines(blocks)


def _primitive(names: list[str]) -> dict:
    extension = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    return {
        "mode": 0,
        "attributes": {key: i for i, key in enumerate(names)},
        "extensions": {EXTENSION: extension},
    }


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """The sRGB transfer function (IEC 61966-2-1), 0..1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
