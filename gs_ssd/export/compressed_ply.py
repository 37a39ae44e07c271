"""PlayCanvas's compressed PLY: 16 bytes per splat, and 9, 24 or 45 more for harmonics, in the INRIA
frame.

Splats lie in Morton order in chunks of 256. Element `chunk` holds, for each, the least and the
largest position, log scale and colour (18 floats); element `vertex` four words, unsigned and most
significant first:

    packed_position, packed_scale   11, 10, 11 bits for x, y, z between the bounds of the chunk
    packed_rotation                 2 bits: which of w, x, y, z is largest; 10 bits for each other,
                                    q / sqrt(2) + 0.5
    packed_color                    red, green, blue between the bounds of the chunk, and opacity
                                    0..1; 8 bits each

and element `sh` the harmonics, one byte each, channel-major as `f_rest` is: 256 cells of 1/32 from
-4 to 4, of which readers take the middle. Source: the format's page in PlayCanvas's manual, and
what splat-transform reads.
"""

import os

import numpy as np

from gs_ssd.export.clean import refuse_non_finite
from gs_ssd.export.dotsplat import to_bytes
from gs_ssd.export.frames import FloatArray
from gs_ssd.export.morton import morton_order
from gs_ssd.export.ply import ANTIALIASED
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path

CHUNK = 256
MAX_LOG_SCALE = 20.0  #: readers of this format know no larger ones
WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
BOUNDS = tuple(
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
)


def write_compressed_ply(path: str | os.PathLike[str], splats: Splats) -> None:
    """Write in the frame `splats` is in.

    Positions and log scales keep 1/2047 (y: 1/1023) of their chunk's extent, rotations 0.1 degrees.

    Raises:
        UserError: a number is NaN, infinite or absurdly large.
    """
    refuse_non_finite(path, splats)
    splats = splats.take(morton_order(splats.means))
    count, coefficients = len(splats), 3 * (splats.sh.shape[1] - 1)
    bounds = np.empty((-(-count // CHUNK), 18), dtype="<f4")
    words = np.empty((count, 4), dtype="<u4")
    log_scales = splats.log_scales.clip(-MAX_LOG_SCALE, MAX_LOG_SCALE)
    position = _within_chunks(splats.means, bounds[:, :6])
    scale = _within_chunks(log_scales, bounds[:, 6:12])
    color = _within_chunks(splats.colors, bounds[:, 12:])
    words[:, 0] = _pack(position, (11, 10, 11))
    words[:, 1] = pack_rotations(splats.unit_quats_wxyz)
    words[:, 2] = _pack(scale, (11, 10, 11))
    words[:, 3] = _pack(np.concatenate([color, splats.opacities[:, None]], axis=1), (8, 8, 8, 8))
    rest = splats.sh[:, 1:].transpose(0, 2, 1).reshape(count, coefficients)
    comments = [f"comment {ANTIALIASED}"] if splats.antialiased else []
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_header(count, len(bounds), coefficients, comments).encode("ascii"))
        file.write(bounds.tobytes())
        file.write(words.tobytes())
        file.write(to_bytes(np.floor(rest * 32 + 128)).tobytes())


def pack_rotations(unit_wxyz: FloatArray) -> np.ndarray:
    """Unit quaternions [N,4] as words [N]."""
    rows = np.arange(len(unit_wxyz))
    largest = np.abs(unit_wxyz).argmax(axis=1)
    signed = unit_wxyz * np.where(unit_wxyz[rows, largest] < 0, -1.0, 1.0)[:, None]
    others = signed[np.arange(4) != largest[:, None]].reshape(-1, 3)
    return (largest.astype("<u4") << np.uint32(30)) | _pack(
        others * np.sqrt(0.5) + 0.5, (10, 10, 10)
    )


def _within_chunks(values: FloatArray, bounds: np.ndarray) -> FloatArray:
    """`values` [N,3] as shares 0..1 of their chunk's extent; the least and the largest go into
    `bounds` [chunks,6]."""
    starts = np.arange(0, len(values), CHUNK)
    bounds[:, :3] = np.minimum.reduceat(values, starts, axis=0)
    bounds[:, 3:] = np.maximum.reduceat(values, starts, axis=0)
    low, high = (
        np.repeat(part, CHUNK, axis=0)[: len(values)].astype(np.float64)
        for part in np.split(bounds, 2, axis=1)
    )
    size = high - low
    return (values - low) / np.where(size > 0, size, 1.0)


def _pack(shares: FloatArray, widths: tuple[int, ...]) -> np.ndarray:
    """Shares 0..1 [N,k] as bit fields of one word [N], the first at the top."""
    word = np.zeros(len(shares), dtype="<u4")
    for column, width in enumerate(widths):
        top = 2**width - 1
        field = np.rint(shares[:, column] * top).clip(0, top).astype("<u4")
        word = (word << np.uint32(width)) | field
    return word


def _header(count: int, chunks: int, coefficients: int, comments: list[str]) -> str:
    lines = ["ply", "format binary_little_endian 1.0", *comments, f"element chunk {chunks}"]
    lines += [f"property float {name}" for name in BOUNDS]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in WORDS)]
    if coefficients:
        lines += [
            f"element sh {count}",
            *(f"property uchar f_rest_{i}" for i in range(coefficients)),
        ]
    return "\n".join([*lines, "end_header", ""])
