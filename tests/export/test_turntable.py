"""Turntables decode to what went in, whatever the size."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.export.turntable import write_animation, write_mp4


def frames(count, height, width):
    """A bright bar that moves to the right, over a gradient."""
    for i in range(count):
        frame = np.tile(np.linspace(0, 90, width, dtype=np.uint8)[None, :, None], (height, 1, 3))
        frame[:, i * width // count : (i + 1) * width // count] = (220, 40, 30)
        yield frame


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95), (33, 32)])
def test_mp4_shows_the_frames(tmp_path, height, width):
    assert write_mp4(tmp_path / "t.mp4", frames(6, height, width), fps=12) == 6
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "t.mp4"))
    meta = next(reader)
    assert meta["codec"] == "h264"
    assert "yuv420p" in meta["pix_fmt"]
    assert meta["fps"] == 12
    even = (height + height % 2, width + width % 2)
    decoded = [np.frombuffer(raw, np.uint8).reshape(*even, 3) for raw in reader]
    assert len(decoded) == 6
    for got, sent in zip(decoded, frames(6, height, width), strict=True):
        assert np.abs(got[:height, :width].astype(float) - sent).mean() < 8


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_animation_shows_the_frames(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    assert write_animation(path, frames(5, 40, 50), fps=10) == 5
    picture = Image.open(path)
    assert picture.n_frames == 5
    assert picture.info["loop"] == 0
    for i, sent in enumerate(frames(5, 40, 50)):
        picture.seek(i)
        assert np.abs(np.asarray(picture.convert("RGB"), dtype=float) - sent).mean() < 8


@pytest.mark.parametrize(("write", "name"), [(write_mp4, "t.mp4"), (write_animation, "t.webp")])
def test_bad_frames_leave_no_file(tmp_path, write, name):
    with pytest.raises(UserError, match="at least one frame"):
        write(tmp_path / name, [])
    with pytest.raises(UserError, match="turntable of"):
        write(tmp_path / name, [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []
