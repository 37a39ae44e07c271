"""Niantic's SPZ, versions 2 and 3: one gzip stream, 20 bytes a splat and 9, 24 or 45 more for harmonics.

Header `<IIIBBBB`: magic, version, count, harmonic degree, fractional bits, flags, 0. Then, each for all splats:
positions (3 x 24-bit fixed point), opacities, colours (3 bytes), log scales (3 bytes, steps of 1/16 from -10),
rotations (version 2: x, y, z in 3 bytes; version 3: the three smallest parts in 4), harmonics (coefficient-major,
red green blue inside). Its text says y is up (RUB, our glTF frame).
"""

import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.bounded import MAX_SPLATS, read_bytes
from gs_ssd.export.dotsplat import to_bytes
from gs_ssd.export.splats import BASES, Splats, logit
from gs_ssd.files import atomic_path

log = logging.getLogger(__name__)

MAGIC = 0x5053474E
HEADER = struct.Struct("<IIIBBBB")
FRACTIONAL_BITS = 12
COLOR_SCALE = 0.15
MAX_RATIO = 200  #: a stream that unpacks to more than so many times its size is no splat


def write_spz(path: str | os.PathLike[str], splats: Splats, *, version: int = 3) -> None:
    """Write in the frame `splats` is in, as one gzip stream that is the same for the same splats.

    Coarse by design: positions to 1/4096 unit, sizes to 3 %, rotations to 0.2 degrees (version 2: up to 11).

    Raises:
        UserError: another version than 2 or 3.
    """
    if version not in (2, 3):
        raise UserError(f"cannot write {path}: SPZ version {version}; 2 and 3 are written")
    _warn_of_clipping(path, splats)
    bits = FRACTIONAL_BITS
    reach = float(np.abs(splats.means).max(initial=0.0))
    while reach * 2**bits >= 2**23 and bits:
        bits -= 1
    fixed = np.rint(splats.means.astype(np.float64) * 2**bits).clip(-(2**23), 2**23 - 1).astype("<i4")
    pack = _pack_rotations_v3 if version == 3 else _pack_rotations_v2
    parts = [
        HEADER.pack(MAGIC, version, len(splats), splats.sh_degree, bits, 0, 0),
        np.ascontiguousarray(fixed.view(np.uint8).reshape(-1, 3, 4)[..., :3]).tobytes(),
        to_bytes(splats.opacities * 255).tobytes(),
        to_bytes(splats.sh[:, 0] * (COLOR_SCALE * 255) + 127.5).tobytes(),
        to_bytes((splats.log_scales + 10) * 16).tobytes(),
        pack(splats.unit_quats_wxyz).tobytes(),
        _pack_harmonics(splats.sh[:, 1:]).tobytes(),
    ]
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # 31: gzip, whose header zlib leaves without a date
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(packer.compress(part))
        file.write(packer.flush())


def read_spz(path: str | os.PathLike[str]) -> Splats:
    """Read SPZ version 2 or 3, taking y to be up (the glTF frame).

    Raises:
        UserError: another version, truncated, or a stream that promises more than a file of its size can hold.
    """
    path = Path(path)
    data = read_bytes(path)
    if data[:4] == b"NGSP":
        raise UserError(f"{path}: SPZ version 4; write it as version 3, or turn it into .ply with splat-transform")
    stream = zlib.decompressobj(31)
    try:
        head = stream.decompress(data, HEADER.size)
        if len(head) < HEADER.size:
            raise UserError(f"{path}: truncated, no SPZ header")
        magic, version, count, degree, bits, flags, _ = HEADER.unpack(head)
        if magic != MAGIC:
            raise UserError(f"{path}: gzip, but not an SPZ file")
        if version not in (2, 3):
            raise UserError(f"{path}: SPZ version {version}; versions 2 and 3 are read")
        if degree > 3 or bits > 23:
            raise UserError(f"{path}: SPZ of harmonic degree {degree} with {bits} fractional bits; the file is damaged")
        if count == 0:
            raise UserError(f"{path}: an SPZ file of no splats")
        quaternion = 3 if version == 2 else 4
        harmonics = 3 * (BASES[degree] - 1)
        wanted = count * (16 + quaternion + harmonics)
        if count > MAX_SPLATS or wanted > MAX_RATIO * len(data):
            raise UserError(f"{path}: {count} splats in {len(data)} bytes; the file is damaged")
        body = stream.decompress(stream.unconsumed_tail, wanted)
    except zlib.error as error:
        raise UserError(f"{path}: not a readable SPZ file ({error})") from error
    if len(body) < wanted:
        raise UserError(f"{path}: truncated: {count} splats need {wanted} bytes, {len(body)} are there")
    if flags & ~1:
        log.warning("%s: ignoring SPZ extensions (flags %#x)", path, flags)
    widths = [9, 1, 3, 3, quaternion]
    columns = np.split(np.frombuffer(body, np.uint8), np.cumsum(widths) * count)
    positions, opacities, colors, scales, rotations = (
        part.reshape(count, width) for part, width in zip(columns, widths, strict=False)
    )
    unpack = _unpack_rotations_v2 if version == 2 else _unpack_rotations_v3
    sh = np.zeros((count, BASES[degree], 3), dtype=np.float32)
    sh[:, 0] = (colors.astype(np.float32) / 255 - 0.5) / COLOR_SCALE
    sh[:, 1:] = (columns[-1].reshape(count, BASES[degree] - 1, 3).astype(np.float32) - 128) / 128
    return Splats(
        means=_unpack_positions(positions.reshape(count, 3, 3)) / 2.0**bits,
        log_scales=scales.astype(np.float32) / 16 - 10,
        quats_wxyz=unpack(rotations),
        logit_opacities=logit(opacities[:, 0] / 255, margin=1 / 1024),
        sh=sh,
        frame="gltf",
    )


