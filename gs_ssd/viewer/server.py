"""Pages over HTTP on this machine alone, for browsers that will not open files, and several splats
side by side."""

import functools
import html
import http.server
import socket
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

from gs_ssd.errors import UserError
from gs_ssd.viewer.guard import Guard
from gs_ssd.viewer.page import fill_template

HOST = "127.0.0.1"
TIMEOUT_S = 20.0
"""For a request to arrive, and for each piece of an answer (64 KiB) to be taken."""
MOST_CONNECTIONS = 32
"""Threads at once; a browser opens six."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """GET and HEAD of the files in one folder, for clients that `Guard` lets in."""

    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """A viewer has nothing to log."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def parse_request(self) -> bool:
        """Whether the request may be answered; asked before any method is looked at."""
        if not super().parse_request():
            return False
        server = cast(PageServer, self.server)
        server.has_asked(self.connection)
        refusal = server.guard.refusal(
            self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        )
        if refusal is not None:
            self.send_error(403, explain=refusal)
        return refusal is None

    def send_head(self) -> BinaryIO | Any:
        """The file; 404 also for paths that cannot name one (a zero byte, too long)."""
        try:
            return super().send_head()
        except (OSError, ValueError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            self.send_error(404)
            return None

    def list_directory(self, path: Any) -> None:  # noqa: ARG002 -- the base's signature
        """No listings: pages are known by their addresses."""
        self.send_error(404)


class PageServer(http.server.ThreadingHTTPServer):
    """A thread a connection, at most `MOST_CONNECTIONS`; silent ones make room for new ones."""

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.guard = Guard(address[0])
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._lock = threading.Lock()
        self._silent: dict[socket.socket, None] = {}  # oldest first
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; where all are taken, the one that was silent longest is ended."""
        if not self._places.acquire(blocking=False):
            self._end_longest_silent()
            if not self._places.acquire(timeout=1.0):
                self.shutdown_request(request)
                return
        with self._lock:
            self._silent[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started, so none gives the place back
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def has_asked(self, request: socket.socket) -> None:
        """Called when a connection's request has arrived: it will not be ended to make room."""
        with self._lock:
            self._silent.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or fell asleep is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def _leave(self, request: socket.socket) -> None:
        self.has_asked(request)
        self._places.release()

    def _end_longest_silent(self) -> None:
        with self._lock:
            oldest = next(iter(self._silent), None)
            if oldest is not None:
                del self._silent[oldest]
                try:
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread reads the end and goes
                except OSError:
                    return  # it has gone already


def open_server(folder: Path, port: int = 0) -> PageServer:
    """A server of `folder` on 127.0.0.1; port 0 takes a free one.

    Not yet running: call `serve_forever`.

    Raises:
        UserError: the port is taken or not allowed.
    """
    handler = functools.partial(_Quiet, directory=str(folder))
    try:
        return PageServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on port {port} ({error}); choose another with --port"
        ) from error


def write_side_by_side(path: Path, pages: list[tuple[str, str]]) -> None:
    """A page with one frame for each (file name, title); turning one turns all."""
    frames = "\n".join(
        f'<iframe src="{html.escape(name)}" title="{html.escape(title)}"></iframe>'
        for name, title in pages
    )
    path.write_text(fill_template("side_by_side.html", frames=frames), encoding="utf-8")
