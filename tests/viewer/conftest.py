"""Headless Chromium on its software WebGL2, for tests that look at a page."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: The system's; None: playwright's own, if it has one.
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """The system's Chromium, or playwright's; skips, saying so, where it or playwright is
    missing.

    For one module: while playwright is open no other test can run an event loop in this thread.
    """
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    with playwright.sync_playwright() as driver:
        path = CHROMIUM or driver.chromium.executable_path
        if not Path(path).is_file():
            pytest.skip("no Chromium found (apt install chromium, or playwright install chromium)")
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: "Browser") -> "Iterator[Callable[..., Page]]":
    """Open a page, wait until it has drawn its first sorted frame (or given up), and watch what it
    does.

    At the end of the test: no script error, and no request that left the machine.
    """
    contexts, errors, requests = [], [], []

    def open_(
        url: Path | str,
        size: tuple[int, int] = (512, 512),
        *,
        init: str = "",
        ready: str = "window.__ready",
        **options,
    ):
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        if init:
            page.add_init_script(init)
        page.goto(url.as_uri() if isinstance(url, Path) else url)
        wait_for(page, f"{ready} || window.__failed")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
    allowed = ("file:", "data:", "blob:", "http://127.0.0.1:")
    assert [url for url in requests if not url.startswith(allowed)] == []


def wait_for(page: "Page", expression: str, seconds: float = 60) -> None:
    """Poll from outside: the page's own policy forbids evaluating strings inside it."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still waiting for {expression}"
        page.wait_for_timeout(50)


@pytest.fixture
def until() -> "Callable[[Page, str], None]":
    return wait_for


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> "Callable[[Page], np.ndarray]":
    """The canvas alone, as uint8 [H,W,3]; kept under the test's name in the folder GS_SSD_PICTURES,
    if that is set."""

    def take(page: "Page") -> np.ndarray:
        page.add_style_tag(content="header, nav { visibility: hidden }")
        # Half a million splats take a busy CPU without a GPU longer than the default of 30 seconds.
        image = Image.open(BytesIO(page.screenshot(timeout=120_000))).convert("RGB")
        if "GS_SSD_PICTURES" in os.environ:
            image.save(Path(os.environ["GS_SSD_PICTURES"]) / f"{request.node.name}.png")
        return np.asarray(image)

    return take
