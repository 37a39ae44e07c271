"""`gs-ssd view`: splats in the browser, one or several side by side."""

import argparse
import tempfile
import webbrowser
from pathlib import Path

from gs_ssd.export.activated import Part
from gs_ssd.export.clean import Cleaning, clean
from gs_ssd.export.formats import read_splats, suffix_of
from gs_ssd.viewer.page import write_page
from gs_ssd.viewer.runs import source_of
from gs_ssd.viewer.side_by_side import write_side_by_side

HOST = "127.0.0.1"
EPILOG = """\
examples
  gs-ssd view out/a-red-mushroom
  gs-ssd view out/ssd out/sds other.spz      side by side: turning one turns all
  gs-ssd view scan.ply --up +z

Served on 127.0.0.1 alone until Ctrl-C. A run's index.html also opens by itself, without a server.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.epilog = EPILOG
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        help="runs' folders, splats (.ply .splat .spz .glb .sog .ksplat), or pages",
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.add_argument(
        "--up", metavar="AXIS", choices=[s + a for a in "xyz" for s in ("+", "-")], help="e.g. +z"
    )
    parser.add_argument(
        "--activated",
        nargs="?",
        const="both",
        choices=("both", "opacities", "scales"),
        help="sources store opacities in 0..1 and linear sizes (as `gs-ssd export --activated`)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises:
        UserError: a source that cannot be read, or a port that is taken.
    """
    from gs_ssd.studio import pages, serving

    with (
        tempfile.TemporaryDirectory(prefix="gs-ssd-view-") as name,
        serving.listening(HOST, args.port, "--port") as listening,
    ):
        prepare(args.sources, Path(name), up=args.up, activated=args.activated)
        url = serving.address(HOST, listening.getsockname()[1], None)

        def ready() -> None:
            print(f"{url}  (Ctrl-C ends it)", flush=True)
            if not args.no_browser:
                webbrowser.open(url)

        app = pages.create_app(Path(name), HOST)
        serving.serve_until_interrupted(app, listening, ready=ready)
    return 0


def prepare(
    sources: list[Path], folder: Path, *, up: str | None = None, activated: Part | None = None
) -> None:
    """Write the pages into `folder`; index.html is the one to open."""
    pages = []
    for index, source in enumerate(sources):
        name = "index.html" if len(sources) == 1 else f"{index}.html"
        if suffix_of(source) in (".html", ".htm") and source.is_file():
            (folder / name).write_bytes(source.read_bytes())
            title = source.stem
        else:
            file, title = source_of(source) if str(source) != "axes" else (source, "axes")
            splats, _ = clean(read_splats(file, up=up, activated=activated), Cleaning())
            write_page(folder / name, splats, title=title, turn=index == 0)
        pages.append((name, title))
    if len(pages) > 1:
        write_side_by_side(folder / "index.html", pages)
