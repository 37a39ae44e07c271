"""3DGS PLY, the lingua franca: all-float, `x y z nx ny nz f_dc f_rest opacity scale rot`, INRIA frame by convention."""

import logging
import os
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from gs_ssd.errors import UserError
from gs_ssd.export.bounded import require_plain_file
from gs_ssd.export.splats import BASES, SH_C0, Splats
from gs_ssd.files import atomic_path

log = logging.getLogger(__name__)

MAX_HEADER = 1 << 16  #: bytes; the longest honest header (62 properties) needs 2 KB
MAX_PROPERTIES = 512
SIZES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8} | {
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8
}  # fmt: skip
REQUIRED = ("x", "y", "z", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")


def property_names(bases: int) -> list[str]:
    """Names in the order every importer expects: 17, 26, 41 or 62 floats for 1, 4, 9 or 16 `bases`."""
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * (bases - 1))),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def write_ply(path: str | os.PathLike[str], splats: Splats) -> None:
    """Write binary little-endian PLY in the frame `splats` is in, without comments (some importers trip on them).

    Normals are zero, quaternions unit; `f_rest` is channel-major: all red, then all green, then all blue.
    """
    count, bases = len(splats), splats.sh.shape[1]
    rest = splats.sh[:, 1:].transpose(0, 2, 1).reshape(count, 3 * (bases - 1))
    columns = np.concatenate(
        [
            splats.means,
            np.zeros((count, 3), np.float32),
            splats.sh[:, 0],
            rest,
            splats.logit_opacities[:, None],
            splats.log_scales,
            splats.unit_quats_wxyz,
        ],
        axis=1,
    ).astype("<f4")
    dtype = np.dtype([(name, "<f4") for name in property_names(bases)])
    vertices = np.ascontiguousarray(columns).view(dtype).reshape(count)
    with atomic_path(path) as temporary:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(str(temporary))


def read_ply(path: str | os.PathLike[str]) -> Splats:
    """Read a 3DGS PLY of any byte order, property order and harmonic degree; the frame is taken to be INRIA's.

    Unknown properties and further elements are ignored with a warning that names them; coefficients above
    degree 3 are dropped.

    Raises:
        UserError: not a PLY, truncated, not a splat, or a count of f_rest that is no degree.
    """
    path = Path(path)
    _check_header(path)
    try:
        data = PlyData.read(str(path))
        vertex = data["vertex"].data
    except (PlyParseError, ValueError, KeyError, IndexError, OverflowError, MemoryError, OSError) as error:
        raise UserError(f"{path}: not a readable PLY ({error}); export it again") from error
    return splats_from_columns(path, vertex)


def splats_from_columns(path: Path, vertex: np.ndarray) -> Splats:
    """Give a structured array with 3DGS property names its meaning."""
    names = set(vertex.dtype.names or ())
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UserError(_explain_missing(path, missing, names))

    def columns(*wanted: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # doubles beyond float32 become infinite and are counted by the cleaner
            return np.stack([vertex[name].astype(np.float32) for name in wanted], axis=-1)

    rest_names = sorted((n for n in names if n.startswith("f_rest_")), key=lambda n: (len(n), n))
    if rest_names != [f"f_rest_{i}" for i in range(len(rest_names))]:
        raise UserError(f"{path}: its f_rest columns are not numbered 0..{len(rest_names) - 1}; export it again")
    bases, remainder = divmod(len(rest_names), 3)
    bases += 1
    if remainder or bases not in (*BASES, 25, 36):
        raise UserError(f"{path}: {len(rest_names)} f_rest columns; 0, 9, 24 or 45 belong to degrees 0, 1, 2 and 3")
    if bases > BASES[-1]:
        log.warning("%s: harmonics above degree 3 dropped", path)

    if {"f_dc_0", "f_dc_1", "f_dc_2"} <= names:
        sh = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    elif {"red", "green", "blue"} <= names:
        sh = (columns("red", "green", "blue")[:, None] / 255.0 - 0.5) / SH_C0
    else:
        raise UserError(f"{path}: no colour (f_dc_0..2); export it again as a 3DGS PLY")
    if rest_names:
        rest = columns(*rest_names).reshape(len(vertex), 3, bases - 1).transpose(0, 2, 1)
        sh = np.concatenate([sh, rest[:, : BASES[-1] - 1]], axis=1)

    unknown = names - set(REQUIRED) - set(rest_names) - {"nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"}
    if unknown:
        log.warning("%s: ignoring %d unknown properties (%s)", path, len(unknown), ", ".join(sorted(unknown)[:5]))
    return Splats(
        means=columns("x", "y", "z"),
        log_scales=columns("scale_0", "scale_1", "scale_2"),
        quats_wxyz=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        logit_opacities=columns("opacity")[:, 0],
        sh=sh,
        frame="inria",
    )


def _explain_missing(path: Path, missing: list[str], names: set[str]) -> str:
    if {"packed_position", "packed_rotation"} <= names:
        return f"{path}: this is PlayCanvas's compressed PLY; turn it into .ply with `npx @playcanvas/splat-transform`"
    if {"scale_0", "scale_1", "rot_0"} <= names and missing == ["scale_2"]:
        return f"{path}: a 2DGS file (two scales a splat); export it as 3DGS"
    return f"{path}: a PLY, but not a Gaussian splat: {', '.join(missing[:4])} missing"


def _check_header(path: Path) -> None:
    """Refuse headers whose promises the file cannot hold, before any library allocates what they ask for."""
    size = require_plain_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(MAX_HEADER)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not head.startswith(b"ply"):
        raise UserError(f"{path}: not a PLY file{' (it is empty)' if not head else ''}")
    end = head.find(b"end_header")
    if end < 0:
        raise UserError(f"{path}: no end_header in its first {MAX_HEADER // 1024} KB; the PLY is damaged")
    is_text = False
    promised = elements = properties = 0
    count = row = 0
    try:
        for line in head[:end].decode("ascii").split("\n")[1:]:
            match line.split():
                case ["format", kind, *_]:
                    is_text = kind == "ascii"
                case ["element", _, number]:
                    promised, elements = promised + count * max(row, 1), elements + 1
                    count, row = int(number), 0
                    if count < 0:
                        raise UserError(f"{path}: an element of {count} rows; the PLY is damaged")
                case ["property", "list", *_] if count:  # each row may ask for 16 GB of its own
                    raise UserError(f"{path}: a mesh (its PLY has lists), not a Gaussian splat")
                case ["property", kind, _]:
                    row, properties = row + (2 if is_text else SIZES.get(kind, 1)), properties + 1
    except ValueError as error:
        raise UserError(f"{path}: a damaged PLY header ({error})") from error
    promised += count * max(row, 1)
    if elements > 16 or properties > MAX_PROPERTIES:
        raise UserError(f"{path}: {elements} elements with {properties} properties; not a Gaussian splat")
    available = size - end + (1 if is_text else 0)
    if promised > available:
        raise UserError(f"{path}: truncated: its header promises {promised} bytes, {max(available, 0)} are there")
