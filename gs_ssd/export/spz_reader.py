"""Reading Niantic's SPZ, versions 2 to 4.

`gs_ssd.export.spz` describes the streams that all of them share.

Versions 2 and 3 are one gzip stream with a header of 16 bytes (some tools leave the gzip away).
Version 4 is a plain header of 32 bytes, then extensions up to the table of contents (two u64 a
stream: packed and unpacked size), then one zstd frame a stream. An extension is `u32 type, u32
length, payload`; in versions 2 and 3 they follow the streams.

Without an extension the axes are RUB, our glTF frame; Adobe's `0xADBE0003` names others.
"""

import dataclasses
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.bounded import MAX_SPLATS, read_bytes, room_for
from gs_ssd.export.splats import BASES, Splats, logit
from gs_ssd.export.spz import (
    ANTIALIASED,
    AXES_EXTENSION,
    COLOR_SCALE,
    HAS_EXTENSIONS,
    HEADER,
    HEADER_4,
    MAGIC,
    TOC_ENTRY,
)

log = logging.getLogger(__name__)

RECORD = struct.Struct("<II")
#: What `AXES_EXTENSION` holds, one u32, is an index into these plus one.
SYSTEMS = [
    "LDB",
    "RDB",
    "LUB",
    "RUB",
    "LDF",
    "RDF",
    "LUF",
    "RUF",
    "LFD",
    "RFD",
    "LFU",
    "RFU",
    "LBD",
    "RBD",
    "LBU",
    "RBU",
]
DISPUTED = (
    "LFD",
    "RFD",
    "LBU",
    "RBU",
)  #: the format's library (2026) does not do what these names say
DIRECTIONS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "U": (0, 1, 0),
    "D": (0, -1, 0),
    "B": (0, 0, 1),
    "F": (0, 0, -1),
}
RUB = 4
COEFFICIENTS = (0, 9, 24, 45, 72)  #: bytes of harmonics a splat, degree 0 to 4
MAX_EXTENSIONS = 1 << 16  #: bytes

DEFLATE_RATIO = 1032  #: deflate's own limit, which equal splats reach
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class _Header:
    version: int
    count: int
    degree: int
    bits: int
    flags: int

    @property
    def widths(self) -> list[int]:
        """Bytes a splat: positions, opacities, colours, sizes, rotations, harmonics."""
        return [9, 1, 3, 3, 3 if self.version == 2 else 4, COEFFICIENTS[self.degree]]


