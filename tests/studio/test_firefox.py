"""The newcomer's path in Firefox, where there is one.

Debian's Firefox is driven over WebDriver BiDi (Playwright's channel `moz-firefox`), with Mesa's
software WebGL on an X server without a screen:
`apt install firefox-esr xvfb libgl1-mesa-dri libegl1`. Without these it skips with the reason.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PLAYWRIGHTS_OWN = "blocked an inline style"  # which it adds for a screenshot


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """An X server without a screen."""
    if (program := shutil.which("Xvfb")) is None:
        pytest.skip("Xvfb is not installed (apt install xvfb)")
    command = [program, "-displayfd", "1", "-screen", "0", "1400x1000x24"]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=pipe, stderr=null) as server:
        assert server.stdout is not None
        yield f":{int(server.stdout.readline())}"
        server.terminate()


@pytest.fixture(scope="module")
def firefox(display: str) -> "Iterator[Browser]":
    """The system's Firefox; skips where it is missing, or cannot be driven by this Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if FIREFOX is None:
        pytest.skip("Firefox is not installed (apt install firefox-esr)")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.firefox.launch(
                channel="moz-firefox",
                executable_path=FIREFOX,
                headless=False,
                env={**os.environ, "DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"},
                firefox_user_prefs={"webgl.force-enabled": True},
            )
            browser.new_context().close()
        except playwright.Error as error:
            pytest.skip(f"this Playwright does not drive this Firefox: {error}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(
    firefox: "Browser", start_studio, pages_of, tmp_path
) -> "Iterator[Callable[..., Page]]":
    """Open the page of a new studio in Firefox."""
    with pages_of(firefox, start_studio(tmp_path / "runs"), ignored=PLAYWRIGHTS_OWN) as open_:
        yield open_


def test_a_newcomers_whole_path(open_page, until, newcomer, tmp_path):
    newcomer.walk(open_page, until, tmp_path)
