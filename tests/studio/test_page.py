"""The page in a real browser: a newcomer's whole path, a phone, the keyboard alone, and what axe
says of its accessibility."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

DESKTOP, PHONE = (1280, 800), (390, 844)
SERIOUS = ("serious", "critical")
RUNNING = re.compile(r"^Step \d+ of 5000")
CANVASES = "[...document.querySelectorAll('canvas')]"
DRAWN = "document.querySelector('canvas')?.dataset.drawn === 'yes'"


@pytest.fixture(scope="module")
def studio(start_module_studio):
    """One studio for all tests here."""
    return start_module_studio("studio")


@pytest.fixture
def open_page(chromium: "Browser", studio) -> "Iterator[Callable[..., Page]]":
    """Open the studio's page; at the end there was no script error, nothing that the page's policy
    forbade, and no request that left the machine."""
    contexts, wrong, urls = [], [], []

    def open_(address: str = "", size: tuple[int, int] = DESKTOP, **options: Any) -> "Page":
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: urls.append(request.url))
        page.goto(f"{studio.url}/{address}")
        return page

    open_.refused = []
    yield open_
    for context in contexts:
        context.close()
    refused = [text for text in wrong if "status of 400" in text]
    assert [text for text in wrong if text not in refused] == []
    assert len(refused) == len(open_.refused)
    assert [url for url in urls if not url.startswith((studio.url, "blob:", "data:"))] == []


def make(page: "Page", prompt: str, steps: int) -> None:
    """As a newcomer does it, with the preset that takes seconds."""
    page.get_by_label("What shall it be?").fill(prompt)
    page.get_by_text("Test", exact=True).click()
    page.get_by_text("Settings", exact=True).first.click()
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("heading", name=prompt).wait_for()


def colours(page: "Page") -> int:
    """How many different colours the canvas shows."""
    image = Image.open(io.BytesIO(page.locator("canvas").first.screenshot())).convert("RGB")
    return len(image.getcolors(1 << 24) or [])


def test_a_newcomers_whole_path(open_page, until, studio, tmp_path):
    page = open_page()
    page.get_by_text("Nothing is made yet").wait_for()
    assert page.get_by_role("button", name="Make it").is_disabled()
    page.get_by_label("What shall it be?").fill("a purple zebra")
    page.get_by_text("knows no object in").wait_for()  # said before any click
    assert page.get_by_role("button", name="Make it").is_disabled()
    make(page, "a red mushroom", 5000)

    until(page, DRAWN)  # it forms before one's eyes
    page.get_by_text(RUNNING).wait_for()
    assert colours(page) > 20
    first = page.evaluate("document.querySelector('canvas').dataset.completed")
    until(page, f"document.querySelector('canvas').dataset.completed > {first}")

    other = open_page("#/")  # a second browser sees the same
    other.get_by_role("link", name="a red mushroom").click()
    other.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused at step").wait_for()
    page.reload()  # which loses nothing
    page.get_by_text("Paused at step").wait_for()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Stop and save").click()
    other.get_by_text("Stopped at step").wait_for()
    other.context.close()
    stopped = page.get_by_text("Stopped at step").inner_text()
    page.get_by_role("button", name="Continue").click()
    page.get_by_text(RUNNING).wait_for()
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_text("Stopped at step").wait_for()
    assert step_of(page.get_by_text("Stopped at step").inner_text()) > step_of(stopped)

    with page.expect_download() as download:  # for Blender, with advice
        page.get_by_role("button", name="Blender").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    assert len(read_splats(tmp_path / "a-red-mushroom.blender.ply")) > 50
    page.get_by_text("Import PLY").wait_for()

    page.get_by_role("link", name="All runs").click()
    make(page, "a blue cup", 20)
    page.get_by_role("link", name="All runs").click()
    page.get_by_label("Compare a-red-mushroom").check(force=True)
    page.get_by_label("Compare a-blue-cup").check(force=True)
    page.get_by_role("button", name="Compare side by side").click()
    until(page, f"{CANVASES}.filter((canvas) => canvas.dataset.drawn).length === 2")
    page.locator("canvas").first.focus()
    before = page.evaluate(f"{CANVASES}[1].dataset.azimuth")
    page.keyboard.press("ArrowLeft")
    until(page, f"{CANVASES}.every((canvas) => canvas.dataset.azimuth !== '{before}')")


def step_of(status: str) -> int:
    return int(status.split(" step ")[1].split(maxsplit=1)[0])


def test_search_star_trash_and_undo(open_page, made):
    page = open_page("#/")
    card = page.get_by_role("listitem").filter(has_text="a finished disc")
    card.hover()
    card.get_by_role("button", name="Star").click()
    page.get_by_role("button", name="Starred").click()
    assert card.count() == 1
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_label("Search the prompts").fill("finished disc")
    assert page.locator("li.card").count() == 1
    page.get_by_label("Search the prompts").fill("nothing like it")
    page.get_by_text("Nothing here.").wait_for()
    page.goto(page.url.split("#")[0] + f"#/run/{made}")
    page.get_by_role("button", name="Trash").click()
    page.get_by_text("is in the trash").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("is back").wait_for()
    page.get_by_role("link", name="a finished disc").wait_for()


def test_a_dropped_file_is_shown_and_converted(open_page, until, tmp_path):
    write_splats(tmp_path / "axes.spz", axes_object())
    page = open_page()
    drop(page, "my axes.spz", (tmp_path / "axes.spz").read_bytes())
    until(page, DRAWN)
    page.get_by_role("heading", name="my-axes.spz").wait_for()
    assert colours(page) > 20
    with page.expect_download() as download:
        page.get_by_role("button", name="Godot").click()
    download.value.save_as(tmp_path / "out.ply")
    assert len(read_splats(tmp_path / "out.ply")) == len(axes_object())
    drop(page, "broken.ply", b"ply\nno more")
    page.get_by_text("broken.ply:").wait_for()
    open_page.refused.append("broken.ply")


def drop(page: "Page", name: str, data: bytes) -> None:
    """What a browser does when a file is let go over its window."""
    transfer = page.evaluate_handle(
        """([name, text]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name));
          return transfer;
        }""",
        [name, base64.b64encode(data).decode()],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": transfer})


def test_with_the_keyboard_alone(open_page, until, made):
    page = open_page()
    page.get_by_role("link", name="a finished disc").wait_for()
    tab_to(page, "prompt")
    page.keyboard.type("a green ball")
    until(page, "!document.querySelector('button.primary').disabled")
    tab_to(page, "preset-quick")
    for _ in range(12):
        page.keyboard.press("ArrowRight")
        if page.evaluate("document.activeElement.id") == "preset-tiny":
            break
    tab_to(page, "prompt", back=True)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="a green ball").wait_for()
    page.get_by_text("splats", exact=False).first.wait_for()  # it is done
    until(page, DRAWN)
    page.evaluate("document.querySelector('canvas').focus()")
    before = page.evaluate("document.querySelector('canvas').dataset.azimuth")
    page.keyboard.press("ArrowRight")
    until(page, f"document.querySelector('canvas').dataset.azimuth !== '{before}'")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").startswith("Blender"):
            break
    with page.expect_download():
        page.keyboard.press("Enter")


def tab_to(page: "Page", name: str, back: bool = False) -> None:
    """Press Tab until the element with this id has the focus, which must be seen."""
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_on_a_phone(open_page, until, made):
    page = open_page("#/", PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.get_by_role("link", name="a finished disc").wait_for()
    fits(page)
    button = page.get_by_role("button", name="Make it").bounding_box()
    assert button is not None
    assert button["y"] + button["height"] < PHONE[1]
    assert button["height"] >= 40
    page.get_by_role("link", name="a finished disc").tap()
    until(page, DRAWN)
    fits(page)
    page.get_by_role("button", name="Unity").tap()
    page.get_by_text("UnityGaussianSplatting").wait_for()
    page.goto(page.url.split("#")[0] + f"#/compare/{made}/{made}")
    until(page, DRAWN)
    fits(page)


def fits(page: "Page") -> None:
    """Nothing is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