def read_spz(path: str | os.PathLike[str]) -> Splats:
    """Read SPZ version 2, 3 or 4, in the glTF frame; harmonics above degree 3 are dropped with a
    warning.

    Raises:
        UserError: another version, truncated, or a stream that promises more than a file of its
            size can hold.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        if data[:4] != b"NGSP":
            header, streams, extensions = _read_gzip(path, data)
        elif len(data) >= 8 and data[4:8] in (b"\2\0\0\0", b"\3\0\0\0"):
            header = _checked(
                path, *HEADER.unpack_from(data.ljust(HEADER.size, b"\0"))[:6], limit=len(data)
            )
            streams, extensions = _split(path, header, data[HEADER.size :])
        else:
            header, streams, extensions = _read_version_4(path, data)
    except (zlib.error, struct.error) as error:
        raise UserError(f"{path}: not a readable SPZ file ({error}); export it again") from error
    return _in_gltf_axes(path, _unpack(path, header, streams), header, extensions)


def _checked(
    path: Path,
    magic: int,
    version: int,
    count: int,
    degree: int,
    bits: int,
    flags: int,
    *,
    limit: int,
) -> _Header:
    """The header, once it is known that `limit` bytes can hold what it promises."""
    if magic != MAGIC:
        raise UserError(f"{path}: gzip, but not an SPZ file")
    if version not in (2, 3, 4):
        raise UserError(f"{path}: SPZ version {version}; versions 2, 3 and 4 are read")
    if degree >= len(COEFFICIENTS) or bits > 23:
        raise UserError(
            f"{path}: SPZ of harmonic degree {degree} with {bits} fractional bits; the file is"
            " damaged"
        )
    if count == 0:
        raise UserError(f"{path}: an SPZ file of no splats")
    header = _Header(version, count, degree, bits, flags)
    if count > MAX_SPLATS or count * sum(header.widths) > limit:
        raise UserError(
            f"{path}: {count} splats are more than a file of its size can hold; the file is damaged"
        )
    return header


def _read_gzip(path: Path, data: bytes) -> tuple[_Header, list[np.ndarray], bytes]:
    stream = zlib.decompressobj(31)
    head = stream.decompress(data, HEADER.size)
    if len(head) < HEADER.size:
        raise UserError(f"{path}: truncated, no SPZ header")
    header = _checked(path, *HEADER.unpack(head)[:6], limit=DEFLATE_RATIO * len(data))
    if header.version == 4:
        raise UserError(f"{path}: SPZ version 4 inside gzip; the file is damaged")
    spare = MAX_EXTENSIONS if header.flags & HAS_EXTENSIONS else sum(header.widths)
    body = stream.decompress(stream.unconsumed_tail, header.count * sum(header.widths) + spare)
    return header, *_split(path, header, body)


def _split(path: Path, header: _Header, body: bytes) -> tuple[list[np.ndarray], bytes]:
    """The six streams, each [count, width] bytes, and what follows them."""
    ends = np.cumsum(header.widths) * header.count
    if len(body) < ends[-1]:
        wanted = f"{header.count} splats need {ends[-1]} bytes, {len(body)} are there"
        raise UserError(f"{path}: truncated: {wanted}")
    if not header.flags & HAS_EXTENSIONS and len(body) - ends[-1] >= sum(header.widths):
        raise UserError(
            f"{path}: its header says {header.count} splats, but it holds more; it is damaged"
        )
    parts = np.split(np.frombuffer(body, np.uint8), ends)
    streams = [
        part.reshape(header.count, width) for part, width in zip(parts, header.widths, strict=False)
    ]
    return streams, parts[-1].tobytes() if header.flags & HAS_EXTENSIONS else b""


def _read_version_4(path: Path, data: bytes) -> tuple[_Header, list[np.ndarray], bytes]:
    import zstandard

    if len(data) < HEADER_4.size:
        raise UserError(f"{path}: truncated, no SPZ header")
    *fields, count, contents = HEADER_4.unpack_from(data)
    header = _checked(path, *fields, limit=room_for(len(data)))
    wanted = [width * header.count for width in header.widths]
    if wanted[-1] == 0 and count == 5:
        wanted.pop()
    position = contents + count * TOC_ENTRY.size
    if count != len(wanted) or not HEADER_4.size <= contents <= position <= len(data):
        raise UserError(
            f"{path}: an SPZ table of contents of {count} streams at {contents}; the file is"
            " damaged"
        )
    streams: list[np.ndarray] = []
    for index, size in enumerate(wanted):
        packed, unpacked = TOC_ENTRY.unpack_from(data, contents + index * TOC_ENTRY.size)
        if unpacked != size or position + packed > len(data):
            raise UserError(
                f"{path}: truncated: SPZ stream {index} is not what its {header.count} splats need"
            )
        try:
            with zstandard.ZstdDecompressor().stream_reader(
                data[position : position + packed]
            ) as reader:
                raw = bytearray()
                while len(raw) < size and (piece := reader.read(min(CHUNK, size - len(raw)))):
                    raw += piece
        except zstandard.ZstdError as error:
            raise UserError(
                f"{path}: SPZ stream {index} does not unpack ({error}); the file is damaged"
            ) from error
        if len(raw) != size:
            raise UserError(
                f"{path}: truncated: SPZ stream {index} holds {len(raw)} of {size} bytes"
            )
        streams.append(np.frombuffer(raw, np.uint8).reshape(header.count, header.widths[index]))
        position += packed
    if len(streams) == 5:
        streams.append(np.zeros((header.count, 0), np.uint8))
    extensions = data[HEADER_4.size : contents] if header.flags & HAS_EXTENSIONS else b""
    return header, streams, extensions[:MAX_EXTENSIONS]


def _unpack(path: Path, header: _Header, streams: list[np.ndarray]) -> Splats:
    """Numbers out of bytes, in the axes of the file."""
    positions, opacities, colors, scales, rotations, harmonics = streams
    if header.degree > 3:
        log.warning("%s: harmonics above degree 3 dropped", path)
    bases = BASES[min(header.degree, 3)]
    unpack = _unpack_rotations_v2 if header.version == 2 else _unpack_rotations_v3
    sh = np.zeros((header.count, bases, 3), dtype=np.float32)
    sh[:, 0] = (colors.astype(np.float32) / 255 - 0.5) / COLOR_SCALE
    rest = harmonics.reshape(header.count, -1, 3)[:, : bases - 1]
    sh[:, 1:] = (rest.astype(np.float32) - 128) / 128
    return Splats(
        means=_unpack_positions(positions.reshape(header.count, 3, 3)) / 2.0**header.bits,
        log_scales=scales.astype(np.float32) / 16 - 10,
        quats_wxyz=unpack(rotations),
        logit_opacities=logit(opacities[:, 0] / 255, margin=1 / 1024),
        sh=sh,
        frame="gltf",
        antialiased=bool(header.flags & ANTIALIASED),
    )


def _in_gltf_axes(path: Path, splats: Splats, header: _Header, extensions: bytes) -> Splats:
    """Turned, and where the axes are left-handed mirrored, into RUB, as an extension may ask."""
    if header.flags & ~(ANTIALIASED | HAS_EXTENSIONS):
        log.warning("%s: ignoring unknown SPZ flags (%#x)", path, header.flags)
    found = dict(_records(extensions))
    system = found.pop(AXES_EXTENSION, None)
    if found or (system is None and header.flags & HAS_EXTENSIONS):
        log.warning(
            "%s: ignoring SPZ extensions (%s)", path, ", ".join(map(hex, found)) or "unreadable"
        )
    if system is None or system == RUB:
        return splats
    if not 1 <= system <= len(SYSTEMS):
        log.warning("%s: SPZ axes of unknown kind %d; taken as RUB, y up", path, system)
        return splats
    letters = SYSTEMS[system - 1]
    if letters in DISPUTED:
        log.warning(
            "%s: SPZ axes %s, as named; the format's own library turns these by 180 degrees about"
            " x; check which way is up (--up)",
            path,
            letters,
        )
    return _from_system(splats, letters)


def _records(extensions: bytes) -> Iterator[tuple[int, int]]:
    """Type and first word of each extension, up to one that runs out of the block."""
    position = 0
    while position + RECORD.size <= len(extensions):
        kind, length = RECORD.unpack_from(extensions, position)
        position += RECORD.size
        if kind == 0 or position + length > len(extensions):
            return
        yield kind, int.from_bytes(extensions[position : position + min(length, 4)], "little")
        position += length


def _from_system(splats: Splats, letters: str) -> Splats:
    """Splats whose x, y and z point the way of the three `letters` (Right, Left, Up, Down, Back,
    Front), in RUB.

    A left-handed system is a rotation after p -> -p, which leaves covariances as they are and
    changes the sign of the odd bands.
    """
    matrix = np.array([DIRECTIONS[letter] for letter in letters], dtype=np.float64).T
    if np.linalg.det(matrix) < 0:
        bands = np.sqrt(np.arange(splats.sh.shape[1])).astype(int)
        sh = splats.sh * np.where(bands % 2, -1, 1)[:, None]
        splats = dataclasses.replace(splats, means=-splats.means, sh=sh)
        matrix = -matrix
    return splats if np.array_equal(matrix, np.eye(3)) else splats.rotated(matrix)


def _unpack_positions(raw: np.ndarray) -> np.ndarray:
    words = np.zeros((*raw.shape[:2], 4), dtype=np.uint8)
    words[..., 1:] = raw  # the sign lies in the top byte; shifting down again carries it along
    return (words.view("<i4")[..., 0] >> 8).astype(np.float64)


def _unpack_rotations_v2(raw: np.ndarray) -> np.ndarray:
    xyz = raw.astype(np.float32) / 127.5 - 1
    return np.concatenate(
        [np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True))), xyz], axis=1
    )


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
