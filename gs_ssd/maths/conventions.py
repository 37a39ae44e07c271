"""Conventions that files and code share: the four coordinate frames, and what a colour's constant
term is scaled by.

| frame   | up | front | who expects it                                            |
|---------|----|-------|-----------------------------------------------------------|
| world   | +z | +y    | this project                                              |
| gltf    | +y | +z    | glTF, USD, SPZ as its text says (RUB), BVH                |
| inria   | -y | -z    | 3DGS PLY, .splat, SOG ("RDF": x right, y down, z forward) |
| blender | +z | -y    | Blender and other z-up editors                            |

All are right-handed, so every change is a proper rotation and nothing is ever mirrored.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Frame = Literal["world", "gltf", "inria", "blender"]

FROM_WORLD: dict[Frame, NDArray[np.floating]] = {
    "world": np.eye(3),
    "gltf": np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "inria": np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]]),
    "blender": np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]),
}
"""Rows say where each frame's axes come from, in world coordinates: p_frame = R p_world, p_world =
R^T p_frame."""

SH_C0 = 0.5 / math.sqrt(math.pi)
"""The first spherical harmonic, Y_00: colour = SH_C0 sh[0] + 0.5."""
