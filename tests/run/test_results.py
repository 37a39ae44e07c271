"""Rings, test views, the disparity beside the colours, and the video of the making."""

import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from gs_ssd.assets.splat.asset import SplatAsset, SplatConfig
from gs_ssd.run import results
from gs_ssd.run.pictures import pictures
from gs_ssd.run.process_video import ProcessVideo
from gs_ssd.run.results import OutputCameras
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig

CAMERAS = OutputCameras((math.radians(90), math.radians(60)), 3.5, 0.55)


@pytest.fixture(scope="module")
def splat():
    """A red ball with its front half (+y) blue, as an asset."""
    config = InitializeConfig(
        shape="ball", num_points=400, radius=0.4, scale=0.06, opacity=0.9, color=(1.0, 0.0, 0.0)
    )
    gaussians = initialize.create(config, torch.Generator().manual_seed(0))
    gaussians.sh_dc[gaussians.means[:, 1] > 0] = (torch.tensor([0.0, 0.0, 1.0]) - 0.5) / 0.28209479
    asset = SplatAsset(SplatConfig(prompt="a ball"), torch.device("cpu"))
    asset.load_state_dict({"parameters": gaussians.parameters(), "adam": {}, "statistics": {}})
    return asset


def test_two_rings_one_after_the_other_with_the_disparity_beside(tmp_path, splat):
    written = results.write_all(
        tmp_path, splat, CAMERAS, title="a ball", frames=6, size=64, depth=True, test_views=2
    )
    assert all(path.exists() for path in written)
    assert iio.imread(tmp_path / "turntable.mp4").shape == (12, 64, 128, 3)
    names = sorted(path.name for path in (tmp_path / "test_views").iterdir())
    assert names == [f"polar_{p}_azimuth_{a}.png" for p in ("060", "090") for a in ("000", "180")]
    front, back = (np.asarray(Image.open(tmp_path / "test_views" / name)) for name in names[2:])
    assert front.shape == (64, 128, 3)
    assert front[32, 32].argmax() == 2  # azimuth 0 looks at the blue half
    assert back[32, 32].argmax() == 0
    assert front[32, 96].min() > 200  # near
    assert front[2, 66].max() == 0  # nothing


def test_the_first_ring_is_level_and_the_second_looks_down():
    level, high = (CAMERAS.ring(1, 8, i).positions[0] for i in (0, 1))
    torch.testing.assert_close(level, torch.tensor([0.0, 3.5, 0.0]), atol=1e-5, rtol=0)
    assert high[2].item() == pytest.approx(1.75, abs=1e-5)


@pytest.mark.parametrize(("frames", "steps"), [(5, 23), (5, 5), (9, 4)])
def test_the_video_spreads_its_frames_over_the_run(tmp_path, splat, frames, steps):
    video = ProcessVideo(tmp_path, CAMERAS, frames, 16, steps)
    for completed in range(1, steps + 1):
        video.take(completed, splat)
    assert max(video.due) == steps
    assert len(list((tmp_path / "process").iterdir())) == min(frames, steps)
    (video,) = video.write()
    assert len(iio.imread(video)) == min(frames, steps)
    assert not (tmp_path / "process").exists()


def test_the_camera_of_the_video_walks_around(tmp_path, splat):
    video = ProcessVideo(tmp_path, CAMERAS, 4, 32, 4)
    for completed in (1, 2, 3, 4):
        video.take(completed, splat)
    first, third = (
        np.asarray(Image.open(tmp_path / "process" / f"{i:06d}.png"))[16, 16] for i in (1, 3)
    )
    assert (first.argmax(), third.argmax()) == (2, 0)


def test_an_interrupted_video_goes_on_and_none_is_no_video(tmp_path, splat):
    ProcessVideo(tmp_path, CAMERAS, 2, 16, 2).take(1, splat)
    video = ProcessVideo(tmp_path, CAMERAS, 2, 16, 2)
    video.take(2, splat)
    (video,) = video.write()
    assert len(iio.imread(video)) == 2
    nothing = ProcessVideo(tmp_path / "other", CAMERAS, 0, 16, 2)
    nothing.take(1, splat)
    assert nothing.write() == []


def test_a_video_that_goes_on_with_other_numbers_has_every_frame_once_in_their_order(
    tmp_path, splat, caplog
):
    first = ProcessVideo(tmp_path, CAMERAS, 4, 16, 8)  # steps 2, 4, 6, 8
    first.take(2, splat)
    first.take(4, splat)
    second = ProcessVideo(tmp_path, CAMERAS, 3, 32, 9)  # steps 3, 6, 9; of another size
    second.take(6, splat)
    second.take(9, splat)
    (video,) = second.write()
    assert iio.imread(video).shape[:3] == (4, 32, 32)
    assert "begins" not in caplog.text
    third = ProcessVideo(tmp_path, CAMERAS, 4, 16, 12)  # the finished run takes three steps more
    third.take(12, splat)
    third.write()
    assert "process.mp4 begins at step 12" in caplog.text


def test_frames_are_gone_where_the_video_is_not_wanted_any_more(tmp_path, splat):
    ProcessVideo(tmp_path, CAMERAS, 2, 16, 2).take(1, splat)
    assert ProcessVideo(tmp_path, CAMERAS, 0, 16, 2).write() == []
    assert not list(tmp_path.iterdir())


def test_fewer_test_views_leave_none_of_more(tmp_path, splat):
    for count in (3, 2):
        results.write_all(
            tmp_path, splat, CAMERAS, title="", frames=0, size=8, depth=False, test_views=count
        )
    assert len(list((tmp_path / "test_views").iterdir())) == 2 * 2


def test_pictures_with_disparity_are_twice_as_wide(splat):
    assert pictures(splat, CAMERAS.ring(2, 16), depth=True).shape == (2, 16, 32, 3)
