"""What a file name means: who writes it, who reads it, and the axes that its readers expect."""

import dataclasses
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.compressed_ply import write_compressed_ply
from gs_ssd.export.dotsplat import read_splat, write_splat
from gs_ssd.export.frames import FROM_WORLD, Frame, up_rotation
from gs_ssd.export.glb import write_glb
from gs_ssd.export.glb_reader import read_glb
from gs_ssd.export.ply import read_ply, write_ply
from gs_ssd.export.sog import write_sog
from gs_ssd.export.splats import Splats
from gs_ssd.export.spz import write_spz
from gs_ssd.export.spz_reader import read_spz
from gs_ssd.export.usd import write_usd
from gs_ssd.files import atomic_path

log = logging.getLogger(__name__)

AXES: dict[str, Frame] = {"inria": "inria", "yup": "gltf", "zup": "blender"}  #: what the command line calls them


@dataclasses.dataclass(frozen=True)
class Format:
    """`frame`: the axes that readers of this format expect. `write` gets splats that are in them already."""

    frame: Frame
    write: Callable[..., None]
    read: Callable[[Path], Splats] | None = None


FORMATS: dict[str, Format] = {
    ".compressed.ply": Format("inria", lambda path, splats, **_: write_compressed_ply(path, splats)),
    ".ply": Format("inria", lambda path, splats, **_: write_ply(path, splats), read_ply),
    ".splat": Format("inria", lambda path, splats, **_: write_splat(path, splats), read_splat),
    ".spz": Format(
        "gltf", lambda path, splats, *, spz_version=3, **_: write_spz(path, splats, version=spz_version), read_spz
    ),
    ".glb": Format("gltf", lambda path, splats, *, title="splat", **_: write_glb(path, splats, name=title), read_glb),
    ".sog": Format("inria", lambda path, splats, **_: write_sog(path, splats)),
    ".usda": Format("gltf", lambda path, splats, *, title="splat", **_: write_usd(path, splats, name=title)),
    ".usdc": Format("gltf", lambda path, splats, *, title="splat", **_: write_usd(path, splats, name=title)),
}


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix that names the format, lower case; `.compressed.ply` counts as one."""
    name = Path(path).name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix)), Path(name).suffix)


def format_of(path: str | os.PathLike[str]) -> Format:
    """Raises UserError, naming the known suffixes, for any other."""
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise UserError(f"{path}: unknown format {suffix or '(no suffix)'}; known are {', '.join(FORMATS)} and .html")
    return FORMATS[suffix]


def read_splats(path: str | os.PathLike[str], *, up: str | None = None) -> Splats:
    """Read any format that we read; `axes` instead of a path gives the test object.

    The frame is the format's own, or the one noted beside a file that we wrote in other axes, or, where `up` names
    the axis that points up ("-y", "+z", ...), the file is turned to make that true.

    Raises:
        UserError: the file is unreadable, of a format that is only written, or holds no splats.
    """
    path = Path(path)
    if str(path) == "axes":
        return axes_object()
    kind = format_of(path)
    if kind.read is None:
        readable = ", ".join(suffix for suffix, format_ in FORMATS.items() if format_.read)
        raise UserError(f"{path}: {suffix_of(path)} is written, not read; {readable} are read")
    splats = kind.read(path)
    if len(splats) == 0:
        raise UserError(f"{path}: the file holds no splats")
    noted = _noted_frame(path)
    if up is not None:
        return splats.rotated(up_rotation(up, splats.frame))
    return dataclasses.replace(splats, frame=noted) if noted else splats


def write_splats(
    path: str | os.PathLike[str], splats: Splats, *, frame: Frame | None = None, **options: object
) -> None:
    """Write by suffix, in the format's own axes or in `frame`.

    Other axes than the format's own are noted in `<file>.axes.json`, so that reading the file back knows them.
    `options` that a format has no use for are ignored: `title`, `spz_version`.

    Raises:
        UserError: unknown suffix, a missing helper, no splats, or a place that cannot be written.
    """
    kind = format_of(path)
    if len(splats) == 0:
        raise UserError(f"cannot write {path}: there are no splats")
    chosen = frame or kind.frame
    kind.write(path, splats.to_frame(chosen), **options)
    note = _note(Path(path))
    if chosen != kind.frame:
        with atomic_path(note) as temporary:
            temporary.write_text(json.dumps({"frame": chosen}) + "\n")
    else:
        note.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".axes.json")


def _noted_frame(path: Path) -> Frame | None:
    note = _note(path)
    try:
        text = note.read_text()[:4096] if note.is_file() else "{}"
        frame = json.loads(text).get("frame")
    except (OSError, ValueError, AttributeError):
        frame = None
        log.warning("%s: unreadable, ignored", note)
    return next((known for known in FROM_WORLD if known == frame), None)
