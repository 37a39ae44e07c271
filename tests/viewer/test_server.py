"""The page server against raw sockets: every method asks the guard, nothing prints, nothing waits
for ever."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from gs_ssd.viewer import server as servers
from gs_ssd.viewer.server import HOST, open_server

PAGE = b"<p>a page"


@pytest.fixture
def port(tmp_path, monkeypatch):
    """A server of one page, with short patience; gives its port."""
    monkeypatch.setattr(servers._Quiet, "timeout", 1.0)
    folder = tmp_path / "site"
    (folder / "below").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    with open_server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection((HOST, port), timeout=10) as client:
        client.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
@pytest.mark.parametrize("headers", ["Host: evil.example",
    "Host: localhost\r\nOrigin: http://evil.example", "X: y",
                                     "Host: localhost\r\nHost: evil.example"])  # fmt: skip
def test_every_method_asks_who_it_is(port, method, headers):
    answer = ask(port, f"{method} /index.html HTTP/1.1\r\n{headers}\r\n\r\n".encode())
    assert status(answer) == 403
    assert PAGE not in answer


def test_ours_are_answered(port):
    assert PAGE in ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    own = (
        f"GET /index.html HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin:"
        f" http://localhost:{port}\r\n\r\n"
    )
    assert PAGE in ask(port, own.encode())
    head = ask(port, b"HEAD /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(head) == 200
    assert PAGE not in head


@pytest.mark.parametrize(
    "path",
    [b"/%00", b"/index.html%00", b"/%ed%a0%80", b"/%ff", b"/" + b"a" * 5000, b"/below/",
        b"/%2e%2e/site/index.html",
     b"//etc/passwd", b"/../../etc/passwd", b"/%5c..%5c", b"http://evil.example/", b"*",
     b"/" + b"../" * 1000 + b"x"],
)  # fmt: skip
def test_paths_that_name_nothing_are_404_and_no_traceback(port, path, capfd):
    assert status(ask(port, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) in (301, 404)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "request_bytes",
    [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
     b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: localhost\r\n"
     b"If-Modified-Since: Mon, 99 Foo 99999 99:99:99 GMT\r\n\r\n",
     b"GET / HTTP/1.1\r\n\xff\xfe: \xff\r\nHost: localhost\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: local"],
)  # fmt: skip
def test_whatever_else_comes_is_answered_or_ended_and_no_traceback(port, request_bytes, capfd):
    ask(port, request_bytes)
    assert PAGE in ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert capfd.readouterr().err == ""


def test_clients_that_reset_the_connection_leave_no_trace(port, capfd):
    for request in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HT", b""):
        client = socket.create_connection((HOST, port), timeout=10)
        client.sendall(request)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
    assert PAGE in ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert capfd.readouterr().err == ""


def test_silent_clients_take_few_threads_keep_nobody_out_and_are_ended(port, monkeypatch):
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection((HOST, port), timeout=10))
            for _ in range(100)
        ]
        for client in silent[::2]:
            with contextlib.suppress(OSError):
                client.sendall(b"GET / HT")
        assert PAGE in ask(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert threading.active_count() - before <= servers.MOST_CONNECTIONS + 1
        assert silent[-2].recv(1) == b""  # after the timeout of 1 s
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before
