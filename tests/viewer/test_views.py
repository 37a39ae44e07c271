"""Named views and the path: read or refused by name, flown to by key, click and touch, copied and
read back."""

import json
import math

import numpy as np
import pytest

from gs_ssd.cli import main
from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.viewer.page import write_page
from gs_ssd.viewer.views import View, Views, read_views

DOCUMENT = {
    "views": [
        {
            "name": "front",
            "azimuth_deg": 0,
            "elevation_deg": 0,
            "distance": 4,
            "target": [0, 0, 0],
            "fov_y_deg": 40,
        },
        {"name": "left", "azimuth_deg": 90, "elevation_deg": 20},
        {
            "name": "back",
            "azimuth_deg": 200,
            "elevation_deg": 0,
            "distance": 4,
            "target": [0, 0, 0],
        },
    ],
    "default": "back",
    "path": {"views": ["front", "left", "back"], "seconds": 2, "loop": True},
}


def write(tmp_path, document) -> str:
    path = tmp_path / "views.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def test_a_file_of_views(tmp_path):
    views = read_views(write(tmp_path, DOCUMENT))
    assert [view.name for view in views.views] == ["front", "left", "back"]
    assert views.views[0] == View("front", 0.0, 0.0, 4.0, (0.0, 0.0, 0.0), 40.0)
    assert views.views[1] == View("left", 90.0, 20.0)
    assert (views.first, views.path, views.seconds, views.loop) == (2, (0, 1, 2), 2, True)


def test_one_view_and_a_list_of_views(tmp_path):
    one = read_views(write(tmp_path, {"name": "cap", "azimuth_deg": 40}))
    assert one == Views((View("cap", 40.0),), first=0)
    two = read_views(write(tmp_path, [{}, {"name": "cap"}]))
    assert [view.name for view in two.views] == ["View 1", "cap"]
    assert two.first is None
    assert two.path == ()
    through_all = read_views(write(tmp_path, {"views": [{}, {}], "path": {"seconds": 3}}))
    assert through_all.path == (0, 1)


