"""Shared by all tests: fixed seeds, and no silent skipping of browser tests where a browser is promised."""

import os
from collections.abc import Generator

import pytest
import torch
from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, None, None]:
    """With GS_SSD_REQUIRE_BROWSER set, a browser test that skips has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and item.get_closest_marker("browser") and os.environ.get("GS_SSD_REQUIRE_BROWSER"):
        report.outcome = "failed"
        report.longrepr = f"browser test skipped although GS_SSD_REQUIRE_BROWSER is set: {report.longrepr}"
