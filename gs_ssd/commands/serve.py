"""`gs-ssd serve` and `gs-ssd studio`: a queue of runs over HTTP, without and with the page."""

import argparse
import os
import webbrowser
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.files import sweep
from gs_ssd.locks import held

EPILOG = """\
examples
  gs-ssd serve                              runs in out/, on http://127.0.0.1:8018
  gs-ssd serve assets --at-once 2
  gs-ssd serve --host 0.0.0.0               others reach it too, with the token that it prints

  curl -d '{"prompt": "a red mushroom"}' -H 'Content-Type: application/json' \\
       http://127.0.0.1:8018/api/runs        submit
  curl http://127.0.0.1:8018/api/runs        all runs; /api/runs/NAME one
  curl -N http://127.0.0.1:8018/api/runs/NAME/events            server-sent events, until its end
  curl -X POST http://127.0.0.1:8018/api/runs/NAME/stop         cancel
  curl -OJ http://127.0.0.1:8018/api/runs/NAME/files/point_cloud.ply?download=1

docs/studio.md has the whole interface; /openapi.json describes it to programs.
"""
PORT = 8018


def add_arguments(parser: argparse.ArgumentParser, *, epilog: str = EPILOG) -> None:
    """Declare the command line."""
    parser.epilog = epilog
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("out"), help="of the runs (default: out)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0: a free one")
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME", help="another name of this machine"
    )
    parser.add_argument(
        "--at-once", type=int, default=1, metavar="N", help="runs at a time (default: 1)"
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="what requests must show (default: a new one where others reach the server; also"
        " GS_SSD_TOKEN)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve the interface until interrupted; what was running when the server last ended goes on.

    Raises:
        UserError: the port is taken, or another server uses the folder.
    """
    return serve(args, page=False, requeue=True)


def serve(args: argparse.Namespace, *, page: bool, requeue: bool, browser: bool = False) -> int:
    """Serve until interrupted.

    Args:
        page: the studio's page too.
        requeue: continue what was running when the server last ended.
        browser: open the page.
    """
    from gs_ssd.studio import serving
    from gs_ssd.studio.app import create_app
    from gs_ssd.studio.guard import Guard
    from gs_ssd.studio.journal import Journal
    from gs_ssd.studio.queue import Queue
    from gs_ssd.studio.runs import JOURNAL, OWN, UPLOADS, RunsFolder

    if not 1 <= args.at_once <= 64:
        raise UserError(f"--at-once {args.at_once}: choose 1 to 64")
    token = serving.token_for(args.host, args.token or os.environ.get("GS_SSD_TOKEN"))
    runs = RunsFolder(args.folder)
    with (
        held(args.folder / OWN, "gs-ssd studio"),
        serving.listening(args.host, args.port) as listening,
    ):
        url = serving.address(args.host, listening.getsockname()[1], token)

        def ready() -> None:
            print(f"{url}  (Ctrl-C ends it and saves what runs)", flush=True)
            if browser:
                webbrowser.open(url)

        sweep(args.folder / UPLOADS)
        journal = Journal(args.folder / JOURNAL)
        # A worker that waits holds half a gigabyte: only where somebody waits for it.
        queue = Queue(runs, journal, at_once=args.at_once, requeue=requeue, spare=page)
        guard = Guard(args.host, tuple(name.lower() for name in args.name))
        app = create_app(queue, guard, token=token, page=page)
        serving.serve_until_interrupted(app, listening, queue.begin_shutdown, ready=ready)
    return 0
