"""One page with several others in it, which turn together."""

import html
from pathlib import Path

from gs_ssd.viewer.page import fill_template


def write_side_by_side(path: Path, pages: list[tuple[str, str]]) -> None:
    """A page with one frame for each (file name, title); turning one turns all."""
    frames = "\n".join(
        f'<iframe src="{html.escape(name)}" title="{html.escape(title)}"></iframe>'
        for name, title in pages
    )
    path.write_text(fill_template("side_by_side.html", frames=frames), encoding="utf-8")
