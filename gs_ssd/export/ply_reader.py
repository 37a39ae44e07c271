"""Reading 3DGS PLY of any byte order, property order and harmonic degree, with what its comments
say."""

import dataclasses
import logging
import os
import re
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export.compressed_ply_reader import is_compressed, unpack
from gs_ssd.export.far_away import centered
from gs_ssd.export.splats import BASES, Splats, logit
from gs_ssd.files import require_plain_file
from gs_ssd.maths.conventions import SH_C0
from gs_ssd.maths.stored_colors import unit_colors
from gs_ssd.scene.ply_file import PLY_ERRORS, open_ply, read_header

log = logging.getLogger(__name__)

REQUIRED = (
    "x",
    "y",
    "z",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)
DC = ("f_dc_0", "f_dc_1", "f_dc_2")
PLAIN_COLORS = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)

# Infinite logits: opaque is what 8 bits can still tell from 1, which a training can move again;
# -inf is unseen.
OPAQUE, UNSEEN = float(np.log(254.0)), float(-np.log(1023.0))


def read_ply(path: str | os.PathLike[str]) -> Splats:
    """Read a 3DGS PLY, or PlayCanvas's compressed one.

    The frame is INRIA's, unless a comment names another vertical axis.
    Unknown properties and further elements are ignored with a warning that names them; coefficients
    above degree 3 are dropped. Splats at map coordinates are centred (`Splats.offset`).

    Raises:
        UserError: not a PLY, truncated, not a splat, or a count of f_rest that is no degree.
    """
    path = Path(path)
    header = read_header(path, size=require_plain_file(path))
    try:
        data = open_ply(path)
        vertex = data["vertex"].data
        packed = unpack(path, data) if is_compressed(data) else None
    except PLY_ERRORS as error:
        raise UserError(f"{path}: not a readable PLY ({error}); export it again") from error
    known = ("vertex",) if packed is None else ("vertex", "chunk", "sh")
    others = [name for name, rows in header.elements.items() if name not in known and rows]
    splats = splats_from_columns(path, vertex) if packed is None else packed
    if others:
        log.warning(
            "%s: ignoring %d further elements (%s)",
            path,
            len(others),
            ", ".join(name[:40] for name in others[:8]),
        )
    if header.left_over:
        log.warning("%s: %d bytes after the last splat are ignored", path, header.left_over)
    return with_comments(path, splats, header.comments)


def splats_from_columns(path: Path, vertex: np.ndarray) -> Splats:
    """Give a structured array with 3DGS property names its meaning."""
    names = set(vertex.dtype.names or ())
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UserError(_explain_missing(path, missing, names))
    rest_names = sorted((n for n in names if n.startswith("f_rest_")), key=lambda n: (len(n), n))
    color_names = next((triple for triple in (DC, *PLAIN_COLORS) if names.issuperset(triple)), None)
    if color_names is None:
        raise UserError(f"{path}: no colour (f_dc_0..2); export it again as a 3DGS PLY")
    log_scales = _thick(path, _columns(vertex, "scale_0", "scale_1", "scale_2"))
    positions = np.stack([vertex[name] for name in "xyz"], axis=-1)
    means, offset = centered(path, positions, log_scales)
    unknown = names - {*REQUIRED, *rest_names, *color_names, "nx", "ny", "nz"}
    if unknown:
        log.warning(
            "%s: ignoring %d further properties (%s)",
            path,
            len(unknown),
            ", ".join(name[:40] for name in sorted(unknown)[:5]),
        )
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which the cleaner counts
        means = means.astype(np.float32)
    return Splats(
        means=means,
        log_scales=log_scales,
        quats_wxyz=_columns(vertex, "rot_0", "rot_1", "rot_2", "rot_3"),
        logit_opacities=_opacities(path, vertex["opacity"]),
        sh=_harmonics(path, vertex, color_names, rest_names),
        frame="inria",
        offset=offset,
    )


