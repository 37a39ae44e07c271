"""The page in a real browser: upright, unmirrored, the same picture as the rasterizer's, offline,
and obedient."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.splats import SH_C0, Splats
from gs_ssd.viewer.page import write_page

pytestmark = pytest.mark.browser

HUES = {
    "red": lambda r, g, b: (r > 120) & (g < 60) & (b < 60),
    "green": lambda r, g, b: (g > 110) & (r < 60) & (b < 60),
    "blue": lambda r, g, b: (b > 130) & (r < 70) & (g < 90),
    "yellow": lambda r, g, b: (r > 130) & (g > 110) & (b < 60),
    "cyan": lambda r, g, b: (g > 110) & (b > 110) & (r < 60),
    "magenta": lambda r, g, b: (r > 110) & (b > 110) & (g < 60),
}


def blob(image: np.ndarray, hue: str) -> np.ndarray:
    """Centroid (x, y) of a colour; fails where there is none."""
    mask = HUES[hue](*np.moveaxis(image.astype(int), -1, 0))
    assert mask.sum() > 20, f"nothing {hue} in the picture"
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


@pytest.fixture
def axes_page(tmp_path):
    write_page(tmp_path / "axes.html", axes_object().to_frame("world"), title="axes", turn=False)
    return tmp_path / "axes.html"


def look(page, **camera) -> None:
    page.evaluate(f"gsViewer.set({json.dumps(camera)})")


def test_front_is_upright_and_unmirrored(axes_page, open_page, picture):
    page = open_page(axes_page)
    look(page, azimuth=0.35, polar=1.3, target=[0, 0, 0], distance=4)
    image = picture(page)
    center = np.array([255.5, 255.5])
    red, green, blue = blob(image, "red"), blob(image, "green"), blob(image, "blue")
    assert red[0] > center[0] + 60
    assert abs(red[1] - center[1]) < 40
    assert green[1] < center[1] - 80
    assert abs(green[0] - center[0]) < 5
    assert (
        blue[0] > center[0] + 10
    )  # azimuth grows towards -x: the blue axis, towards us, swings right
    assert blue[1] > center[1] + 10  # from above
    assert blob(image, "cyan") @ [1, -1] < 0  # lower left
    yellow = HUES["yellow"](*np.moveaxis(image.astype(int), -1, 0))
    rows, columns = np.nonzero(yellow)
    corner = yellow[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = corner.shape
    stem, arms = corner[:, : width // 4].mean(), corner[:, -width // 4 :].mean()
    top, bottom = corner[: height // 4].mean(), corner[-height // 4 :].mean()
    assert stem > 2 * arms  # an F has its stem at the left
    assert top > 2 * bottom


def test_harmonics_tell_front_from_back(axes_page, open_page, picture):
    page = open_page(axes_page)
    look(page, azimuth=0, polar=math.pi / 2, target=[0, 0, 0], distance=4)
    front = picture(page)
    look(page, azimuth=math.pi)
    back = picture(page)
    assert blob(front, "cyan")[0] < 200
    assert blob(back, "magenta")[0] > 300
    assert not HUES["magenta"](*np.moveaxis(front.astype(int), -1, 0)).any()


def orbit_w2c(azimuth: float, polar: float, radius: float) -> np.ndarray:
    """OpenCV camera on the world's sphere: x right, y down, z forward, up is world z."""
    sa, ca, sp, cp = math.sin(azimuth), math.cos(azimuth), math.sin(polar), math.cos(polar)
    eye = radius * np.array([sp * sa, sp * ca, cp])
    forward = -eye / radius
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    w2c = np.eye(4)
    w2c[:3, :3] = [right, np.cross(forward, right), forward]
    w2c[:3, 3] = -w2c[:3, :3] @ eye
    return w2c


