"""`gs-ssd studio`: make, watch, look through and export splats in the browser."""

import argparse

from gs_ssd.commands import serve

EPILOG = """\
examples
  gs-ssd studio                     runs in out/; opens http://127.0.0.1:8018
  gs-ssd studio assets --no-browser
  gs-ssd studio --host 0.0.0.0      others reach it too, with the token in the address it prints
  ssh -L 8018:localhost:8018 HOST   then `gs-ssd studio --no-browser` there: the page is here

Runs are the same as those of `gs-ssd train`; either continues the other's.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    serve.add_arguments(parser, epilog=EPILOG)
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted.

    Raises:
        UserError: the port is taken, or another server uses the folder.
    """
    return serve.serve(args, page=True, requeue=False, browser=not args.no_browser)
