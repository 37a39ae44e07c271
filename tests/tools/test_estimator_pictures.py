"""The pictures of the README's table: what is written of an estimator, and that a strip is
small."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image


def _tool():
    path = Path(__file__).parents[2] / "tools" / "estimator_pictures.py"
    spec = importlib.util.spec_from_file_location("estimator_pictures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_costs_are_told_in_units_of_the_first(tmp_path):
    tool = _tool()
    ssd = {
        "variant": "ssd",
        "steps": 10,
        "unet_images": 80,
        "cpu_seconds": 20.0,
        "iou": 0.5,
        "kind_share": 1.0,
    }
    sdi = ssd | {"variant": "sdi", "unet_images": 364, "cpu_seconds": 50.0}
    assert tool.table([ssd, sdi]).splitlines()[2:] == [
        "| `ssd` | 8.0 | 20 | 1.00 | 0.50 | 1.00 |", "| `sdi` | 36.4 | 50 | 2.50 | 0.50 | 1.00 |"
    ]  # fmt: skip
    views = np.zeros((8, 128, 128, 3), np.uint8)
    views[3] = 255
    tool.portrait(views, tmp_path / "ssd.webp")
    with Image.open(tmp_path / "ssd.webp") as strip:
        assert strip.size == (384, 128)
        assert np.asarray(strip)[:, 128:256].mean() > 250  # the second of the chosen views
    assert (tmp_path / "ssd.webp").stat().st_size < 20_000
