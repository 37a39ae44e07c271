"""Writing Niantic's SPZ, versions 2 and 3 (`gs_ssd.export.spz_reader` reads them).

One gzip stream, 20 bytes a splat and 9, 24 or 45 more for harmonics. Header `<IIIBBBB`: magic, version,
count, harmonic degree, fractional bits, flags, 0. Then, each for all splats: positions (3 x 24-bit fixed
point), opacities, colours (3 bytes), log scales (3 bytes, steps of 1/16 from -10), rotations (version 2: x, y, z
in 3 bytes; version 3: the three smallest parts in 4), harmonics (coefficient-major, red green blue inside). Its
text says y is up (RUB, our glTF frame).
"""

import logging
import os
import struct
import zlib

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.dotsplat import to_bytes
from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path

log = logging.getLogger(__name__)

MAGIC = 0x5053474E
HEADER = struct.Struct("<IIIBBBB")
FRACTIONAL_BITS, MOST_FRACTIONAL_BITS = 12, 23  #: what the format's library writes; what 24 bits leave room for
STEPS_PER_SIGMA = 16  #: wanted: positions then move by 1/32 of a sigma at most
COLOR_SCALE = 0.15
ANTIALIASED = 1  #: of the header's flags


def write_spz(path: str | os.PathLike[str], splats: Splats, *, version: int = 3) -> None:
    """Write in the frame `splats` is in, as one gzip stream that is the same for the same splats.

    Coarse by design: positions to 1/4096 unit (finer where splats are small, see `fractional_bits`), sizes to 3 %,
    rotations to 0.2 degrees (version 2: up to 11).

    Raises:
        UserError: another version than 2 or 3.
    """
    if version not in (2, 3):
        raise UserError(f"cannot write {path}: SPZ version {version}; 2 and 3 are written")
    _warn_of_clipping(path, splats)
    bits = fractional_bits(splats)
    _warn_of_coarse_positions(path, splats, bits)
    fixed = np.rint(splats.means.astype(np.float64) * 2**bits).clip(-(2**23), 2**23 - 1).astype("<i4")
    pack = _pack_rotations_v3 if version == 3 else _pack_rotations_v2
    parts = [
        HEADER.pack(MAGIC, version, len(splats), splats.sh_degree, bits, ANTIALIASED * splats.antialiased, 0),
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


def fractional_bits(splats: Splats) -> int:
    """Of the positions: the format's 12, more for an object of small splats, fewer for one that reaches far.

    Wanted are `STEPS_PER_SIGMA` steps in the smallest sigma of most splats; the object's reach sets the limit.
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
    """The median over splats of the middle one of three sigmas: a flat splat is not placed by its thickness."""
    return float(np.exp(np.median(np.sort(splats.log_scales, axis=1)[:, 1].astype(np.float64))))


def _warn_of_coarse_positions(path: str | os.PathLike[str], splats: Splats, bits: int) -> None:
    step, sigma = 2.0**-bits, _typical_sigma(splats)
    if step > 2 * sigma / STEPS_PER_SIGMA:
        share = f"{50 * step / max(sigma, 1e-30):.0f} % of a typical splat's sigma"
        log.warning("%s: SPZ keeps positions this far out to %.3g units, off by up to %s", path, step, share)


def _warn_of_clipping(path: str | os.PathLike[str], splats: Splats) -> None:
    beyond = (np.abs(splats.sh[:, 0]) > 0.5 / COLOR_SCALE).any(axis=1) | (np.abs(splats.sh[:, 1:]) > 1).any(axis=(1, 2))
    beyond |= (splats.log_scales < -10.1).any(axis=1) | (splats.log_scales > 6).any(axis=1)
    if beyond.any():
        log.warning("%s: %d of %d splats have colours or sizes beyond SPZ's range", path, beyond.sum(), len(splats))


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
        packed = np.where(i == largest, packed, (packed << 10) | (negative << 9) | size).astype("<u4")
    return packed


def _pack_harmonics(rest: np.ndarray) -> np.ndarray:
    """Bytes around 128 in steps of 8 (first band) or 16: gzip likes few values, and no eye sees the difference."""
    step = np.full((rest.shape[1], 1), 16)
    step[:3] = 8
    return to_bytes(np.floor((np.rint(rest * 128) + 128 + step // 2) / step) * step)
