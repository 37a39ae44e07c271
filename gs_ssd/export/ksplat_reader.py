"""Reading mkkellogg's `.ksplat`, the format of GaussianSplats3D, in the INRIA frame.

A header of 4096 bytes (u8 major, minor; u32 sections allowed @4, splats @16; u16 compression @20;
f32 least and largest harmonic @36, @40), then headers of 1024 bytes a section (u32 splats, room for
splats, splats a bucket, buckets; f32 edge of a block @16; u16 bytes a bucket @20; u32 steps of half
a block @24; u32 full buckets @32, partly filled ones @36; u16 harmonic degree @40), then the
sections' data: sizes of the partly filled buckets, middles of the buckets, splats. One splat is

    compression 0   f32 position, size, quaternion w x y z; u8 red green blue opacity; f32 harmonics
    1, 2            u16 position in its block, f16 size and quaternion, u8 colour;
                    f16 or u8 harmonics

with harmonics band after band and, in each, red, green, blue one after the other.
"""

import os
import struct
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.bounded import read_bytes
from gs_ssd.export.splats import BASES, Splats, logit
from gs_ssd.maths.conventions import SH_C0

HEADER, SECTION = 4096, 1024
COEFFICIENTS = (0, 9, 24, 45)  #: of degrees 0 to 3; the last is rare
MAX_SECTIONS = 10_000


def read_ksplat(path: str | os.PathLike[str]) -> Splats:
    """Read every section of the file; lower degrees are padded to the highest.

    Raises:
        UserError: not a `.ksplat` of version 0.1 or later, or data that does not lie inside the
            file.
    """
    path = Path(path)
    data = read_bytes(path)
    if len(data) < HEADER:
        raise UserError(f"{path}: truncated, no .ksplat header")
    major, minor = data[0], data[1]
    (sections,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<I", data, 16)
    (level,) = struct.unpack_from("<H", data, 20)
    if major != 0 or minor < 1 or level > 2:
        raise UserError(
            f"{path}: a .ksplat of version {major}.{minor}, compression {level}; 0.1 and 0 to 2 are"
            " read"
        )
    if sections > MAX_SECTIONS or HEADER + SECTION * sections > len(data):
        raise UserError(f"{path}: truncated: {sections} section headers promised")
    least, most = struct.unpack_from("<ff", data, 36)
    harmonic_range = (least or -1.5, most or 1.5)
    parts, start = [], HEADER + SECTION * sections
    for index in range(sections):
        part, start = _section(path, data, HEADER + SECTION * index, start, level, harmonic_range)
        if part is not None:
            parts.append(part)
    if sum(map(len, parts)) != count or not parts:
        raise UserError(
            f"{path}: {count} splats promised, {sum(map(len, parts))} are there; the file is"
            " damaged"
        )
    return Splats.joined(parts, "inria")


def _section(
    path: Path,
    data: bytes,
    header: int,
    start: int,
    level: int,
    harmonic_range: tuple[float, float],
) -> tuple[Splats | None, int]:
    """The splats of one section, and where the next one starts."""
    count, room, per_bucket, buckets = struct.unpack_from("<4I", data, header)
    (edge,) = struct.unpack_from("<f", data, header + 16)
    (bucket_bytes,) = struct.unpack_from("<H", data, header + 20)
    (steps,) = struct.unpack_from("<I", data, header + 24)
    full, partial = struct.unpack_from("<2I", data, header + 32)
    (degree,) = struct.unpack_from("<H", data, header + 40)
    if degree >= len(COEFFICIENTS):
        raise UserError(f"{path}: a .ksplat section of harmonic degree {degree}; 0 to 3 exist")
    record = _record(level, COEFFICIENTS[degree])
    middles = start + 4 * partial
    rows = middles + bucket_bytes * buckets
    end = rows + record.itemsize * room
    if count > room or end > len(data):
        raise UserError(f"{path}: truncated: a section ends at byte {end}, the file at {len(data)}")
    if count == 0:
        return None, end
    splats = np.frombuffer(data, record, count, rows)
    if level == 0:
        means = splats["mean"].astype(np.float64)
    else:
        sizes = np.frombuffer(data, "<u4", partial, start)
        bucket = _bucket_of(path, count, per_bucket, full, sizes, buckets)
        if bucket_bytes < 12:
            raise UserError(f"{path}: buckets of {bucket_bytes} bytes; the file is damaged")
        raw = np.frombuffer(data, np.uint8, bucket_bytes * buckets, middles).reshape(
            buckets, bucket_bytes
        )
        centers = np.ascontiguousarray(raw[:, :12]).view("<f4").astype(np.float64)
        steps = steps or 32767
        means = (splats["mean"].astype(np.float64) - steps) * (edge / 2 / steps) + centers[bucket]
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # sizes of zero become non-finite, which is counted later
        log_scales = np.log(splats["size"].astype(np.float64))
    rgba = splats["rgba"] / 255.0
    sh = ((rgba[:, :3] - 0.5) / SH_C0)[:, None]
    part = Splats(
        means=means,
        log_scales=log_scales,
        quats_wxyz=splats["wxyz"],
        logit_opacities=logit(rgba[:, 3], margin=1 / 1024),
        sh=np.concatenate([sh, _harmonics(splats["sh"], level, degree, harmonic_range)], axis=1),
        frame="inria",
    )
    return part, end


def _record(level: int, coefficients: int) -> np.dtype:
    position, number = ("<f4", "<f4") if level == 0 else ("<u2", "<f2")
    harmonic = ("<f4", "<f2", "u1")[level]
    return np.dtype(
        [
            ("mean", position, 3),
            ("size", number, 3),
            ("wxyz", number, 4),
            ("rgba", "u1", 4),
            ("sh", harmonic, (coefficients,)),
        ]
    )


def _bucket_of(
    path: Path, count: int, per_bucket: int, full: int, sizes: np.ndarray, buckets: int
) -> np.ndarray:
    """Which bucket each splat lies in: the full ones come first."""
    index = np.arange(count)
    ends = full * per_bucket + np.cumsum(sizes.astype(np.int64))
    bucket = np.where(
        index < full * per_bucket,
        index // max(per_bucket, 1),
        full + np.searchsorted(ends, index, side="right"),
    )
    if bucket.max() >= buckets:
        raise UserError(f"{path}: splats outside its {buckets} buckets; the file is damaged")
    return bucket


def _harmonics(
    raw: np.ndarray, level: int, degree: int, harmonic_range: tuple[float, float]
) -> np.ndarray:
    """[N,K-1,3] from band after band of red, green and blue runs."""
    values = raw.astype(np.float32)
    if level == 2:
        least, most = harmonic_range
        values = least + (most - least) * values / 255
    out = np.zeros((len(raw), BASES[degree] - 1, 3), np.float32)
    for band in range(1, degree + 1):
        width, first = 2 * band + 1, band * band - 1
        run = values[:, 3 * first : 3 * (first + width)].reshape(-1, 3, width)
        out[:, first : first + width] = run.transpose(0, 2, 1)
    return out
