"""What a run or an uploaded file is given out as: bytes for the page, pictures, files for
engines."""

import dataclasses
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, ImageChops

from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.errors import UserError
from gs_ssd.export.clean import Cleaning, clean
from gs_ssd.export.formats import FORMATS, read_splats, suffix_of, write_splats
from gs_ssd.export.splats import Splats
from gs_ssd.export.targets import TARGETS, Target
from gs_ssd.files import slug
from gs_ssd.run import checkpoint as checkpoints
from gs_ssd.studio.runs import PLY, RunsFolder
from gs_ssd.viewer.page import write_page

TILES = (4, 2)  #: views.png and the previews are this many pictures across and down
SHOWN = 1  #: of them, the one that stands for the run
ROOM = 0.16  #: around the object, as a share of its size
READABLE = tuple(suffix for suffix, kind in FORMATS.items() if kind.read is not None)
TITLES = {"three": "three.js", "playcanvas": "PlayCanvas", "supersplat": "SuperSplat"}
TITLES |= {"web": "Web page", "gltf": "glTF", "usd": "USD"}


@dataclasses.dataclass(frozen=True)
class Written:
    """A file for some place, and the line that says how to get it in there."""

    path: Path
    hint: str


def targets() -> list[dict[str, str]]:
    """Every place that a splat can be written for, and how it gets in there."""
    return [
        {
            "name": name,
            "title": TITLES.get(name, name.capitalize()),
            "suffix": target.suffix,
            "hint": target.hint.format(file=f"the {target.suffix}"),
        }
        for name, target in TARGETS.items()
    ]


def splats_of(runs: RunsFolder, name: str, completed: int | None = None) -> Splats:
    """A run's splat: the finished one, else that of its newest checkpoint (or of another one).

    Raises:
        UserError: it has none yet.
    """
    folder = runs.folder(name)
    if completed is None and (folder / PLY).is_file() and runs.facts(name).done:
        splats, _ = clean(read_splats(folder / PLY), Cleaning())
        return splats
    found = checkpoints.listing(folder / "checkpoints")
    if completed is not None:
        found = [path for path in found if path.stem == f"step_{completed:06d}"]
    if not found:
        if completed is None and (folder / PLY).is_file():
            return read_splats(folder / PLY)
        raise UserError(f"{name} has nothing to show yet")
    if completed is None:
        saved = checkpoints.load_newest(folder / "checkpoints")
    else:
        saved = checkpoints.load(found[-1])
    asset = choice.create(configs.from_mapping(saved.config, name), torch.device("cpu"))
    asset.load_state_dict(saved.state["asset"])
    splats = asset.splats()
    if splats is None:
        raise UserError(f"{name} cannot be shown as splats")
    return splats


def write_for(
    target: str, splats: Splats, title: str, folder: Path, stem: str | None = None
) -> Written:
    """Write a splat for one of `TARGETS` into `folder`; `stem` begins the file's name (by default
    the title does).

    Raises:
        UserError: no such target, or a helper is missing.
    """
    if target not in TARGETS:
        raise UserError(f"there is no target {target!r}; there are {', '.join(TARGETS)}")
    to = TARGETS[target]
    path = folder / f"{stem or slug(title, 'splat')}.{target}{to.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, splats, title, to)
    return Written(path, to.hint.format(file=path.name))


def _write(path: Path, splats: Splats, title: str, to: Target) -> None:
    if to.suffix == ".html":
        write_page(path, splats, title=title)
        return
    padded = splats.with_sh_degree(3) if to.pad_sh3 else splats
    write_splats(path, padded, frame=to.frame, title=title, spz_version=to.spz_version)


def picture_of(folder: Path, width: int = 320) -> bytes | None:
    """A small picture of a run (WebP): one tile of its contact sheet, finished or under way."""
    sheets = [folder / "views.png"]
    sheets += sorted((folder / "previews").glob("step_*.png"), reverse=True)
    for sheet in filter(Path.is_file, sheets):
        try:
            with Image.open(sheet) as image:
                tile_width, tile_height = image.width // TILES[0], image.height // TILES[1]
                left = SHOWN * tile_width
                tile = image.convert("RGB").crop((left, 0, left + tile_width, tile_height))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        tile = tile.crop(_around_the_object(tile))
        tile.thumbnail((width, width))
        buffer = BytesIO()
        tile.save(buffer, "WEBP", quality=85)
        return buffer.getvalue()
    return None


def _around_the_object(tile: Image.Image) -> tuple[int, int, int, int]:
    """A square box about what differs from the picture's corner, with some room."""
    corner = Image.new("RGB", tile.size, tile.getpixel((0, 0)))
    found = ImageChops.difference(tile, corner).convert("L").point(lambda value: 255 * (value > 16))
    left, top, right, bottom = found.getbbox() or (0, 0, *tile.size)
    half = round(max(right - left, bottom - top) / 2 * (1 + ROOM))
    half = min(half, min(tile.size) // 2)
    x = min(max((left + right) // 2, half), tile.width - half)
    y = min(max((top + bottom) // 2, half), tile.height - half)
    return x - half, y - half, x + half, y + half


def check_readable(name: str) -> str:
    """The suffix of a file that is read here.

    Raises:
        UserError: it is not.
    """
    suffix = suffix_of(name)
    if suffix not in READABLE:
        raise UserError(f"{name}: {', '.join(READABLE)} can be opened here")
    return suffix