def _columns(vertex: np.ndarray, *wanted: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.stack([vertex[name].astype(np.float32) for name in wanted], axis=-1)


def _harmonics(
    path: Path, vertex: np.ndarray, color_names: tuple[str, ...], rest_names: list[str]
) -> np.ndarray:
    """[N,K,3] from f_dc or plain colours, and from channel-major f_rest columns."""
    if rest_names != [f"f_rest_{i}" for i in range(len(rest_names))]:
        raise UserError(
            f"{path}: its f_rest columns are not numbered 0..{len(rest_names) - 1}; export it again"
        )
    bases, remainder = divmod(len(rest_names), 3)
    bases += 1
    if remainder or bases not in (*BASES, 25, 36):
        raise UserError(
            f"{path}: {len(rest_names)} f_rest columns; 0, 9, 24 or 45 belong to degrees 0, 1, 2"
            " and 3"
        )
    if bases > BASES[-1]:
        log.warning("%s: harmonics above degree 3 dropped", path)
    if color_names == DC:
        sh = _columns(vertex, *DC)[:, None]
    else:
        sh = (
            (unit_colors(np.stack([vertex[name] for name in color_names], axis=-1)) - 0.5) / SH_C0
        )[:, None]
    if not rest_names:
        return sh
    rest = _columns(vertex, *rest_names).reshape(len(vertex), 3, bases - 1).transpose(0, 2, 1)
    return np.concatenate([sh, rest[:, : BASES[-1] - 1]], axis=1)


def _thick(path: Path, log_scales: np.ndarray) -> np.ndarray:
    """Flat splats, whose third size is zero as 2DGS has it, with a thickness that can be kept."""
    flat = np.isneginf(log_scales) & np.isfinite(log_scales).any(axis=1, keepdims=True)
    if not flat.any():
        return log_scales
    log.warning(
        "%s: %d flat splats were made 1/1000 as thick as wide", path, flat.any(axis=1).sum()
    )
    widest = log_scales.max(axis=1, keepdims=True)
    return np.where(flat, widest - np.float32(np.log(1000)), log_scales)


def _opacities(path: Path, column: np.ndarray) -> np.ndarray:
    """Logits [N]; bytes and words are opacities themselves. Infinite logits, valid in files of
    others, come at values that a training can move; NaN stays and is counted."""
    if column.dtype.kind == "u":
        full = np.iinfo(column.dtype).max
        log.warning("%s: opacities are whole numbers: read as 0..%d", path, full)
        return logit(column / full, margin=1 / 1024)
    with np.errstate(over="ignore"):
        logits = column.astype(np.float32)
    infinite = np.isinf(logits)
    if not infinite.any():
        return logits
    log.warning(
        "%s: %d infinite opacities were brought to 1/1024 and 254/255", path, int(infinite.sum())
    )
    return np.where(infinite, np.where(logits > 0, OPAQUE, UNSEEN), logits).astype(np.float32)


def with_comments(path: Path, splats: Splats, comments: tuple[str, ...]) -> Splats:
    """What Brush, Postshot and splat-transform (antialiasing) and nerfstudio (the vertical axis)
    put into comments."""
    antialiased, axis = splats.antialiased, ""
    for comment in comments:
        words = comment.strip().lower()
        if match := re.fullmatch(r"splatrendermode\s*:\s*(\w+)", words):
            antialiased = match[1] == "mip"
            if match[1] == "2dgs":
                log.warning(
                    "%s: trained as flat 2D splats (SplatRenderMode: 2dgs); drawn as 3D ones here",
                    path,
                )
        elif match := re.fullmatch(r"antialiased\s*:?\s*(\d+|true|false)", words):
            antialiased = match[1] not in ("0", "false")
        elif match := re.fullmatch(r"vertical axis\s*:\s*([+-]?[xyz])", words):
            axis = match[1]
    splats = dataclasses.replace(splats, antialiased=antialiased)
    if axis in ("", "y", "-y"):  # y may mean either sign; by the format's convention it points down
        return splats
    if axis in ("z", "+z"):
        log.warning(
            "%s: its header says 'Vertical Axis: z': read so (--up -y for the format's usual axes)",
            path,
        )
        return dataclasses.replace(splats, frame="blender")
    log.warning(
        "%s: its header says 'Vertical Axis: %s'; if it lies on its side, add --up %s",
        path,
        axis,
        axis,
    )
    return splats


def _explain_missing(path: Path, missing: list[str], names: set[str]) -> str:
    if {"scale_0", "scale_1", "rot_0"} <= names and missing == ["scale_2"]:
        return f"{path}: a 2DGS file (two scales a splat); export it as 3DGS"
    return f"{path}: a PLY, but not a Gaussian splat: {', '.join(missing[:4])} missing"
