"""What a finished run leaves: the splat, a video, a page that opens anywhere, a contact sheet."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gs_ssd.assets.base import Asset, Renderable
from gs_ssd.export import turntable
from gs_ssd.run.pictures import pictures, write_sheet
from gs_ssd.scene import camera

VIDEO, ANIMATION, SHEET = "turntable.mp4", "turntable.webp", "views.png"
TEST_VIEWS = "test_views"
ANIMATION_FRAMES, ANIMATION_SIZE = 48, 256


@dataclasses.dataclass(frozen=True)
class OutputCameras:
    """The cameras of pictures and videos: on rings at these polar angles, one after the other."""

    polar_rad: tuple[float, ...]
    radius: float
    fov_y_rad: float

    def ring(self, num_views: int, size: int, level: int = 0) -> camera.Cameras:
        """`num_views` square cameras around the origin, the first at the front."""
        return camera.ring(num_views, self.polar_rad[level], self.radius, self.fov_y_rad, size)


def write_all(
    folder: Path,
    asset: Asset,
    cameras: OutputCameras,
    *,
    title: str,
    frames: int,
    size: int,
    depth: bool,
    test_views: int,
) -> list[Path]:
    """Write every result into `folder`; each file appears whole or not at all. Returns their paths.

    Args:
        frames: a ring in the video; 0: no video.
        depth: the disparity beside the colours in video and test views.
        test_views: single pictures a ring.
    """
    written = asset.export(folder, title=title)
    sheet = pictures(asset, cameras.ring(8, ANIMATION_SIZE))
    write_sheet(folder / SHEET, [sheet[:4], sheet[4:]])
    names = [SHEET]
    levels = range(len(cameras.polar_rad))
    if frames:
        rings = (cameras.ring(frames, size, level) for level in levels)
        turntable.write_mp4(
            folder / VIDEO, (frame for ring in rings for frame in _frames(asset, ring, depth=depth))
        )
        orbit = cameras.ring(min(frames, ANIMATION_FRAMES), min(size, ANIMATION_SIZE))
        turntable.write_animation(folder / ANIMATION, _frames(asset, orbit))
        names += [VIDEO, ANIMATION]
    if test_views:
        new = []
        for level in levels:
            views = _frames(asset, cameras.ring(test_views, size, level), depth=depth)
            for i, view in enumerate(views):
                polar, azimuth = math.degrees(cameras.polar_rad[level]), 360 * i / test_views
                new.append(f"polar_{polar:03.0f}_azimuth_{azimuth:03.0f}.png")
                write_sheet(folder / TEST_VIEWS / new[-1], [view[None]])
        for old in (folder / TEST_VIEWS).glob("polar_*_azimuth_*.png"):
            if old.name not in new:  # of another number of views
                old.unlink(missing_ok=True)
        names.append(TEST_VIEWS)
    return [*written, *(folder / name for name in names)]


def _frames(
    asset: Renderable, orbit: camera.Cameras, *, depth: bool = False, batch: int = 8
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for start in range(0, len(orbit), batch):
        yield from pictures(asset, orbit[start : start + batch], depth=depth)