@pytest.mark.parametrize("degree", [0, 3])
def test_picture_is_the_rasterizers(tmp_path, open_page, picture, degree):
    from diff_gaussian_rasterization import render_views

    rng = np.random.default_rng(5)
    count, bases = 1500, (degree + 1) ** 2
    means = rng.normal(size=(count, 3))
    means *= rng.uniform(0.5, 1, size=(count, 1)) / np.linalg.norm(means, axis=1, keepdims=True)
    sh = rng.normal(size=(count, bases, 3)) * 0.12
    sh[:, 0] = (rng.uniform(0.05, 0.95, size=(count, 3)) - 0.5) / SH_C0
    splats = Splats(
        means,
        rng.uniform(-4.5, -2.3, size=(count, 3)),
        rng.normal(size=(count, 4)),
        rng.normal(size=count) + 0.5,
        sh,
        "world",
    )
    write_page(tmp_path / "cloud.html", splats, title="cloud", turn=False)
    azimuth, polar, radius, fov, size = 0.8, 1.1, 3.5, 0.7, 384
    page = open_page(tmp_path / "cloud.html", (size, size))
    look(
        page,
        azimuth=azimuth,
        polar=polar,
        distance=radius,
        target=[0, 0, 0],
        fovY=fov,
        backgroundColor=[0.5, 0.5, 0.5],
    )
    seen = picture(page) / 255.0

    tan = math.tan(fov / 2)
    rgb = render_views(
        *(torch.from_numpy(array) for array in (splats.means, splats.quats_wxyz, splats.scales,
            splats.opacities)),
        sh=torch.from_numpy(splats.sh),
        sh_degree=degree,
        w2c=torch.from_numpy(orbit_w2c(azimuth, polar, radius)[None]).float(),
        tan_half_fov=torch.tensor([[tan, tan]]),
        width=size,
        height=size,
        background=torch.full((1, 3), 0.5),
    ).rgb[0].permute(1, 2, 0).numpy()  # fmt: skip
    wanted = rgb.clip(0, 1)
    psnr = -10 * math.log10(np.mean((seen - wanted) ** 2))
    assert wanted.std() > 0.08  # there is something to compare
    assert psnr > 48, f"{psnr:.1f} dB"


def state(page) -> dict:
    return page.evaluate("gsViewer.state()")


def test_mouse_and_wheel(axes_page, open_page):
    page = open_page(axes_page)
    start = state(page)
    page.mouse.move(256, 256)
    page.mouse.down()
    page.mouse.move(356, 236, steps=4)
    page.mouse.up()
    turned = state(page)
    assert (
        turned["azimuth"] > start["azimuth"] + 0.5
    )  # what one grabs follows the hand to the right
    assert turned["polar"] - start["polar"] == pytest.approx(
        4 * 20 / 512, rel=1e-3
    )  # four radians a window height
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(200)
    assert state(page)["distance"] < 0.8 * turned["distance"]
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(300, 236)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert state(page)["target"] != turned["target"]
    assert state(page)["azimuth"] == pytest.approx(turned["azimuth"])
    page.keyboard.press("r")
    assert state(page) == start


def test_keys_and_buttons(axes_page, open_page, picture):
    page = open_page(axes_page)
    start = state(page)
    page.keyboard.press("ArrowLeft")
    assert state(page)["azimuth"] == pytest.approx(start["azimuth"] - 0.1)
    page.keyboard.press("+")
    assert state(page)["distance"] < start["distance"]
    page.keyboard.press("b")
    assert state(page)["background"] == "light"
    look(page)
    assert picture(page)[5, 5].tolist() == [255, 255, 255]
    page.add_style_tag(content="nav { visibility: visible !important }")
    page.get_by_role("button", name="Change the background").click()
    assert state(page)["background"] == "grey"
    page.get_by_role("button", name="Turn by itself").click()
    before = state(page)["azimuth"]
    page.wait_for_timeout(500)
    assert state(page)["azimuth"] > before
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#keys").is_hidden()


def test_touch_pinch_zooms_and_two_fingers_pan(axes_page, open_page):
    page = open_page(axes_page, (390, 780), has_touch=True, is_mobile=True, device_scale_factor=2)
    start = state(page)
    client = page.context.new_cdp_session(page)

    def touch(kind, *points):
        client.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]},
        )

    touch("touchStart", (150, 400), (250, 400))
    touch("touchMove", (110, 420), (290, 420))
    touch("touchEnd")
    end = state(page)
    assert end["distance"] < 0.7 * start["distance"]
    assert (
        end["target"][1] > start["target"][1]
    )  # fingers went down, so did the object: the target rose
    assert end["azimuth"] == pytest.approx(start["azimuth"])
    touch("touchStart", (150, 400))
    touch("touchMove", (200, 400))
    touch("touchEnd")
    assert state(page)["azimuth"] > start["azimuth"] + 0.1


