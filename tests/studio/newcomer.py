"""A newcomer's whole path through the page, in whatever browser: open, type, watch, stop, continue,
export, compare."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from gs_ssd.export.formats import read_splats

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUNNING = re.compile(r"^Step \d+ of 100.?000")
CANVASES = "[...document.querySelectorAll('canvas')]"
DRAWN = "document.querySelector('canvas')?.dataset.drawn === 'yes'"


def walk(open_page: "Callable[..., Page]", until: Callable[..., None], folder: Path) -> None:
    """The path, over an empty folder of runs; downloads go to `folder`."""
    page = open_page()
    page.get_by_text("Nothing is made yet").wait_for()
    assert page.get_by_role("button", name="Make it").is_disabled()
    page.get_by_label("What do you want to make?").fill("a purple zebra")
    page.get_by_text("knows no object in").wait_for()  # said before any click
    assert page.get_by_role("button", name="Make it").is_disabled()
    make(page, "a red mushroom", 100_000)  # long enough for any machine

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
    name = download.value.suggested_filename
    assert re.fullmatch(r"a-red-mushroom\.step_\d+\.blender\.ply", name)
    download.value.save_as(folder / name)
    assert len(read_splats(folder / name)) > 50
    page.get_by_text("Import PLY").wait_for()

    page.get_by_role("link", name="All runs").click()
    make(page, "a blue cup", 20)
    page.get_by_role("link", name="All runs").click()
    for prompt in ("a red mushroom", "a blue cup"):
        page.get_by_role("listitem").filter(has_text=prompt).hover()
        page.get_by_label(f"Compare {prompt.replace(' ', '-')}").check()
    page.get_by_role("button", name="Compare side by side").click()
    until(page, f"{CANVASES}.filter((canvas) => canvas.dataset.drawn).length === 2")
    page.locator("canvas").first.focus()
    before = page.evaluate(f"{CANVASES}[1].dataset.azimuth")
    page.keyboard.press("ArrowLeft")
    until(page, f"{CANVASES}.every((canvas) => canvas.dataset.azimuth !== '{before}')")


def make(page: "Page", prompt: str, steps: int) -> None:
    """As a newcomer does it, with the preset that takes seconds."""
    page.get_by_label("What do you want to make?").fill(prompt)
    page.get_by_text("Test", exact=True).click()
    page.get_by_text("Settings", exact=True).first.click()
    page.get_by_label("Steps", exact=True).fill(str(steps))
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("heading", name=prompt).wait_for()


def colours(page: "Page") -> int:
    """How many different colours the canvas shows."""
    image = Image.open(io.BytesIO(page.locator("canvas").first.screenshot())).convert("RGB")
    return len(image.getcolors(1 << 24) or [])


def step_of(status: str) -> int:
    """The number of steps that a sentence about a run names."""
    return int(status.split(" step ")[1].split(maxsplit=1)[0])
