"""The live view: cheap with nobody looking, and in a browser its buttons do what they say."""

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.splats import Splats

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")

pytestmark = pytest.mark.readers


@pytest.fixture(autouse=True)
def _viser() -> None:
    pytest.importorskip("viser", reason="viser is not installed (pip install 'gs-ssd[viewer]')")


class Scene(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.means)


def gaussians(splats=None) -> Scene:
    splats = (splats or axes_object()).to_frame("world")
    tensors = {
        n: torch.from_numpy(getattr(splats, n)) for n in ("means", "log_scales", "quats_wxyz", "logit_opacities")
    }
    return Scene(**tensors, sh_dc=torch.from_numpy(splats.sh[:, :1]), sh_rest=torch.from_numpy(splats.sh[:, 1:]))


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
    view, scene = live(), gaussians()
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
    scene = gaussians(Splats(*arrays, frame="world"))
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
    view = live(export=lambda scene: done.append(threading.current_thread()) or tmp_path / "a.ply", interval_s=0.0)
    scene = gaussians()
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


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99999), ("nosuch.invalid", 8080), ("192.0.2.1", 8080)])
def test_an_address_that_is_not_ours_is_a_sentence_and_no_wait(host, port):
    from gs_ssd.viewer.live import LiveView

    with pytest.raises(UserError, match=f"cannot listen on (port )?{host if port == 8080 else port}"):
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


@pytest.mark.browser
def test_a_real_training_is_steered_from_the_browser(open_page, until, tmp_path, capsys):
    """`gs-ssd train --viewer`: the page shows it, a checkpoint appears in the slider, Stop ends and saves it."""
    from gs_ssd.cli import main

    port, codes = free_port(), []
    words = ["train", "--config", SMOKE, "--out", str(tmp_path / "run"), "--viewer", "--viewer-port", str(port)]
    words += ["num_steps=100000", "output.turntable_frames=0", "output.preview_every=0", "output.checkpoint_every=5"]
    training = threading.Thread(target=lambda: codes.append(main(words)), daemon=True)
    training.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    page = open_page(f"http://127.0.0.1:{port}", (900, 600), ready="document.querySelector('canvas') !== null")
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
        export=lambda scene: exported.append(len(scene)) or tmp_path / "point_cloud.ply",
        checkpoints=lambda: paths,
        load=lambda path: gaussians(faint),
        interval_s=0.1,
    )
    running, steps = True, []

    def train() -> None:
        while running and not view.stop_requested:
            steps.append(len(steps))
            view.update(steps[-1], gaussians(), {"grad_norm": 0.123})
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
