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


def test_the_share_compares_a_ratio_of_times_with_the_ratio_of_counts(tool):
    parts = {"unet": 1.0, "encode": 2.0, "encode_backward": 3.0, "tiny_encode": 0.5, "tiny_encode_backward": 0.5}
    ssd, ism = tool.Row("ssd", False, False), tool.Row("ism", False, False)
    assert ssd.counted(parts, 8) == 28
    assert tool.Row("ssd", False, True).counted(parts, 8) == 12
    ssd.seconds, ssd.images, ssd.steps = 20.0, 16, 2
    ism.seconds, ism.images, ism.steps = 54.0, 72, 2
    rows = ssd.report(parts), ism.report(parts)
    assert [row["seconds"] for row in rows] == [10, 27]
    assert [row["timed_tera"] for row in rows] == [28, 56]
    assert tool.share_of_possible(*rows) == {"faster": 2.7, "allowed": 2.0, "share": 1.35}


@pytest.mark.slow
def test_full_size_multiply_adds(tool):
    parts = tool.count_parts(512)
    assert parts["unet"] == pytest.approx(0.40, abs=0.01)
    assert parts["encode"] == pytest.approx(0.56, abs=0.01)
    assert parts["encode_backward"] == pytest.approx(0.58, abs=0.01)
