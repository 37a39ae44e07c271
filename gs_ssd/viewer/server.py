"""Pages over HTTP on this machine alone, for browsers that will not open files, and several splats side by side."""

import functools
import html
import http.server
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.viewer.page import fill_template

HOST = "127.0.0.1"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A viewer has nothing to log."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def do_GET(self) -> None:
        """Answer only those who ask for this machine by name: a foreign site must not reach in through the browser."""
        name = self.headers.get("Host", "").rsplit(":", 1)[0]
        if name not in (HOST, "localhost"):
            self.send_error(403)
            return
        super().do_GET()


def open_server(folder: Path, port: int = 0) -> http.server.ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1; port 0 takes a free one. Not yet running: call `serve_forever`.

    Raises:
        UserError: the port is taken or not allowed.
    """
    handler = functools.partial(_Quiet, directory=str(folder))
    try:
        return http.server.ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on port {port} ({error}); choose another with --port") from error


def write_side_by_side(path: Path, pages: list[tuple[str, str]]) -> None:
    """A page with one frame for each (file name, title); turning one turns all."""
    frames = "\n".join(
        f'<iframe src="{html.escape(name)}" title="{html.escape(title)}"></iframe>' for name, title in pages
    )
    path.write_text(fill_template("side_by_side.html", frames=frames), encoding="utf-8")