def _warn_of_clipping(path: str | os.PathLike[str], splats: Splats) -> None:
    beyond = (np.abs(splats.sh[:, 0]) > 0.5 / COLOR_SCALE).any(axis=1) | (np.abs(splats.sh[:, 1:]) > 1).any(axis=(1, 2))
    beyond |= (splats.log_scales < -10.1).any(axis=1) | (splats.log_scales > 6).any(axis=1)
    if beyond.any():
        log.warning("%s: %d of %d splats have colours or sizes beyond SPZ's range", path, beyond.sum(), len(splats))


def _unpack_positions(raw: np.ndarray) -> np.ndarray:
    words = np.zeros((*raw.shape[:2], 4), dtype=np.uint8)
    words[..., 1:] = raw  # the sign lies in the top byte; shifting down again carries it along
    return (words.view("<i4")[..., 0] >> 8).astype(np.float64)


def _pack_rotations_v2(wxyz: np.ndarray) -> np.ndarray:
    return to_bytes(wxyz[:, 1:] * 127.5 + 127.5)  # w >= 0 is rebuilt


def _unpack_rotations_v2(raw: np.ndarray) -> np.ndarray:
    xyz = raw.astype(np.float32) / 127.5 - 1
    return np.concatenate([np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True))), xyz], axis=1)


def _pack_rotations_v3(wxyz: np.ndarray) -> np.ndarray:
    xyzw = np.roll(wxyz, -1, axis=1).astype(np.float64)
    largest = np.abs(xyzw).argmax(axis=1)
    flip = xyzw[np.arange(len(xyzw)), largest] < 0
    packed = largest.astype("<u4")
    for i in range(4):
        size = np.rint(np.abs(xyzw[:, i]) * (np.sqrt(2) * 511)).clip(0, 511).astype("<u4")
        negative = ((xyzw[:, i] < 0) ^ flip).astype("<u4")
        packed = np.where(i == largest, packed, (packed << 10) | (negative << 9) | size).astype("<u4")
    return packed


def _unpack_rotations_v3(raw: np.ndarray) -> np.ndarray:
    packed = np.ascontiguousarray(raw).view("<u4").reshape(len(raw)).copy()
    largest = packed >> 30
    xyzw = np.zeros((len(raw), 4), dtype=np.float64)
    for i in (3, 2, 1, 0):
        value = (packed & 511) / (np.sqrt(2) * 511) * np.where(packed & 512, -1, 1)
        xyzw[:, i] = np.where(i == largest, 0, value)
        packed = np.where(i == largest, packed, packed >> 10)
    xyzw[np.arange(len(raw)), largest] = np.sqrt(np.maximum(0, 1 - (xyzw**2).sum(axis=1)))
    return np.roll(xyzw, 1, axis=1)


def _pack_harmonics(rest: np.ndarray) -> np.ndarray:
    """Bytes around 128 in steps of 8 (first band) or 16: gzip likes few values, and no eye sees the difference."""
    step = np.full((rest.shape[1], 1), 16)
    step[:3] = 8
    return to_bytes(np.floor((np.rint(rest * 128) + 128 + step // 2) / step) * step)
