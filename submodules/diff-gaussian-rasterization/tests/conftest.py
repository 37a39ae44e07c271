"""Settings for all tests."""

import sys
from pathlib import Path

import pytest
import torch

# The tests' own helpers, wherever pytest was started and however it imports.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "cuda")]


@pytest.fixture(autouse=True)
def _restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
