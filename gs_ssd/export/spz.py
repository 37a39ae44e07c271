"""Writing Niantic's SPZ, versions 2 to 4 (`gs_ssd.export.spz_reader` reads them).

20 bytes per splat and 9, 24 or 45 more for harmonics, in streams, each for all splats: positions (3
x 24-bit fixed point), opacities, colours (3 bytes), log scales (3 bytes, steps of 1/16 from -10),
rotations (version 2: x, y, z in 3 bytes; from version 3 on the three smallest parts in 4),
harmonics (coefficient-major, red green blue inside). Its text says y is up (RUB, our glTF frame).

Versions 2 and 3 are one gzip stream: a header `<IIIBBBB` (magic, version, count, harmonic degree,
fractional bits, flags, 0), then the streams. Version 4 is a header `<IIIBBBBI12x` in the open (as
before, with the number of streams and the offset of their table), extensions, the table (packed and
unpacked size, two u64 a stream), and one zstd frame a stream. The extension 0xADBE0003 names other
axes than RUB. Source: README.md and extensions/README.md of nianticlabs/spz at 21715c3.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import zstandard

from gs_ssd.errors import UserError
from gs_ssd.export.dotsplat import to_bytes
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path
from gs_ssd.maths.conventions import Frame

log = logging.getLogger(__name__)

MAGIC = 0x5053474E
HEADER = struct.Struct("<IIIBBBB")
FRACTIONAL_BITS, MOST_FRACTIONAL_BITS = (
    12,
    23,
)  #: what the format's library writes; what 24 bits leave room for
STEPS_PER_SIGMA = 16  #: wanted: positions then move by 1/32 of a sigma at most
COLOR_SCALE = 0.15
ANTIALIASED, HAS_EXTENSIONS = 1, 2  #: of the header's flags

HEADER_4, TOC_ENTRY = struct.Struct("<IIIBBBBI12x"), struct.Struct("<QQ")
EXTENSION = struct.Struct(
    "<III"
)  #: kind, length of the rest, and what stands in the one that names axes
AXES_EXTENSION = 0xADBE0003  #: SPZ_ADOBE_coordinate_system
AXES_NUMBER: dict[Frame, int] = {
    "gltf": 4,
    "inria": 6,
    "blender": 12,
}  #: RUB RDF RFU; others are turned
ZSTD_LEVEL = 15  #: more takes longer and saves less than a percent


def write_spz(path: str | os.PathLike[str], splats: Splats, *, version: int = 4) -> None:
    """Write in the frame `splats` is in; the same bytes for the same splats.

    Version 4 says which frame that is, unless it is glTF's, and turns a frame without a name (ours)
    to glTF's. Coarse by design: positions to 1/4096 unit (finer where splats are small, see
    `fractional_bits`), sizes to 3 %, rotations to 0.2 degrees (version 2: up to 11).

    Raises:
        UserError: another version than 2, 3 or 4.
    """
    if version not in (2, 3, 4):
        raise UserError(f"cannot write {path}: SPZ version {version}; 2, 3 and 4 are written")
    if version == 4 and splats.frame not in AXES_NUMBER:
        splats = splats.to_frame("gltf")
    _warn_of_clipping(path, splats)
    bits = fractional_bits(splats)
    _warn_of_coarse_positions(path, splats, bits)
    header = (MAGIC, version, len(splats), splats.sh_degree, bits, ANTIALIASED * splats.antialiased)
    streams = _streams(splats, version, bits)
    blocks = (
        _open_blocks(header, streams, splats.frame)
        if version == 4
        else _gzip_blocks(header, streams)
    )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(blocks)


def _streams(splats: Splats, version: int, bits: int) -> list[bytes]:
    fixed = (
        np.rint(splats.means.astype(np.float64) * 2**bits).clip(-(2**23), 2**23 - 1).astype("<i4")
    )
    pack = _pack_rotations_v2 if version == 2 else _pack_rotations_v3
    return [
        np.ascontiguousarray(fixed.view(np.uint8).reshape(-1, 3, 4)[..., :3]).tobytes(),
        to_bytes(splats.opacities * 255).tobytes(),
        to_bytes(splats.sh[:, 0] * (COLOR_SCALE * 255) + 127.5).tobytes(),
        to_bytes((splats.log_scales + 10) * 16).tobytes(),
        pack(splats.unit_quats_wxyz).tobytes(),
        _pack_harmonics(splats.sh[:, 1:]).tobytes(),
    ]


def _gzip_blocks(header: tuple[int, ...], streams: list[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(
        6, zlib.DEFLATED, 31
    )  # 31: gzip, whose header zlib leaves without a date
    for block in (HEADER.pack(*header, 0), *streams):
        yield packer.compress(block)
    yield packer.flush()


def _open_blocks(header: tuple[int, ...], streams: list[bytes], frame: Frame) -> Iterator[bytes]:
    extension = b"" if frame == "gltf" else EXTENSION.pack(AXES_EXTENSION, 4, AXES_NUMBER[frame])
    *fields, flags = header
    flags |= HAS_EXTENSIONS if extension else 0
    streams = [stream for stream in streams if stream]  # degree 0 has five
    packed = [zstandard.compress(stream, ZSTD_LEVEL) for stream in streams]
    yield HEADER_4.pack(*fields, flags, len(streams), HEADER_4.size + len(extension))
    yield extension
    for small, stream in zip(packed, streams, strict=True):
        yield TOC_ENTRY.pack(len(small), len(stream))
    yield from packed


def fractional_bits(splats: Splats) -> int:
    """Of the positions: the format's 12, more for an object of small splats, fewer for one that
    reaches far.

    Wanted are `STEPS_PER_SIGMA` steps in the smallest sigma of most splats; the object's reach sets
    the limit.
    """
    finite = np.flatnonzero(np.isfinite(np.hstack([splats.means, splats.log_scales])).all(axis=1))
    if len(finite) == 0:
        return FRACTIONAL_BITS
    sigma = _typical_sigma(splats.take(finite))
    reach = float(np.abs(splats.means[finite]).max())
    wanted = np.ceil(np.log2(STEPS_PER_SIGMA / max(sigma, 1e-30)))
    room = np.floor(np.log2((2**23 - 1) / max(reach, 1e-30)))
    return int(np.clip(min(max(wanted, FRACTIONAL_BITS), room), 0, MOST_FRACTIONAL_BITS))


def _typical_sigma(splats: Splats) -> float:
    """The median over splats of the middle one of three sigmas: a flat splat is not placed by its
    thickness."""
    return float(np.exp(np.median(np.sort(splats.log_scales, axis=1)[:, 1].astype(np.float64))))


def _warn_of_coarse_positions(path: str | os.PathLike[str], splats: Splats, bits: int) -> None:
    step, sigma = 2.0**-bits, _typical_sigma(splats)
    if step > 2 * sigma / STEPS_PER_SIGMA:
        share = f"{50 * step / max(sigma, 1e-30):.0f} % of a typical splat's sigma"
        log.warning(
            "%s: SPZ keeps positions this far out to %.3g units, off by up to %s", path, step, share
        )


def _warn_of_clipping(path: str | os.PathLike[str], splats: Splats) -> None:
    beyond = (np.abs(splats.sh[:, 0]) > 0.5 / COLOR_SCALE).any(axis=1) | (
        np.abs(splats.sh[:, 1:]) > 1
    ).any(axis=(1, 2))
    beyond |= (splats.log_scales < -10.1).any(axis=1) | (splats.log_scales > 6).any(axis=1)
    if beyond.any():
        log.warning(
            "%s: %d of %d splats have colours or sizes beyond SPZ's range",
            path,
            beyond.sum(),
            len(splats),
        )


def _pack_rotations_v2(wxyz: np.ndarray) -> np.ndarray:
    return to_bytes(wxyz[:, 1:] * 127.5 + 127.5)  # w >= 0 is rebuilt


def _pack_rotations_v3(wxyz: np.ndarray) -> np.ndarray:
    xyzw = np.roll(wxyz, -1, axis=1).astype(np.float64)
    largest = np.abs(xyzw).argmax(axis=1)
    flip = xyzw[np.arange(len(xyzw)), largest] < 0
    packed = largest.astype("<u4")
    for i in range(4):
        size = np.rint(np.abs(xyzw[:, i]) * (np.sqrt(2) * 511)).clip(0, 511).astype("<u4")
        negative = ((xyzw[:, i] < 0) ^ flip).astype("<u4")
        packed = np.where(i == largest, packed, (packed << 10) | (negative << 9) | size).astype(
            "<u4"
        )
    return packed


def _pack_harmonics(rest: np.ndarray) -> np.ndarray:
    """Bytes around 128 in steps of 8 (first band) or 16: gzip likes few values, and no eye sees the
    difference."""
    step = np.full((rest.shape[1], 1), 16)
    step[:3] = 8
    return to_bytes(np.floor((np.rint(rest * 128) + 128 + step // 2) / step) * step)
