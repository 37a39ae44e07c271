"""What a file name means: who writes it, who reads it, and the axes that its readers expect."""

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.export import activated as activation
from gs_ssd.export import axes_note, far_away
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.clean import finite
from gs_ssd.export.compressed_ply import write_compressed_ply
from gs_ssd.export.content import refuse_other_content
from gs_ssd.export.dotsplat import read_splat, write_splat
from gs_ssd.export.frames import Frame, up_rotation
from gs_ssd.export.glb import write_glb
from gs_ssd.export.glb_reader import read_glb
from gs_ssd.export.ksplat_reader import read_ksplat
from gs_ssd.export.ply import write_ply
from gs_ssd.export.ply_reader import read_ply
from gs_ssd.export.sog import write_sog
from gs_ssd.export.sog_reader import read_sog
from gs_ssd.export.splats import Splats
from gs_ssd.export.spz import write_spz
from gs_ssd.export.spz_reader import read_spz
from gs_ssd.export.usd import write_usd

log = logging.getLogger(__name__)

HOLD_ANTIALIASING = (".ply", ".compressed.ply", ".sog", ".spz")  #: as a comment, an entry or a bit
AXES: dict[str, Frame] = {
    "inria": "inria",
    "yup": "gltf",
    "zup": "blender",
}  #: what the command line calls them


@dataclasses.dataclass(frozen=True)
class Format:
    """`frame`: the axes that readers of this format expect.

    `write` gets splats that are in them already."""

    frame: Frame
    write: Callable[..., None] | None
    read: Callable[[Path], Splats] | None = None


