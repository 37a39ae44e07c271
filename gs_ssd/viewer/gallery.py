"""One static page over many runs: a picture, the prompt, the settings that matter, the last
numbers, links."""

import base64
import html
import os
from collections.abc import Collection, Iterable
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from gs_ssd.files import atomic_path
from gs_ssd.viewer.page import fill_template
from gs_ssd.viewer.runs import Run

PICTURES = ("views.png", "turntable.webp")  #: in order of preference
LINKS = (
    ("index.html", "open"),
    ("turntable.mp4", "video"),
    ("point_cloud.ply", "PLY"),
    ("config.yaml", "config"),
)
SETTINGS = (
    ("guidance.estimator", "estimator"),
    ("num_steps", "steps"),
    ("seed", "seed"),
    ("prior.model", "prior"),
)
METRICS = (("num_splats", "splats"), ("seconds_per_step", "s/step"), ("alpha_mean", "mean alpha"))
WIDTH = 640  #: pixels of a picture inside the page


def write_gallery(path: Path, runs: list[Run], *, title: str = "Gallery") -> int:
    """Write the page; pictures lie inside it, links lead from its folder to the runs'.

    Returns its size in bytes."""
    count = f"{len(runs)} run" + ("s" if len(runs) != 1 else "")
    return write_cards(path, [_card(run, path.parent) for run in runs], title=title, count=count)


def write_cards(path: Path, cards: Iterable[str], *, title: str, count: str) -> int:
    """Write the page of cards that are made already; `count` stands under the title.

    Returns its size in bytes."""
    text = "\n".join(cards)
    data = fill_template(
        "gallery.html", title=html.escape(title), count=html.escape(count), cards=text
    ).encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def _card(run: Run, folder: Path) -> str:
    names = [name for name, _ in LINKS if (run.folder / name).is_file()]
    return card(run, _relative_url(run.folder, folder), names, _picture(run))


def card(run: Run, link: str, names: Collection[str], picture: str | None) -> str:
    """A run on the page.

    Args:
        link: the URL of its folder.
        names: the files that are there.
        picture: the URL of a picture.
    """
    facts = [(label, run.setting(key)) for key, label in SETTINGS]
    facts += [(label, run.metrics.get(key)) for key, label in METRICS]
    rows = "".join(
        f"<div><dt>{label}</dt><dd>{html.escape(_plain(value))}</dd></div>"
        for label, value in facts
        if value is not None
    )
    links = " ".join(
        f'<a href="{link}/{name}">{label}</a>' for name, label in LINKS if name in names
    )
    image = (
        f'<img src="{picture}" alt="{html.escape(run.title)} from several sides" loading="lazy">'
        if picture
        else ""
    )
    page = "index.html" if "index.html" in names else "point_cloud.ply"
    return (
        f'<article><a href="{link}/{page}">{image}</a><h2>{html.escape(run.title)}</h2>'
        f"<dl>{rows}</dl><p>{links}</p></article>"
    )


def _relative_url(target: Path, folder: Path) -> str:
    """A URL from one folder to another."""
    path = Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()
    return quote(os.fsencode(path))


def _plain(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _picture(run: Run) -> str | None:
    """The run's contact sheet as a small data URI, or None."""
    for name in PICTURES:
        if not (run.folder / name).is_file():  # nor is a pipe waited for
            continue
        try:
            with Image.open(run.folder / name) as image:
                image = image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        image.thumbnail((WIDTH, WIDTH))
        buffer = BytesIO()
        image.save(buffer, "WEBP", quality=80)
        return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return None
