"""One HTML file that shows a splat: no server, no network, nothing beside it."""

import base64
import functools
import html
import json
import math
import os
from importlib import resources
from typing import Literal

from gs_ssd.export.splats import Splats
from gs_ssd.files import atomic_path
from gs_ssd.viewer.motion import Moving
from gs_ssd.viewer.pack import pack_splats, visible
from gs_ssd.viewer.views import Views

SCRIPTS = ("sort.js", "renderer.js", "orbit.js", "views.js", "motion.js", "viewer.js")


def write_page(
    path: str | os.PathLike[str],
    splats: Splats,
    *,
    title: str,
    subtitle: str = "",
    azimuth_deg: float = 25.0,
    elevation_deg: float = 12.0,
    fov_y_deg: float = 40.0,
    background: Literal["dark", "light", "grey"] = "dark",
    turn: bool = True,
    views: Views | None = None,
    moving: Moving | None = None,
) -> int:
    """Write a self-contained viewer page around `splats` (any frame; the page turns them y-up
    itself).

    Angles are those of the first view (azimuth 0 sees the front), which also turns by itself unless
    `turn` is off. `views` adds named views and a path, and its own first view, which then stands
    still. `title` is usually the prompt; `subtitle` stands under it, before the count of splats.
    `moving` says how the splats move, row by row.

    Returns:
        The size of the page in bytes.
    """
    seen = visible(splats)  # what cannot be seen is left out, and its joints with it
    packed = pack_splats(splats.take(seen).to_frame("gltf"))
    caption = f"{packed.count:,}".replace(",", "\u202f") + (
        " splat" if packed.count == 1 else " splats"
    )
    scene = {
        "count": packed.count,
        "shDegree": packed.sh_degree,
        "shTexels": packed.sh_degree,
        "shRange": packed.sh_range,
        "center": packed.center,
        "radius": packed.radius,
        "azimuth": math.radians(azimuth_deg),
        "polar": math.radians(90 - elevation_deg),
        "tanHalfY": math.tan(math.radians(fov_y_deg) / 2),
        "background": background,
        "turn": turn and (views is None or views.first is None),
        **(views or Views()).scene(),
        "rig": moving.scene(packed.center, packed.radius) if moving else None,
        "caption": f"{subtitle} · {caption}" if subtitle else caption,
    }
    data = packed.data + (moving.packed(seen) if moving else b"")
    text = fill_template(
        "template.html",
        title=html.escape(title),
        css=read_resource("viewer.css"),
        scene=json.dumps(scene).replace("<", "\\u003c"),
        data=base64.b64encode(data).decode("ascii"),
        js="\n".join(read_resource(name) for name in SCRIPTS),
    ).encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(text)
    return len(text)


def fill_template(template: str, **parts: str) -> str:
    """Put the parts in place.

    The template is split first, so that a `{{name}}` inside a part stays what it is."""
    pieces = read_resource(template).split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


@functools.cache
def read_resource(name: str) -> str:
    """A text file that lies beside this module."""
    return (resources.files("gs_ssd.viewer") / name).read_text(encoding="utf-8").rstrip("\n")
