"""The live view: cheap with nobody looking, and in a browser its buttons do what they say."""

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.splats import Splats

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")

pytestmark = pytest.mark.readers


@pytest.fixture(autouse=True)
def _viser() -> None:
    pytest.importorskip("viser", reason="viser is not installed (pip install 'gs-ssd[viewer]')")


class Scene:
    """An asset, as far as the live view looks."""

    def __init__(self, splats=None) -> None:
        self.shown = (splats or axes_object()).to_frame("world")

    def splats(self) -> Splats:
        return self.shown

    def counts(self) -> dict[str, int]:
        return {"num_splats": len(self.shown)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def live():
    from gs_ssd.viewer.live import LiveView

    views = []

    def start(**options):
        views.append(LiveView(prompt="a red *mug*", num_steps=100_000, port=free_port(), **options))
        return views[-1]

    yield start
    for view in views:
        view.close()


def test_costs_next_to_nothing_with_nobody_looking(live):
    view, scene = live(), Scene()
    view.update(0, scene, {"grad_norm": 1.0})
    started = time.perf_counter()
    for step in range(1000):
        view.update(step, scene, {"grad_norm": 1.0})
    assert (time.perf_counter() - started) / 1000 < 1e-3


def test_with_a_client_training_keeps_most_of_its_time(live, monkeypatch):
    view = live(interval_s=0.05)
    monkeypatch.setattr(view._server, "get_clients", lambda: {0: None})
    rng = np.random.default_rng(0)
    n = 20_000
    arrays = (rng.normal(size=s) for s in ((n, 3), (n, 3), (n, 4), (n,), (n, 1, 3)))
    scene = Scene(Splats(*arrays, frame="world"))
    shown, inside, started = [], 0.0, time.perf_counter()
    show = view._show
    monkeypatch.setattr(view, "_show", lambda splats: (shown.append(len(splats)), show(splats)))
    while time.perf_counter() - started < 3:
        before = time.perf_counter()
        view.update(len(shown), scene, {})
        inside += time.perf_counter() - before
        time.sleep(0.005)
    assert len(shown) >= 3
    assert inside / (time.perf_counter() - started) < 0.2


def test_pause_stop_and_export_from_the_training_thread(live, tmp_path):
    done = []
    view = live(
        export=lambda scene: done.append(threading.current_thread()) or tmp_path / "a.ply",
        interval_s=0.0,
    )
    scene = Scene()
    view.update(0, scene, {})
    view._toggle()
    assert view.paused
    worker = threading.Thread(target=view.wait_while_paused)
    worker.start()
    view._export_wanted = True
    worker.join(0.5)
    assert worker.is_alive()
    assert done == [worker]
    view._toggle()
    worker.join(2)
    assert not worker.is_alive()
    view._toggle()
    view._ask_to_stop()
    view.wait_while_paused()  # returns at once: stopping ends a pause
    assert view.stop_requested


def test_warns_when_others_can_reach_it(live, caplog):
    live(host="0.0.0.0")
    assert "anyone who reaches this machine" in caplog.text
    caplog.clear()
    live(host="localhost")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 99999), ("nosuch.invalid", 8080), ("192.0.2.1", 8080)]
)
def test_an_address_that_is_not_ours_is_a_sentence_and_no_wait(host, port):
    from gs_ssd.viewer.live import LiveView

    with pytest.raises(
        UserError, match=f"cannot listen on (port )?{host if port == 8080 else port}"
    ):
        LiveView(prompt="a mug", num_steps=1, host=host, port=port)


