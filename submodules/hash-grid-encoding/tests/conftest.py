"""Settings for all tests."""

import sys
from pathlib import Path

import pytest
import torch

# The tests' own helpers, wherever pytest was started; last, for other packages have tests of the
# same names.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
