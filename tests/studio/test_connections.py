"""The server against raw sockets: every method asks the guard, nothing prints, nothing waits for
ever, and it ends when it is told to."""

import contextlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from gs_ssd.cli import main
from gs_ssd.studio import connections, serving
from gs_ssd.studio.pages import create_app

HOST = "127.0.0.1"
PAGE = b"<p>a page"
PATIENCE_S, MOST = 1.0, 32


@pytest.fixture(scope="module")
def port(tmp_path_factory, serve_app):
    """A server of one page, with short patience and few places; gives its port."""
    folder = tmp_path_factory.mktemp("all") / "site"
    (folder / "below").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    (folder / "large.html").write_bytes(bytes(32 << 20))
    (folder.parent / "secret.txt").write_text("secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "TIMEOUT_S", PATIENCE_S)
        patch.setattr(connections, "MOST", MOST)
        with serve_app(create_app(folder, HOST)) as port:
            yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=10)


def ask(port: int, request: bytes) -> bytes:
    with connect(port) as client, contextlib.suppress(ConnectionResetError):
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


def get(path: str = "/", *, method: str = "GET", headers: str = "Host: localhost") -> bytes:
    return f"{method} {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n".encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Host: evil.example", 403),
        ("Host: localhost\r\nOrigin: http://evil.example", 403),
        ("Host: localhost\r\nOrigin: null", 403),
        ("X: y", 400),
        ("Host: localhost\r\nHost: evil.example", 400),
    ],
)
def test_every_method_asks_who_it_is(port, method, headers, expected):
    answer = ask(port, get("/index.html", method=method, headers=headers))
    assert status(answer) == expected
    assert PAGE not in answer


def test_ours_are_answered(port):
    assert PAGE in ask(port, get())
    own = f"Host: localhost:{port}\r\nOrigin: http://localhost:{port}"
    assert PAGE in ask(port, get("/index.html", headers=own))
    head = ask(port, get("/index.html", method="HEAD"))
    assert status(head) == 200
    assert PAGE not in head


@pytest.mark.parametrize(
    "path",
    [
        "/%00", "/index.html%00", "/%ed%a0%80", "/%ff", "/" + "a" * 5000, "/below/", "/below",
        "/%2e%2e/site/index.html", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt",
        "//etc/passwd", "/../../etc/passwd", "/%5c..%5c", "http://evil.example/", "*",
        "/" + "../" * 1000 + "x", "/.", "/..",
    ],
)  # fmt: skip
def test_paths_that_name_nothing_are_404_and_no_traceback(port, path, capfd):
    answer = ask(port, get(path))
    assert status(answer) in (307, 404)
    assert b"secret" not in answer
    assert PAGE not in answer
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        get(headers="Host: localhost\r\nIf-Modified-Since: Mon, 99 Foo 99999 99:99:99 GMT"),
        get(headers="Host: localhost\r\nRange: bytes=9-1,x"),
        b"GET / HTTP/1.1\r\n\xff\xfe: \xff\r\nHost: localhost\r\n\r\n",
        get(headers="Host: localhost\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"),
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: local",
    ],
)
def test_whatever_else_comes_is_answered_or_ended_and_no_traceback(port, request_bytes, capfd):
    began = time.monotonic()
    ask(port, request_bytes)
    assert time.monotonic() - began < 6 * PATIENCE_S
    assert PAGE in ask(port, get())
    assert capfd.readouterr().err == ""


def test_clients_that_reset_the_connection_leave_no_trace(port, capfd):
    for request in (get(), get("/large.html"), b"GET / HT", b""):
        client = connect(port)
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
    assert PAGE in ask(port, get())
    assert capfd.readouterr().err == ""


def test_a_connection_serves_one_request_after_another(port):
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(port) as client:
        for pieces in ([request], [request[:9], request[9:]], [request + request]):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.05)
            got = b""
            while got.count(PAGE) < b"".join(pieces).count(b"GET"):
                got += client.recv(65536)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"],
    ids=["nothing", "half a request", "a second one"],
)
def test_a_request_that_comes_letter_by_letter_is_ended(port, begun):
    began = time.monotonic()
    with connect(port) as client:
        client.sendall(begun)
        with contextlib.suppress(ConnectionError):
            while True:
                client.sendall(b"T" if begun else b"")
                client.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    if client.recv(65536) == b"":
                        break
                assert time.monotonic() - began < 8 * PATIENCE_S
    assert time.monotonic() - began > 0.8 * PATIENCE_S


def test_who_does_not_take_the_answer_is_ended(port):
    with connect(port) as client:
        client.sendall(get("/large.html"))
        time.sleep(3 * PATIENCE_S)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                got += len(part)
    assert got < 32 << 20


def test_silent_clients_take_few_places_keep_nobody_out_and_are_ended(port):
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(100)]
        for client in silent[::2]:
            with contextlib.suppress(OSError):
                client.sendall(b"GET / HT")
        assert PAGE in ask(port, get())
        assert threading.active_count() - before <= 40  # of the pool that reads files
        open_still = sum(is_open(client) for client in silent)
        assert MOST / 2 <= open_still <= MOST
        silent[-1].settimeout(10)
        assert silent[-1].recv(1) == b""  # when its time is over
        assert PAGE in ask(port, get())


def is_open(client: socket.socket) -> bool:
    client.settimeout(0.0)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_view_ends_cleanly(number, code, tmp_path):
    command = [sys.executable, "-m", "gs_ssd.cli", "view", "axes", "--no-browser"]
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    pipe = subprocess.PIPE
    before = signal.signal(number, signal.SIG_DFL)  # what ignores it (nohup) is inherited
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment)
    signal.signal(number, before)
    with process:
        assert process.stdout is not None
        port = int(re.findall(rb":(\d+)/", process.stdout.readline())[0])
        answer = ask(port, get())
        with connect(port) as idle:
            idle.sendall(b"GET / HT")
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
    assert b"<canvas" in answer
    assert b"frame-ancestors 'self'" in answer
    assert process.returncode == code
    assert b"Traceback" not in said
    assert list(tmp_path.glob("gs-ssd-view-*")) == []


def test_port_taken(capsys):
    with serving.listening(HOST, 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["view", "axes", "--no-browser", "--port", port]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["view", "axes", "--no-browser", "--port", "99999"]) == 2
    assert "--port" in capsys.readouterr().err
