"""`gs-ssd view` of several splats: turning one turns all."""

import json

import pytest

from gs_ssd.commands import view
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import write_splats
from gs_ssd.studio import pages

pytestmark = pytest.mark.browser

STATES = "[...document.querySelectorAll('iframe')].map((f) => f.contentWindow.gsViewer.state())"


def test_turns_together(tmp_path, open_page, until, serve_app):
    site = tmp_path / "site"
    site.mkdir()
    write_splats(tmp_path / "a.ply", axes_object())
    write_splats(tmp_path / "b.spz", axes_object())
    view.prepare([tmp_path / "a.ply", tmp_path / "b.spz"], site)
    with serve_app(pages.create_app(site, view.HOST)) as port:
        ready = (
            "[...document.querySelectorAll('iframe')].every((frame) => frame.contentWindow.__ready)"
        )
        page = open_page(f"http://{view.HOST}:{port}/", (900, 450), ready=ready)
        page.mouse.move(600, 200)
        page.mouse.down()
        page.mouse.move(700, 230, steps=5)
        page.mouse.up()
        until(page, f"(([a, b]) => Math.abs(a.azimuth - b.azimuth) < 1e-6)({STATES})")
        page.wait_for_timeout(200)
        first, second = json.loads(page.evaluate(f"JSON.stringify({STATES})"))
    assert first["azimuth"] == pytest.approx(second["azimuth"])
    assert first["polar"] == pytest.approx(second["polar"])
    assert second["azimuth"] > 0.8
