"""The counted cost of SSD against ISM: what dropping the inversion and the zero-weight negatives saves."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("diffusers")
    path = Path(__file__).parents[2] / "tools" / "estimator_cost.py"
    spec = importlib.util.spec_from_file_location("estimator_cost", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ssd_needs_far_fewer_unet_images_than_ism(tool):
    assert tool.unet_images("ism", False) / tool.unet_images("ssd", False) >= 2.3
    assert tool.unet_images("ism", True) / tool.unet_images("ssd", True) >= 1.75


@pytest.mark.slow
def test_full_size_multiply_adds(tool):
    parts = tool.count_parts(512)
    assert parts["unet"] == pytest.approx(0.40, abs=0.01)
    assert parts["encode"] == pytest.approx(0.56, abs=0.01)
    assert parts["encode_backward"] == pytest.approx(0.58, abs=0.01)