FORMATS: dict[str, Format] = {
    ".compressed.ply": Format(
        "inria", lambda path, splats, **_: write_compressed_ply(path, splats), read_ply
    ),
    ".ply": Format("inria", lambda path, splats, **_: write_ply(path, splats), read_ply),
    ".splat": Format("inria", lambda path, splats, **_: write_splat(path, splats), read_splat),
    ".spz": Format(
        "gltf",
        lambda path, splats, *, spz_version=4, **_: write_spz(path, splats, version=spz_version),
        read_spz,
    ),
    ".glb": Format(
        "gltf",
        lambda path, splats, *, title="splat", **_: write_glb(path, splats, name=title),
        read_glb,
    ),
    ".sog": Format("inria", lambda path, splats, **_: write_sog(path, splats), read_sog),
    ".ksplat": Format("inria", None, read_ksplat),
    ".usda": Format(
        "gltf", lambda path, splats, *, title="splat", **_: write_usd(path, splats, name=title)
    ),
    ".usdc": Format(
        "gltf", lambda path, splats, *, title="splat", **_: write_usd(path, splats, name=title)
    ),
}


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix that names the format, lower case; `.compressed.ply` counts as one."""
    name = Path(path).name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), Path(name).suffix)


def format_of(path: str | os.PathLike[str]) -> Format:
    """Raises UserError, naming the known suffixes, for any other."""
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise UserError(
            f"{path}: unknown format {suffix or '(no suffix)'}; known are {', '.join(FORMATS)} and"
            " .html"
        )
    return FORMATS[suffix]


def read_splats(
    path: str | os.PathLike[str], *, up: str | None = None, activated: activation.Part | None = None
) -> Splats:
    """Read any format that we read; `axes` instead of a path gives the test object.

    The frame is the format's own, or the one noted beside a file that we wrote in other axes, or,
    where `up` names the axis that points up ("-y", "+z", ...), the file is turned to make that
    true. `activated` says which raw values of a .ply are stored as they are drawn; where they look
    so and nothing was said, a warning names it.

    Raises:
        UserError: the file is unreadable, of a format that is only written, or holds no splats.
    """
    path = Path(path)
    if str(path) == "axes":
        return axes_object()
    kind = FORMATS.get(suffix_of(path))
    if kind is None or kind.read is None:
        readable = ", ".join(suffix for suffix, format_ in FORMATS.items() if format_.read)
        wrong = f"unknown format {path.suffix or '(no suffix)'}"
        wrong = wrong if kind is None else f"{suffix_of(path)} is written, not read"
        raise UserError(f"{path}: {wrong}; {readable} are read")
    refuse_other_content(path, suffix_of(path))
    splats = kind.read(path)
    if len(splats) == 0:
        raise UserError(f"{path}: the file holds no splats")
    if splats.antialiased:
        log.warning(
            "%s: trained with antialiasing (Mip-Splatting); kept as a mark, drawn without it here",
            path,
        )
    if activated is not None:
        splats = activation.deactivated(splats, activated)
    elif suffix_of(path) == ".ply":
        activation.warn_if_suspected(path, splats)
    if not any(splats.offset):
        with np.errstate(invalid="ignore"):  # NaNs that signal, in damaged files
            doubles = splats.means.astype(np.float64)
        means, offset = far_away.centered(path, doubles, splats.log_scales)
        splats = dataclasses.replace(splats, means=means, offset=offset)
    broken = int((~finite(splats)).sum())
    if 2 * broken > len(splats):
        log.warning(
            "%s: %d of %d splats make no sense; was the file damaged on its way (as text?), or is"
            " its byte order another than it says?",
            path,
            broken,
            len(splats),
        )
    if up is not None:
        return splats.rotated(up_rotation(up, splats.frame))
    noted, offset = axes_note.read(path)
    if noted is None:
        return splats
    x, y, z = (a + b for a, b in zip(splats.offset, offset, strict=True))
    return dataclasses.replace(splats, frame=noted, offset=(x, y, z))


def write_splats(
    path: str | os.PathLike[str],
    splats: Splats,
    *,
    frame: Frame | None = None,
    keep_offset: bool = False,
    **options: object,
) -> None:
    """Write by suffix, in the format's own axes or in `frame`.

    Other axes than the format's own are noted in `<file>.axes.json`, so that reading the file back
    knows them; with `keep_offset` also what was taken away from far positions (`Splats.offset`):
    added to the file's, it gives them (`axes_note`). `options` that a format has no use for are
    ignored: `title`, `spz_version`.

    Raises:
        UserError: unknown suffix, a missing helper, no splats, or a place that cannot be written.
    """
    kind = format_of(path)
    if kind.write is None:
        writable = ", ".join(suffix for suffix, format_ in FORMATS.items() if format_.write)
        raise UserError(
            f"cannot write {path}: {suffix_of(path)} is read, not written; {writable} are written"
        )
    if len(splats) == 0:
        raise UserError(f"cannot write {path}: there are no splats")
    chosen = frame or kind.frame
    splats = splats.to_frame(chosen)
    warn_if_mark_is_lost(path, splats)
    stated = splats.to_frame(kind.frame) if _names_its_axes(path, options) else splats
    kept = {"offset": list(stated.offset)} if keep_offset and any(stated.offset) else {}
    if stated.frame == kind.frame and not kept:
        kind.write(path, splats, **options)
        axes_note.remove(Path(path))
        return
    with axes_note.written(Path(path), {"frame": stated.frame, **kept}):
        kind.write(path, splats, **options)


def _names_its_axes(path: str | os.PathLike[str], options: dict[str, object]) -> bool:
    """Whether the file itself says which axes it is in, and reading it turns them to the format's
    own."""
    return suffix_of(path) == ".spz" and options.get("spz_version", 4) == 4


def warn_if_mark_is_lost(path: str | os.PathLike[str], splats: Splats) -> None:
    """Say that this format cannot hold the mark of antialiased splats."""
    if splats.antialiased and suffix_of(path) not in HOLD_ANTIALIASING:
        holders = ", ".join(HOLD_ANTIALIASING)
        log.warning("%s: cannot say that its splats are antialiased, and will look too heavy from "
                    "afar; %s can",
                    path, holders)  # fmt: skip
