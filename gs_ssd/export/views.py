"""A splat from sixteen sides: what simplifying is measured by, and what is counted for `gs-ssd
inspect`."""

import dataclasses
import math

import numpy as np
import torch

from gs_ssd.export.clean import finite, framing
from gs_ssd.export.frames import FloatArray
from gs_ssd.export.splats import Splats, to_gaussians
from gs_ssd.render.renderer import render
from gs_ssd.scene.camera import Cameras, around

VIEWS = 16
DISTANCE = 2.9  #: in framing radii: the object fills three quarters of the picture's height
FOV_Y = math.radians(50.0)


def cameras_around(size: int, count: int = VIEWS) -> Cameras:
    """Cameras spread evenly over the sphere around the unit ball, square pictures of `size`."""
    return around(count, DISTANCE, FOV_Y, size)


def in_unit_ball(splats: Splats, like: Splats | None = None) -> Splats:
    """What can be drawn, in the world frame, its framing ball (or that of `like`) the unit ball."""
    splats = splats.take(finite(splats)).to_frame("world")
    frame_of = splats if like is None else like.take(finite(like)).to_frame("world")
    center, radius = framing(frame_of)
    return dataclasses.replace(
        splats,
        means=(splats.means - center) / radius,
        log_scales=splats.log_scales - math.log(radius),
    )


def pictures(splats: Splats, size: int = 256, *, like: Splats | None = None) -> FloatArray:
    """What the sixteen cameras see on grey [16,H,W,3], 0..1, in the framing of `like` (of
    itself)."""
    cameras = cameras_around(size)
    with torch.no_grad():
        rgb = render(
            to_gaussians(in_unit_ball(splats, like)), cameras, torch.full((len(cameras), 3), 0.5)
        ).rgb
    return rgb.clamp(0, 1).permute(0, 2, 3, 1).numpy()


def psnr(seen: FloatArray, wanted: FloatArray) -> float:
    """Peak signal-to-noise ratio in dB of pictures with values 0..1."""
    return float(-10 * np.log10(np.mean(np.square(seen.astype(np.float64) - wanted))))
