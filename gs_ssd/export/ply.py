"""Writing 3DGS PLY, the lingua franca: `x y z nx ny nz f_dc f_rest opacity scale rot`, INRIA frame
by convention."""

import os

import numpy as np
from plyfile import PlyData, PlyElement

from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path

ANTIALIASED = "SplatRenderMode: mip"  #: Brush's comment, which splat-transform reads and writes too


def property_names(bases: int) -> list[str]:
    """Names in the order every importer expects: 17, 26, 41 or 62 floats for 1, 4, 9 or 16
    `bases`."""
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * (bases - 1))),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def write_ply(path: str | os.PathLike[str], splats: Splats) -> None:
    """Write binary little-endian PLY in the frame `splats` is in.

    Without comments, on which some importers trip, but for the one that marks antialiased splats.
    Normals are zero, quaternions unit; `f_rest` is channel-major: all red, then all green, then all
    blue.
    """
    count, bases = len(splats), splats.sh.shape[1]
    rest = splats.sh[:, 1:].transpose(0, 2, 1).reshape(count, 3 * (bases - 1))
    columns = np.concatenate(
        [
            splats.means,
            np.zeros((count, 3), np.float32),
            splats.sh[:, 0],
            rest,
            splats.logit_opacities[:, None],
            splats.log_scales,
            splats.unit_quats_wxyz,
        ],
        axis=1,
    ).astype("<f4")
    dtype = np.dtype([(name, "<f4") for name in property_names(bases)])
    vertices = np.ascontiguousarray(columns).view(dtype).reshape(count)
    with atomic_path(path) as temporary:
        comments = [ANTIALIASED] if splats.antialiased else []
        elements = [PlyElement.describe(vertices, "vertex")]
        PlyData(elements, byte_order="<", comments=comments).write(str(temporary))