WRONG = {
    "not JSON": "{",
    "a number": "3",
    "no views": {"views": []},
    "65 views": {"views": [{"name": str(i)} for i in range(65)]},
    'unknown key "azimut_deg"': {"views": [{"azimut_deg": 3}]},
    'unknown key "paths"': {"views": [{}], "paths": {}},
    "view 2.elevation_deg": {"views": [{}, {"elevation_deg": 90}]},
    "view 1.distance": {"views": [{"distance": 0}]},
    "view 1.fov_y_deg": {"views": [{"fov_y_deg": "wide"}]},
    "view 1.azimuth_deg": '{"views": [{"azimuth_deg": NaN}]}',
    "view 1.target: wanted three": {"views": [{"target": [1, 2]}]},
    "view 1.target: wanted a number": {"views": [{"target": [1, 2, True]}]},
    "view 1.name": {"views": [{"name": ""}]},
    'two views are named "a"': {"views": [{"name": "a"}, {"name": "a"}]},
    "default: no view is named 'b'": {"views": [{"name": "a"}], "default": "b"},
    "path.views: no view is named": {"views": [{}, {}], "path": {"views": ["View 1", "x"]}},
    "at least two": {"views": [{}], "path": {"views": ["View 1"]}},
    "path.seconds": {"views": [{}, {}], "path": {"seconds": 0}},
    "path.loop": {"views": [{}, {}], "path": {"loop": "yes"}},
    "path: wanted": {"views": [{}, {}], "path": [1]},
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_named(tmp_path, words):
    path = write(tmp_path, WRONG[words])
    with pytest.raises(UserError, match=r"views\.json") as caught:
        read_views(path)
    if words not in ("not JSON", "a number", "no views", "65 views"):
        assert words in str(caught.value)


def test_command_refuses_before_it_writes(tmp_path, capsys):
    page = tmp_path / "a.html"
    assert (
        main(
            ["export", "axes", "-o", str(page), "--views", write(tmp_path, {"views": [{"fov": 3}]})]
        )
        == 2
    )
    assert 'unknown key "fov"' in capsys.readouterr().err
    assert (
        main(
            ["export", "axes", "-o", str(tmp_path / "a.ply"), "--views", write(tmp_path, DOCUMENT)]
        )
        == 2
    )
    assert "--for web" in capsys.readouterr().err
    assert main(["export", "axes", "-o", str(page), "--views", str(tmp_path / "missing.json")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["views.json"]


def state(page) -> dict:
    return page.evaluate("gsViewer.state()")


@pytest.fixture
def views_page(tmp_path):
    path = tmp_path / "views.html"
    assert main(["export", "axes", "-o", str(path), "--views", write(tmp_path, DOCUMENT)]) == 0
    return path


@pytest.mark.browser
def test_opens_with_the_default_view_and_comes_back_to_it(views_page, open_page):
    page = open_page(views_page)
    opened = state(page)
    assert opened["azimuth"] == pytest.approx(math.radians(200))
    assert opened["polar"] == pytest.approx(math.pi / 2)
    assert opened["distance"] == pytest.approx(4)
    assert opened["target"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert opened["turning"] is False
    page.keyboard.press("ArrowLeft")
    assert state(page)["azimuth"] != opened["azimuth"]
    page.keyboard.press("r")
    assert state(page) == opened


@pytest.mark.browser
def test_keys_and_buttons_fly_to_views(views_page, open_page, until):
    page = open_page(views_page)
    names = page.locator("#views button")
    assert names.all_inner_texts() == ["front", "left", "back"]
    page.keyboard.press("1")
    until(page, "!gsViewer.flight")
    assert math.cos(state(page)["azimuth"]) == pytest.approx(1)
    assert state(page)["distance"] == pytest.approx(4)
    page.get_by_role("button", name="left", exact=True).click()
    assert page.evaluate("!!gsViewer.flight")  # it flies, it does not jump
    until(page, "!gsViewer.flight")
    assert math.sin(state(page)["azimuth"]) == pytest.approx(1)
    assert state(page)["polar"] == pytest.approx(math.radians(70))
    assert names.nth(1).get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowLeft")
    assert names.nth(1).get_attribute("aria-pressed") == "false"
    page.keyboard.press("9")  # there is no ninth
    assert page.evaluate("gsViewer.flight") is None


@pytest.mark.browser
def test_the_picture_is_that_of_the_view(views_page, open_page, picture, until):
    page = open_page(views_page)
    page.keyboard.press("1")
    until(page, "!gsViewer.flight")
    page.evaluate("gsViewer.set({ backgroundColor: [0, 0, 0] })")
    flown = picture(page)
    page.evaluate(
        "gsViewer.set({ azimuth: 0, polar: Math.PI / 2, distance: 4, target: [0, 0, 0], fovY: 40 *"
        " Math.PI / 180 })"
    )
    assert np.abs(picture(page).astype(int) - flown).max() <= 2
    assert flown.std() > 10


@pytest.mark.browser
def test_touch_takes_a_view_and_a_finger_stops_the_path(views_page, open_page, until):
    page = open_page(views_page, (390, 780), has_touch=True, is_mobile=True, device_scale_factor=2)
    page.get_by_role("button", name="front", exact=True).tap()
    until(page, "!gsViewer.flight")
    assert math.cos(state(page)["azimuth"]) == pytest.approx(1)
    page.get_by_role("button", name="Fly along the path").tap()
    assert page.locator("#path").get_attribute("aria-pressed") == "true"
    until(page, "Math.cos(gsViewer.state().azimuth) < 0.9")
    page.touchscreen.tap(195, 400)
    assert page.locator("#path").get_attribute("aria-pressed") == "false"
    before = state(page)
    page.wait_for_timeout(200)
    assert state(page) == before
    for button in page.locator("#views button, nav button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 40
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


@pytest.mark.browser
def test_the_path_passes_its_views_and_loops(views_page, open_page, until):
    page = open_page(views_page)
    page.keyboard.press("p")
    passed = page.evaluate("[0, 1 / 3, 2 / 3, 1].map((share) => gsViewer.flight.way(share))")
    for pose, azimuth, polar in zip(passed, (0, 90, 200, 0), (90, 70, 90, 90), strict=True):
        assert math.cos(pose["azimuth"] - math.radians(azimuth)) == pytest.approx(1, abs=1e-6)
        assert pose["polar"] == pytest.approx(math.radians(polar), abs=1e-6)
    steps = page.evaluate(
        "Array.from({ length: 301 }, (_, i) => gsViewer.flight.way(i / 300).azimuth)"
    )
    assert np.abs(np.diff(steps)).max() < 0.06  # no jump on the way, nor where it begins again
    assert steps[-1] - steps[0] == pytest.approx(2 * math.pi)
    until(page, "gsViewer.flight.elapsed > 2100")  # longer than one round: it continues
    assert page.evaluate("gsViewer.flight.done") is False
    page.keyboard.press("p")
    assert page.evaluate("gsViewer.flight") is None


@pytest.mark.browser
def test_a_copied_view_can_be_read_back(tmp_path, views_page, open_page):
    page = open_page(views_page, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate(
        "gsViewer.set({ azimuth: 3.5, polar: 1.2, distance: 3, target: [0.1, 0.2, -0.3], fovY:"
        " 0.6 })"
    )
    page.keyboard.press("c")
    page.wait_for_timeout(300)
    text = page.evaluate(
        "document.getElementById('copied').value || navigator.clipboard.readText()"
    )
    views = read_views(write(tmp_path, text))
    (view,) = views.views
    assert view.name == "View 4"
    assert math.radians(view.azimuth_deg) == pytest.approx(3.5 - 2 * math.pi, abs=1e-3)
    write_page(tmp_path / "again.html", axes_object(), title="again", views=views)
    again = state(open_page(tmp_path / "again.html"))
    assert again["polar"] == pytest.approx(1.2, abs=1e-3)
    assert again["distance"] == pytest.approx(3, rel=1e-4)
    assert again["target"] == pytest.approx([0.1, 0.2, -0.3], abs=1e-4)


@pytest.mark.browser
def test_a_view_shows_as_much_in_a_tall_window(tmp_path, views_page, open_page):
    page = open_page(
        views_page,
        (300, 600),
        init="Object.defineProperty(navigator, 'clipboard', { value: undefined })",
    )
    assert state(page)["distance"] > 6  # 4 in a square window
    page.keyboard.press("c")
    copied = read_views(write(tmp_path, page.locator("#copied").input_value())).views[0]
    assert copied.distance == pytest.approx(4, rel=1e-4)


@pytest.mark.browser
def test_a_view_is_shown_where_the_clipboard_refuses(views_page, open_page):
    page = open_page(
        views_page, init="Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )
    page.get_by_role("button", name="Copy the view").click()
    field = page.get_by_role("textbox", name="The view, to be copied")
    assert json.loads(field.input_value())["azimuth_deg"] == -160
    page.keyboard.press("b")  # typed into the field, not a shortcut
    assert state(page)["background"] == "dark"
    page.keyboard.press("Escape")
    assert field.is_hidden()


@pytest.mark.browser
def test_pages_without_views_have_no_buttons_for_them(tmp_path, open_page):
    write_page(tmp_path / "a.html", axes_object(), title="a", turn=False)
    page = open_page(tmp_path / "a.html")
    assert page.locator("#views").is_hidden()
    assert page.locator("#path").is_hidden()
    page.keyboard.press("?")
    assert "Named views" not in page.locator("#keys").inner_text()
    page.keyboard.press("p")
    page.keyboard.press("1")
    assert page.evaluate("gsViewer.flight") is None


@pytest.mark.browser
def test_names_stay_text_and_motion_can_be_refused(tmp_path, open_page, until):
    name = "</script><b>x</b>"
    write_page(
        tmp_path / "a.html",
        axes_object(),
        title="a",
        views=Views((View(name, 70.0), View("b", 10.0))),
    )
    page = open_page(tmp_path / "a.html", reduced_motion="reduce")
    assert page.locator("#views button").first.inner_text() == name
    page.keyboard.press("1")
    page.wait_for_timeout(150)
    until(page, "!gsViewer.flight")
    assert state(page)["azimuth"] == pytest.approx(math.radians(70))