@pytest.mark.readers
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, until, node_package, made, scheme):
    source = (node_package("axe-core") / "axe.min.js").read_text(encoding="utf-8")
    page = open_page("#/", color_scheme=scheme)
    page.get_by_role("link", name="a finished disc").wait_for()
    page.get_by_text("Settings", exact=True).first.click()
    page.get_by_text("Advanced").click()
    page.get_by_label("Find a setting").fill("opacity")
    check_with_axe(page, source)
    page.goto(page.url.split("#")[0] + f"#/run/{made}")
    until(page, DRAWN)
    page.get_by_text("Go on from here").click()
    page.get_by_label("What shall it become?").wait_for()
    check_with_axe(page, source)
    page.goto(page.url.split("#")[0] + f"#/compare/{made}/{made}")
    until(page, DRAWN)
    check_with_axe(page, source)


def check_with_axe(page: "Page", source: str) -> None:
    page.evaluate(source)
    found = json.loads(page.evaluate("axe.run().then((found) => JSON.stringify(found.violations))"))
    serious = [
        (rule["id"], node["html"][:120])
        for rule in found
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]
    assert serious == []


@pytest.fixture(scope="module")
def made(studio) -> str:
    """A finished run."""
    wish = {"prompt": "a finished disc", "preset": "tiny", "settings": {"num_steps": 20}}
    _, run = studio.ask("POST", "/api/runs", wish)
    assert list(studio.events(run["name"]))[-1]["state"] == "done"
    return run["name"]


def test_a_page_that_is_not_there(studio):
    for path in ("/page/nothing.js", "/page/__init__.py", "/page/%2e%2e/app.py"):
        assert studio.ask("GET", path)[0] == 404
    assert Path(studio.folder).is_dir()
