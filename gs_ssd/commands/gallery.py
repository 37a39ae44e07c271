"""`gs-ssd gallery`: one static page over many runs."""

import argparse
from pathlib import Path

from gs_ssd.files import require_text
from gs_ssd.run.folder import refuse_to_replace
from gs_ssd.viewer.gallery import write_gallery
from gs_ssd.viewer.runs import find_runs

EPILOG = """\
examples
  gs-ssd gallery out                       every finished run below out/, into out/gallery.html
  gs-ssd gallery out/a out/b -o two.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.epilog = EPILOG
    parser.add_argument("folders", nargs="+", type=Path, help="runs, or folders that hold runs")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="default: gallery.html in the first folder",
    )
    parser.add_argument("--title", type=require_text, default="Gallery")


def run(args: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        UserError: no finished run, or a place that cannot be written.
    """
    runs = find_runs(args.folders)
    path = args.output or args.folders[0] / "gallery.html"
    refuse_to_replace(path)
    size = write_gallery(path, runs, title=args.title)
    print(f"{path}  {len(runs)} runs, {size / 1e6:.1f} MB")
    return 0
