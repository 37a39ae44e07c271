"""Splats along a space-filling curve: neighbours in a file are then neighbours in space, and pack
better."""

import numpy as np
from numpy.typing import NDArray

from gs_ssd.export.frames import FloatArray

BITS = 21  #: of each coordinate; three of them fill a 64-bit word


def morton_order(means: FloatArray) -> NDArray[np.int64]:
    """The permutation [N] that sorts finite `means` [N,3] along a Z-order curve over their bounding
    box."""
    if len(means) == 0:
        return np.zeros(0, dtype=np.int64)
    points = means.astype(np.float64)
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    cells = (points - low) / np.where(size > 0, size, 1.0) * (2**BITS - 1)
    keys = np.zeros(len(points), dtype=np.uint64)
    for axis in range(3):
        keys |= _spread(cells[:, axis].astype(np.uint64)) << np.uint64(axis)
    return np.argsort(keys, kind="stable")


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Two zero bits between every two of the lowest 21 bits."""
    for shift, mask in (
        (32, 0x001F00000000FFFF),
        (16, 0x001F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        values = (values | (values << np.uint64(shift))) & np.uint64(mask)
    return values
