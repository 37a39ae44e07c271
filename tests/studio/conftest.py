"""A studio of its own for each module: a real server process over a folder."""

import contextlib
import importlib.util
import json
import os
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DESKTOP = (1280, 800)


def _by_path(path: Path) -> Any:
    """A module by its path, as tests are no package."""
    spec = importlib.util.spec_from_file_location(f"studio_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_browser = _by_path(Path(__file__).parents[1] / "viewer" / "conftest.py")
chromium, until = _browser.chromium, _browser.until


@pytest.fixture(scope="session")
def newcomer() -> Any:
    """The module with a newcomer's path."""
    return _by_path(Path(__file__).with_name("newcomer.py"))


class Client:
    """A process with a server, and requests to it."""

    def __init__(self, process: subprocess.Popen, url: str) -> None:
        self.process, self.url = process, url

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and answer of a request; bytes are sent as they are, anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None and not isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        with contextlib.suppress(ValueError):
            answer = json.loads(answer)
        return status, answer

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """The states of one run, as the server sends them, until it is over."""
        url = f"{self.url}/api/runs/{name}/events"
        with urllib.request.urlopen(url, timeout=120) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def wait(self, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first state of a run that fits; the run must not end before."""
        for run in self.events(name):
            if wanted(run):
                return run
        raise AssertionError(f"{name} ended first: {self.ask('GET', f'/api/runs/{name}')}")

    @staticmethod
    def splat_header(data: bytes) -> dict[str, Any]:
        """What an answer with splats says of them; the splats are there behind it."""
        size = struct.unpack("<I", data[:4])[0]
        header = json.loads(data[4 : 4 + size])
        assert len(data) - 4 - size >= 32 * header["count"]
        return header

    def wait_for_folder(self, name: str, seconds: float = 60) -> None:
        """Until a run that is about to begin has its folder."""
        end = time.monotonic() + seconds
        while self.ask("GET", f"/api/runs/{name}")[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.1)

    def end(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(2)
            self.process.wait(120)


class Studio(Client):
    """A server of its own over a folder."""

    def __init__(self, folder: Path, *options: str, command: str = "studio") -> None:
        self.folder = folder
        more = ["--no-browser"] if command == "studio" else []
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gs_ssd.cli", command, str(folder), "--port", "0"),
                *more,
                *options,
            ],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("http://"), line
        super().__init__(process, line.split()[0].rstrip("/"))


@pytest.fixture(scope="session")
def pages_of() -> Callable[..., Any]:
    """Open pages of a studio in a browser, as long as a `with` lasts; at its end there was no
    script error, nothing that the page's policy forbade, and no request that left the machine."""

    @contextlib.contextmanager
    def pages(browser: Any, studio: Studio, ignored: str = "\0") -> Iterator[Callable[..., Any]]:
        contexts, wrong, urls = [], [], []

        def open_(address: str = "", size: tuple[int, int] = DESKTOP, **options: Any) -> Any:
            viewport = {"width": size[0], "height": size[1]}
            contexts.append(
                browser.new_context(viewport=viewport, accept_downloads=True, **options)
            )
            page = contexts[-1].new_page()
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
            page.on("request", lambda request: urls.append(request.url))
            page.goto(f"{studio.url}/{address}")
            return page

        open_.refused = []  # what a test expects to be answered with 400
        yield open_
        for context in contexts:
            context.close()
        wrong = [text for text in wrong if ignored not in text]
        refused = [text for text in wrong if "status of 400" in text]
        assert [text for text in wrong if text not in refused] == []
        assert len(refused) == len(open_.refused)
        assert [url for url in urls if not url.startswith((studio.url, "blob:", "data:"))] == []

    return pages


@pytest.fixture
def client() -> type[Client]:
    """For servers that a test starts itself."""
    return Client


@pytest.fixture(scope="module")
def start_module_studio(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Studio]]:
    """Start one by its command, over an empty folder; it ends with the module."""
    started: list[Studio] = []

    def start(command: str) -> Studio:
        started.append(Studio(tmp_path_factory.mktemp("runs"), command=command))
        return started[-1]

    yield start
    for running in started:
        running.end()


@pytest.fixture(scope="module")
def server(start_module_studio: Callable[[str], Studio]) -> Studio:
    """A running server without the page."""
    return start_module_studio("serve")


@pytest.fixture
def start_studio() -> Iterator[Callable[..., Studio]]:
    """Start studios; all are ended after the test."""
    started: list[Studio] = []

    def start(folder: Path, *options: str, command: str = "studio") -> Studio:
        started.append(Studio(folder, *options, command=command))
        return started[-1]

    yield start
    for running in started:
        running.end()