def test_missing_viser_is_a_sentence(live, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(UserError, match="pip install"):
        live()


def test_a_pause_does_not_swallow_ctrl_c(live):
    view = live()
    view._toggle()
    view.wait_while_paused(unless=lambda: True)
    assert view.paused


def ask(view, headers: str, method: str = "GET", path: str = "/") -> str:
    """The answer's first line to a raw request."""
    port = int(view.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        return client.recv(4096).partition(b"\r\n")[0].decode()


SOCKET = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


@pytest.mark.parametrize("upgrade", ["", f"{SOCKET}\r\n"])
def test_only_its_own_page_is_let_in_to_files_and_to_the_socket(live, upgrade, capfd):
    view = live()
    good = "101 " if upgrade else "200 "
    own = view.url.removeprefix("http://")
    assert good in ask(view, f"{upgrade}Host: {own}\r\nOrigin: http://{own}")
    assert good in ask(
        view, f"{upgrade}Host: localhost:9000\r\nOrigin: http://localhost:9000"
    )  # a tunnel
    for headers in (
        f"Host: {own}\r\nOrigin: http://evil.example",
        f"Host: {own}\r\nOrigin: null",
        f"Host: {own}\r\nOrigin: http://localhost:3000",
        f"Host: evil.example\r\nOrigin: http://{own}",
        "Host: evil.example:8080\r\nOrigin: http://evil.example:8080",
        f"Host: {own}\r\nHost: evil.example",
        "X: y",
    ):
        assert "403 " in ask(view, upgrade + headers), headers
    assert "Traceback" not in capfd.readouterr().err


def test_requests_that_are_none_leave_no_traceback(live, capfd, caplog):
    view = live()
    port = int(view.url.rsplit(":", 1)[1])
    for data in (b"", b"\r\n\r\n", b"GET / HT", b"\x16\x03\x01\r\n\r\n", b"GET /" + b"a" * 70000):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(data)
    assert "200" not in ask(view, "Host: localhost", method="HEAD")
    assert "404 " in ask(view, "Host: localhost", path="/%00")
    assert "200 " in ask(view, "Host: localhost")
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if record.exc_info]


def test_what_a_socket_sends_that_is_no_message_is_one_line(live, caplog):
    from websockets.sync.client import connect

    view = live()
    version = __import__("viser").__version__
    with connect(
        view.url.replace("http", "ws"), subprotocols=[f"viser-v{version}"], origin=view.url
    ) as client:
        client.send("no message")
        with pytest.raises(Exception, match=r"internal error|1011"):
            for _ in range(100):
                client.recv(timeout=10)
    records = [record for record in caplog.records if "ended a connection" in record.getMessage()]
    assert records
    assert not [record for record in caplog.records if record.exc_info]


def test_a_viser_that_cannot_be_guarded_is_not_used(monkeypatch):
    import viser

    from gs_ssd.viewer.live import LiveView

    stopped = []
    unguarded = SimpleNamespace(stop=lambda: stopped.append(True))
    monkeypatch.setattr(viser, "ViserServer", lambda **_: unguarded)
    with pytest.raises(UserError, match="cannot check who asks"):
        LiveView(prompt="a mug", num_steps=1, port=free_port())
    assert stopped == [True]


@pytest.mark.browser
def test_a_real_training_is_steered_from_the_browser(open_page, until, tmp_path, capsys):
    """`gs-ssd train --viewer`: the page shows it, a checkpoint appears in the slider, Stop ends and
    saves it."""
    from gs_ssd.cli import main

    port, codes = free_port(), []
    words = [
        "train",
        "--config",
        SMOKE,
        "--out",
        str(tmp_path / "run"),
        "--viewer",
        "--viewer-port",
        str(port),
    ]
    words += [
        "num_steps=100000",
        "output.turntable_frames=0",
        "output.preview_every=0",
        "output.checkpoint_every=5",
    ]
    training = threading.Thread(target=lambda: codes.append(main(words)), daemon=True)
    training.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    page = open_page(
        f"http://127.0.0.1:{port}", (900, 600), ready="document.querySelector('canvas') !== null"
    )
    until(page, "document.body.innerText.includes('of 100000')")
    until(page, "document.body.innerText.includes('Checkpoint')")
    page.get_by_role("button", name="Export").click()
    until(page, "document.body.innerText.includes('Exported live.ply')")
    assert (tmp_path / "run" / "live.ply").is_file()
    page.get_by_role("button", name="Stop and save").click()
    training.join(30)
    assert codes == [130]
    assert list((tmp_path / "run" / "checkpoints").glob("step_*.pt"))
    assert "a checkpoint is saved" in capsys.readouterr().out


@pytest.mark.browser
def test_in_a_browser(live, open_page, picture, until, tmp_path):
    exported = []
    paths = [tmp_path / "step_000010.pt", tmp_path / "step_000020.pt"]
    faint = axes_object().take(np.arange(2))
    view = live(
        export=lambda scene: exported.append(len(scene.splats())) or tmp_path / "point_cloud.ply",
        checkpoints=lambda: paths,
        load=lambda path: faint,
        interval_s=0.1,
    )
    running, steps = True, []

    def train() -> None:
        while running and not view.stop_requested:
            steps.append(len(steps))
            view.update(steps[-1], Scene(), {"grad_norm": 0.123})
            view.wait_while_paused()
            time.sleep(0.01)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        page = open_page(view.url, (900, 600), ready="document.querySelector('canvas') !== null")
        until(page, "document.body.innerText.includes('0.123')")
        text = page.evaluate("document.body.innerText")
        assert "a red  mug" in text or "a red mug" in text
        assert "18 splats" in text
        page.wait_for_timeout(1500)
        shot = picture(page).astype(int)
        r, g, b = np.moveaxis(shot[:, :560], -1, 0)
        assert ((r > g + 80) & (r > b + 80)).sum() > 20  # the red ball
        assert ((b > g + 60) & (b > r + 60)).sum() > 20  # the blue ball
        page.get_by_role("button", name="Pause").click()
        until(page, "document.body.innerText.includes('Continue')")
        assert view.paused
        before = len(steps)
        page.wait_for_timeout(300)
        assert len(steps) <= before + 1
        page.get_by_role("button", name="Export").click()
        until(page, "document.body.innerText.includes('Exported point_cloud.ply')")
        assert exported == [18]
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Stop and save").click()
        trainer.join(10)
        assert view.stop_requested
        assert not trainer.is_alive()
    finally:
        running = False
        view.paused = False
        trainer.join(10)