def test_turns_by_itself_until_touched(tmp_path, open_page):
    write_page(tmp_path / "t.html", axes_object(), title="t", turn=True)
    page = open_page(tmp_path / "t.html")
    first = state(page)["azimuth"]
    page.wait_for_timeout(500)
    assert state(page)["azimuth"] > first
    page.mouse.click(200, 200)
    after = state(page)["azimuth"]
    page.wait_for_timeout(300)
    assert state(page)["azimuth"] == after
    assert (
        open_page(tmp_path / "t.html", reduced_motion="reduce").evaluate("gsViewer.state().turning")
        is False
    )


def test_screenshot_is_downloaded_under_the_title(tmp_path, open_page, picture):
    write_page(tmp_path / "s.html", axes_object(), title="a red mushroom!", turn=False)
    page = open_page(tmp_path / "s.html", (300, 200))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save a picture").click()
    assert download.value.suggested_filename == "a-red-mushroom.png"
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    assert np.array_equal(saved, picture(page))


def test_follows_the_window_and_the_pixel_ratio(axes_page, open_page):
    page = open_page(axes_page, (400, 300), device_scale_factor=2)
    assert page.evaluate(
        "[document.getElementById('view').width, document.getElementById('view').height]"
    ) == [
        800,
        600,
    ]
    page.set_viewport_size({"width": 250, "height": 500})
    look(page)
    assert page.evaluate(
        "[document.getElementById('view').width, document.getElementById('view').height]"
    ) == [
        500,
        1000,
    ]


def test_context_comes_back(axes_page, open_page, picture, until):
    page = open_page(axes_page)
    look(page)
    before = picture(page)
    page.evaluate(
        "window.loss ="
        " document.getElementById('view').getContext('webgl2').getExtension('WEBGL_lose_context');"
        "loss.loseContext()"
    )
    until(page, "document.getElementById('status').textContent.includes('taken away')")
    page.evaluate("loss.restoreContext()")
    until(page, "document.getElementById('status').textContent.includes('splats')")
    look(page)
    assert np.array_equal(picture(page), before)


def test_says_so_without_webgl2(axes_page, open_page):
    page = open_page(axes_page, init="HTMLCanvasElement.prototype.getContext = () => null")
    assert "needs WebGL2" in page.get_by_role("alert").inner_text()
    assert page.locator("canvas").is_hidden()


def test_sorts_without_workers(axes_page, open_page, picture):
    with_worker = open_page(axes_page)
    look(with_worker, azimuth=0.3)
    without = open_page(
        axes_page, init="window.Worker = class { constructor() { throw new Error('refused') } }"
    )
    look(without, azimuth=0.3)
    assert np.array_equal(picture(with_worker), picture(without))


def test_strange_titles_stay_text(tmp_path, open_page):
    title = "</script><script>window.__failed='x'</script> {{data}} & \"quotes\" 蘑菇 \u2028"
    write_page(
        tmp_path / "t.html", axes_object(), title=title, subtitle="</script>{{js}}", turn=False
    )
    page = open_page(tmp_path / "t.html")
    assert page.evaluate("window.__failed") is None
    assert page.locator("h1").inner_text().split() == title.split()
    assert page.locator("#status").inner_text().startswith("</script>{{js}}")


def test_empty_splat_opens(tmp_path, open_page, picture):
    write_page(
        tmp_path / "e.html", axes_object().take(np.zeros(0, dtype=int)), title="nothing", turn=False
    )
    assert picture(open_page(tmp_path / "e.html")).std(axis=(0, 1)).max() == 0


@pytest.mark.slow
def test_half_a_million_splats_open(tmp_path, open_page, picture):
    rng = np.random.default_rng(0)
    n = 500_000
    means = rng.normal(size=(n, 3))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    sh = (np.where(means[:, 2:] > 0, [0.9, 0.1, 0.1], [0.1, 0.1, 0.9])[:, None] - 0.5) / SH_C0
    ones = np.ones((n, 1))
    ball = Splats(
        means, ones * np.full(3, -5.5), ones * [1.0, 0, 0, 0], np.full(n, 3.0), sh, "world"
    )
    size = write_page(tmp_path / "big.html", ball, title="half a million", turn=False)
    page = open_page(tmp_path / "big.html", (320, 320))
    milliseconds = page.evaluate("performance.now()")
    print(f"{size / 1e6:.1f} MB, first picture after {milliseconds / 1000:.1f} s")
    look(page, azimuth=0.0, polar=math.pi / 2)
    image = picture(page)
    assert blob(image, "red")[1] < blob(image, "blue")[1]
