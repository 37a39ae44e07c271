"""Contact sheets (PNG) and the page (HTML) on which one looks at a benchmark's assets."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from gs_ssd.files import atomic_path

MARGIN = 4
CAPTION = 14


class Strip(NamedTuple):
    """Some pictures of one object under one caption."""

    caption: str
    pictures: UInt8[np.ndarray, "n h w 3"]


def contact_sheet(rows: Sequence[Sequence[Strip]], path: Path, max_kb: int = 300) -> None:
    """One line of strips for each row; fewer colours until the file is at most `max_kb`
    kilobytes."""
    heights = [CAPTION + max(len(strip.pictures[0]) for strip in row) + MARGIN for row in rows]
    widths = [sum(_width(strip) + 2 * MARGIN for strip in row) for row in rows]
    sheet = Image.new("RGB", (max(widths), sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = MARGIN
        for strip in row:
            draw.text((left, top), strip.caption, fill="black")
            sheet.paste(
                Image.fromarray(np.concatenate(list(strip.pictures), axis=1)), (left, top + CAPTION)
            )
            left += _width(strip) + 2 * MARGIN
        top += height
    with atomic_path(path) as temporary:
        temporary.write_bytes(_small_png(sheet, max_kb))


def page(
    title: str, summary: str, rows: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]
) -> str:
    """The HTML page: per prompt its strips, each (picture's address, caption, link).

    Args:
        summary: Markdown, shown as it is.
    """
    parts = []
    for prompt, strips in rows:
        cells = "".join(
            f'<figure><a href="{html.escape(link)}"><img loading="lazy" src="{html.escape(image)}"'
            f' alt=""></a><figcaption>{html.escape(caption)}</figcaption></figure>'
            for image, caption, link in strips
        )
        parts.append(f"<h2>{html.escape(prompt)}</h2><section>{cells}</section>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>body{{font:15px"
        " system-ui,sans-serif;margin:2rem;max-width:90rem}"
        "section{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{font-size:12px;color:#555}"
        "img{max-width:100%;border:1px solid"
        " #ddd}pre{overflow:auto;background:#f6f6f6;padding:1rem}</style>"
        f"<h1>{html.escape(title)}</h1>{''.join(parts)}<h2>Numbers</h2><pre>{html.escape(summary)}</pre></html>\n"
    )


def _width(strip: Strip) -> int:
    return strip.pictures.shape[0] * strip.pictures.shape[2]


def _small_png(sheet: Image.Image, max_kb: int) -> bytes:
    data = _png(sheet)
    for colors in (256, 128, 64, 32, 16):
        if len(data) <= max_kb * 1000:
            break
        data = _png(sheet.quantize(colors, dither=Image.Dither.NONE))
    return data


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
