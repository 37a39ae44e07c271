"""Splats as the bytes that the page uploads to the graphics card: 32 bytes each, and 16, 32 or 48
more for harmonics.

A splat's first two RGBA32UI texels, as eight little-endian words:

    0..2  position, float32, relative to the centre and in units of the radius
    3, 4  red, green | blue, opacity: halves
    5, 6  sigma x, y | z: halves, in units of the radius; the upper half of word 6: quaternion
          part 0, 15 bits
    7     quaternion parts 1, 2, 15 bits each, and the index (w, x, y, z) of the largest part,
          which is left out

The harmonics follow for all splats: signed bytes, coefficient-major with red, green, blue inside,
scaled per band.
"""

import dataclasses

import numpy as np

from gs_ssd.export.clean import VISIBLE, finite, framing
from gs_ssd.export.splats import Splats

SH_TEXELS = (0, 1, 2, 3)  #: 16-byte texels for 9, 24, 45 bytes


@dataclasses.dataclass(frozen=True)
class PackedSplats:
    """`data`: base words, then harmonics; `sh_range`: largest value per band; centre, radius: the
    splats' own units."""

    data: bytes
    count: int
    sh_degree: int
    sh_range: tuple[float, float, float]
    center: tuple[float, float, float]
    radius: float


def visible(splats: Splats) -> np.ndarray:
    """Which splats a page shows, `[N]` bool."""
    return finite(splats) & (splats.opacities >= VISIBLE)


def pack_splats(splats: Splats) -> PackedSplats:
    """Pack in the frame given, which the page takes to be y-up; what cannot be seen is left out."""
    splats = splats.take(visible(splats))
    center, radius = framing(splats)
    words = np.zeros((len(splats), 8), dtype="<u4")
    words[:, :3] = ((splats.means - center) / radius).astype("<f4").view("<u4")
    words[:, 3] = _halves(splats.colors[:, 0], splats.colors[:, 1])
    words[:, 4] = _halves(splats.colors[:, 2], splats.opacities)
    scales = np.clip(
        splats.scales / radius, 6.2e-5, 6e4
    )  # the least normal half; far below any pixel
    words[:, 5] = _halves(scales[:, 0], scales[:, 1])
    first, rest = _pack_quaternions(splats.unit_quats_wxyz)
    words[:, 6] = _halves(scales[:, 2], np.zeros(len(splats))) | (first << 16)
    words[:, 7] = rest
    harmonics, sh_range = _pack_harmonics(splats)
    return PackedSplats(
        data=words.tobytes() + harmonics,
        count=len(splats),
        sh_degree=splats.sh_degree,
        sh_range=sh_range,
        center=tuple(center.tolist()),
        radius=radius,
    )


def _halves(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    pair = np.clip(np.stack([low, high], axis=-1), -65504, 65504).astype("<f2")
    return np.ascontiguousarray(pair).view("<u4")[:, 0]


def _pack_quaternions(unit_wxyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    largest = np.abs(unit_wxyz).argmax(axis=1)
    rows = np.arange(len(unit_wxyz))
    unit = unit_wxyz * np.where(unit_wxyz[rows, largest] < 0, -1, 1)[:, None]
    others = unit[np.arange(4) != largest[:, None]].reshape(-1, 3)  # in the order w, x, y, z
    parts = np.rint((others * np.sqrt(0.5) + 0.5) * 32767).clip(0, 32767).astype("<u4")
    return parts[:, 0], parts[:, 1] | (parts[:, 2] << 15) | (largest.astype("<u4") << 30)


def _pack_harmonics(splats: Splats) -> tuple[bytes, tuple[float, float, float]]:
    texels = SH_TEXELS[splats.sh_degree]
    packed = np.zeros((len(splats), 16 * texels), dtype=np.int8)
    ranges = [0.0, 0.0, 0.0]
    for band in range(1, splats.sh_degree + 1):
        part = splats.sh[:, band * band : (band + 1) ** 2].reshape(len(splats), 3 * (2 * band + 1))
        ranges[band - 1] = largest = float(np.abs(part).max(initial=0.0)) or 1.0
        start = 3 * (band * band - 1)
        packed[:, start : start + part.shape[1]] = np.rint(part / largest * 127)
    return packed.tobytes(), (ranges[0], ranges[1], ranges[2])
