"""A hub on loopback that has one repository: the few requests that huggingface_hub makes."""

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

NAME = "someone/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves `folder` as `NAME`; `sent` are the files that were downloaded,
    `asked` all requests."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.sent, self.asked = folder, [], []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def files(self) -> dict[str, Path]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path for path in found}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        files = self.server.files()
        self.server.asked.append(path)
        if path.startswith(f"/api/models/{NAME}/tree/"):
            self._reply(json.dumps([_entry(name, file) for name, file in files.items()]).encode())
        elif path.startswith(f"/api/models/{NAME}"):
            siblings = [{"rfilename": name} for name in files]
            self._reply(json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode())
        else:
            name = path.removeprefix(f"/{NAME}/resolve/").partition("/")[2]
            if self.command == "GET":
                self.server.sent.append(name)
            self._reply(files[name].read_bytes())

    do_HEAD = do_GET  # noqa: N815

    def _reply(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def _entry(name: str, file: Path) -> dict[str, object]:
    data = file.read_bytes()
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    with Hub(folder) as hub:
        threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield hub
        finally:
            hub.shutdown()
