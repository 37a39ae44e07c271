"""An object that shows what an importer did to the axes: `gs-ssd export axes -o axes.ply`.

Seen from its front and the right way up: red rod and ball to the right, green up, blue towards you,
a readable yellow letter F at the upper left, and at the lower left a ball that is cyan from the
front and magenta from behind. A mirrored F means a flipped handedness, rods that miss their balls a
wrong quaternion order, a magenta ball harmonics that were not turned.
"""

import numpy as np

from gs_ssd.export.splats import Splats, logit
from gs_ssd.maths.conventions import SH_C0

STROKES = ("####", "#...", "###.", "#...", "#...")  #: the letter F, five dots high
RED, GREEN, BLUE = (0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.15, 0.2, 0.95)
YELLOW, WHITE = (0.95, 0.85, 0.1), (0.9, 0.9, 0.9)


def axes_object() -> Splats:
    """About thirty splats of harmonic degree 1 within a ball of radius 1.2, in the glTF frame."""
    rows: list[
        tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    ] = []
    half = np.sqrt(0.5)
    turns = {
        0: (1.0, 0.0, 0.0, 0.0),
        1: (half, 0.0, 0.0, half),
        2: (half, 0.0, -half, 0.0),
    }  # +x to +x, +y, +z
    for axis, color in enumerate((RED, GREEN, BLUE)):
        end = np.eye(3)[axis]
        rows.append((tuple(end), (0.09, 0.09, 0.09), turns[0], color))
        rows.append((tuple(0.5 * end), (0.16, 0.022, 0.022), turns[axis], color))
    rows.append(((0.0, 0.0, 0.0), (0.1, 0.1, 0.1), turns[0], WHITE))
    rows += [
        ((-0.85 + 0.13 * column, 0.85 - 0.13 * line, 0.0), (0.045, 0.045, 0.045), turns[0], YELLOW)
        for line, strokes in enumerate(STROKES)
        for column, stroke in enumerate(strokes)
        if stroke == "#"
    ]
    rows.append(((-0.6, -0.6, 0.0), (0.12, 0.12, 0.12), turns[0], (0.5, 0.5, 0.95)))
    means, scales, quats, colors = (
        np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)
    )
    sh = np.zeros((len(rows), 4, 3))
    sh[:, 0] = (colors - 0.5) / SH_C0
    # The z coefficient of l = 1 weighs 0.4886 * (direction from the camera)_z, which is -1 seen
    # from the front.
    sh[-1, 2] = np.array([0.45, -0.45, 0.0]) / 0.4886025
    return Splats(means, np.log(scales), quats, logit(np.full(len(rows), 0.98)), sh, frame="gltf")
