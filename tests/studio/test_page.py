"""The page in a real browser: a newcomer's whole path, a phone, the keyboard alone, and what axe
says of its accessibility."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PHONE = (390, 844)
SERIOUS = ("serious", "critical")
DRAWN = "document.querySelector('canvas')?.dataset.drawn === 'yes'"


@pytest.fixture(scope="module")
def studio(start_module_studio):
    """One studio for all tests here."""
    return start_module_studio("studio")


@pytest.fixture
def open_page(chromium: "Browser", studio, pages_of) -> "Iterator[Callable[..., Page]]":
    """Open the studio's page in Chromium."""
    with pages_of(chromium, studio) as open_:
        yield open_


def test_a_newcomers_whole_path(open_page, until, newcomer, tmp_path):
    newcomer.walk(open_page, until, tmp_path)


def test_search_star_trash_and_undo(open_page, made, until):
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
    page.get_by_role("button", name="Trash").wait_for()
    until(page, "[...document.images].every(image => image.complete)")  # else some have gone
    page.get_by_role("button", name="Trash").click()
    page.get_by_text("is in the trash").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("is back").wait_for()
    page.get_by_role("link", name="a finished disc").wait_for()


def test_a_slow_press_on_a_card_whose_picture_changes_still_opens_it(open_page, until, studio):
    wish = {"prompt": "a growing cup", "preset": "tiny", "settings": {"num_steps": 100_000}}
    name = studio.ask("POST", "/api/runs", wish)[1]["name"]
    page = open_page()
    picture = page.get_by_role("listitem").filter(has_text="a growing cup").locator("img")
    picture.hover()
    page.mouse.down()
    before = picture.get_attribute("src")
    until(page, f"document.querySelector('li.card img').getAttribute('src') !== '{before}'")
    page.mouse.up()
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_text("Stopped at step").wait_for()
    assert studio.ask("DELETE", f"/api/runs/{name}")[0] == 200


def test_a_dropped_file_is_shown_and_converted(open_page, until, newcomer, tmp_path):
    write_splats(tmp_path / "axes.spz", axes_object())
    page = open_page()
    drop(page, "my axes.spz", (tmp_path / "axes.spz").read_bytes())
    until(page, DRAWN)
    page.get_by_role("heading", name="my-axes.spz").wait_for()
    assert newcomer.colours(page) > 20
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
    assert page.evaluate("document.activeElement.id") == "prompt"
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


def test_every_target_is_a_button_whose_file_is_read_elsewhere(open_page, made, studio, tmp_path):
    targets = studio.ask("GET", "/api/form")[1]["targets"]
    page = open_page(f"#/run/{made}")
    for target in targets:
        button = page.locator("button.target").filter(has_text=target["title"])
        button.filter(has=page.get_by_text(target["suffix"], exact=True)).first.wait_for()
        with page.expect_download() as download:
            button.click()
        path = tmp_path / download.value.suggested_filename
        assert path.name == f"a-finished-disc.{target['name']}{target['suffix']}"
        download.value.save_as(path)
        said = page.locator(".result")
        said.get_by_role("link", name=path.name).wait_for()
        assert path.name in said.locator(".hint").inner_text()
        read_elsewhere(path)
    assert len(targets) == page.locator("button.target").count() == len(list(tmp_path.iterdir()))


def read_elsewhere(path: Path) -> None:
    """By a program that is not ours, where there is one for the format."""
    if path.suffix == ".ply":
        count = len(pytest.importorskip("gsply").plyread(str(path)).means)
    elif path.suffix == ".spz":
        count = len(pytest.importorskip("gsply").read_spz(str(path)).means)
    elif path.suffix == ".glb":
        gltf = pytest.importorskip("pygltflib").GLTF2().load(str(path))
        count = gltf.accessors[gltf.meshes[0].primitives[0].attributes.POSITION].count
    elif path.suffix == ".usda":
        stage = pytest.importorskip("pxr.Usd").Stage.Open(str(path))
        splats = next(prim for prim in stage.Traverse() if prim.GetAttribute("positions"))
        count = len(splats.GetAttribute("positions").Get())
    else:
        count = int(re.findall(r'"count": (\d+)', path.read_text())[0])
    assert count > 50


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
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_label("Find a setting").fill("opacity")
    check_with_axe(page, source)
    page.goto(page.url.split("#")[0] + f"#/run/{made}")
    until(page, DRAWN)
    page.get_by_text("Fork from this checkpoint").click()
    page.get_by_label("New prompt").wait_for()
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
