"""Floor 5: what a finished run leaves: the splat, a video, a page that opens anywhere, a contact sheet."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gs_ssd.export import ply, splats, turntable
from gs_ssd.record import pictures, write_sheet
from gs_ssd.scene import camera
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.viewer import page

PLY, VIDEO, ANIMATION, PAGE, SHEET = "point_cloud.ply", "turntable.mp4", "turntable.webp", "index.html", "views.png"
ANIMATION_FRAMES, ANIMATION_SIZE = 48, 256


def write_all(
    folder: Path,
    gaussians: Gaussians,
    *,
    title: str,
    polar_rad: float,
    radius: float,
    fov_y_rad: float,
    frames: int,
    size: int,
) -> list[Path]:
    """Write every result into `folder`; each file appears whole or not at all. Returns their paths."""
    asset = splats.from_gaussians(gaussians)
    ply.write_ply(folder / PLY, asset.to_frame("inria"))
    page.write_page(folder / PAGE, asset, title=title)
    sheet = pictures(gaussians, camera.ring(8, polar_rad, radius, fov_y_rad, ANIMATION_SIZE))
    write_sheet(folder / SHEET, [sheet[:4], sheet[4:]])
    names = [PLY, PAGE, SHEET]
    if frames:
        orbit = camera.ring(frames, polar_rad, radius, fov_y_rad, size)
        turntable.write_mp4(folder / VIDEO, _frames(gaussians, orbit))
        orbit = camera.ring(min(frames, ANIMATION_FRAMES), polar_rad, radius, fov_y_rad, min(size, ANIMATION_SIZE))
        turntable.write_animation(folder / ANIMATION, _frames(gaussians, orbit))
        names += [VIDEO, ANIMATION]
    return [folder / name for name in names]


def _frames(gaussians: Gaussians, orbit: camera.Cameras, batch: int = 8) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for start in range(0, len(orbit), batch):
        yield from pictures(gaussians, orbit[start : start + batch])
