"""Reading PlayCanvas's compressed PLY; `gs_ssd.export.compressed_ply` describes it."""

from pathlib import Path

import numpy as np
from plyfile import PlyData

from gs_ssd.errors import UserError
from gs_ssd.export.compressed_ply import BOUNDS, CHUNK, WORDS
from gs_ssd.export.splats import BASES, Splats, logit
from gs_ssd.maths.conventions import SH_C0


def is_compressed(data: PlyData) -> bool:
    """Whether its vertices are packed words."""
    return "vertex" in data and set(WORDS) <= set(data["vertex"].data.dtype.names or ())


def unpack(path: Path, data: PlyData) -> Splats:
    """The splats, in the INRIA frame.

    Files from before 2024 have no bounds for colours: they are 0..1 then.

    Raises:
        UserError: chunks are missing, or harmonics that do not belong to the splats.
    """
    names = set(data["chunk"].data.dtype.names or ()) if "chunk" in data else set()
    if not names.issuperset(BOUNDS[:12]):
        raise UserError(
            f"{path}: PlayCanvas's compressed PLY without the bounds of its chunks; export it again"
        )
    words = np.stack([data["vertex"].data[name].astype(np.uint32) for name in WORDS], axis=1)
    count = len(words)
    chunks = data["chunk"].data
    if len(chunks) < -(-count // CHUNK):
        raise UserError(
            f"{path}: {len(chunks)} chunks of {CHUNK} for {count} splats; the file is damaged"
        )
    with_colors = names.issuperset(BOUNDS)
    bounds = np.zeros((len(chunks), 18))
    bounds[:, 15:] = 1
    for column, name in enumerate(BOUNDS if with_colors else BOUNDS[:12]):
        bounds[:, column] = chunks[name]
    bounds = np.repeat(bounds, CHUNK, axis=0)[:count]
    position, rotation, scale, color = words.T
    colors_and_opacity = _fields(color, (8, 8, 8, 8))
    sh = np.zeros((count, 1, 3), np.float32)
    sh[:, 0] = (_between(bounds[:, 12:], colors_and_opacity[:, :3]) - 0.5) / SH_C0
    return Splats(
        means=_between(bounds[:, :6], _fields(position, (11, 10, 11))),
        log_scales=_between(bounds[:, 6:12], _fields(scale, (11, 10, 11))),
        quats_wxyz=unpack_rotations(rotation),
        logit_opacities=logit(colors_and_opacity[:, 3], margin=1 / 1024),
        sh=np.concatenate([sh, _harmonics(path, data, count)], axis=1),
        frame="inria",
    )


def unpack_rotations(words: np.ndarray) -> np.ndarray:
    """Unit quaternions [N,4] (w, x, y, z) from words [N]: which part is largest, and the three
    others."""
    others = (_fields(words & np.uint32((1 << 30) - 1), (10, 10, 10)) - 0.5) * np.sqrt(2)
    return with_largest(others, (words >> np.uint32(30)).astype(int))


def with_largest(others: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Quaternions [N,4] from their three smaller parts [N,3], in order, and the index of the fourth
    [N]."""
    wxyz = np.zeros((len(others), 4))
    wxyz[np.arange(4) != largest[:, None]] = others.reshape(-1)
    rest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    wxyz[np.arange(len(wxyz)), largest] = rest
    return wxyz


def _harmonics(path: Path, data: PlyData, count: int) -> np.ndarray:
    if "sh" not in data:
        return np.zeros((count, 0, 3))
    rows = data["sh"].data
    columns = rows.dtype.names or ()
    bases = 1 + len(columns) // 3
    if (
        columns != tuple(f"f_rest_{i}" for i in range(len(columns)))
        or bases not in BASES
        or len(rows) != count
    ):
        raise UserError(
            f"{path}: {len(columns)} harmonics for {len(rows)} of {count} splats; the file is"
            " damaged"
        )
    raw = (
        np.stack([rows[name].astype(np.float64) for name in columns], axis=1)
        if columns
        else np.zeros((count, 0))
    )
    middle = np.where(
        raw == 0, 0.0, np.where(raw == 255, 1.0, (raw + 0.5) / 256)
    )  # of a cell, but for the two ends
    return ((middle - 0.5) * 8).reshape(count, 3, bases - 1).transpose(0, 2, 1)


def _fields(words: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Shares 0..1 [N,k] out of words [N], the first field topmost."""
    shift, fields = sum(widths), []
    for width in widths:
        shift -= width
        fields.append(((words >> np.uint32(shift)) & np.uint32(2**width - 1)) / (2**width - 1))
    return np.stack(fields, axis=1)


def _between(bounds: np.ndarray, shares: np.ndarray) -> np.ndarray:
    low, high = bounds[:, :3], bounds[:, 3:]
    return low + (high - low) * shares
