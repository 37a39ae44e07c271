"""The skeleton picture that the openpose ControlNets were trained on: 18 COCO keypoints, 17 limbs,
on black.

The convention, from the public drawing code of openpose's derivatives (facts only): each limb is a
filled ellipse polygon with half axes (half its length, 4 pixels), drawn in a fixed order and in the
colour of its number; all limbs are then darkened to 0.6; each keypoint is a disc of radius 4 in the
colour of its own number. Limbs with a hidden end are left out. Sizes are in pixels of the picture,
whatever its resolution.
"""

import math
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gs_ssd.body.body import Body, Transforms
from gs_ssd.body.visibility import project, visible
from gs_ssd.errors import UserError
from gs_ssd.scene.camera import Cameras

LIMBS: Final = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12),
    (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Pairs of keypoint numbers, in drawing order."""

COLORS: Final = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""RGB of limb i and of keypoint i."""

STICK_WIDTH = 4
DISC_RADIUS = 4
LIMB_BRIGHTNESS = 0.6


def draw(
    points: Float[np.ndarray, "18 2"], visible: Bool[np.ndarray, "18"], width: int, height: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The skeleton picture.

    Args:
        points: pixel coordinates (x right, y down).
        visible: keypoints to draw.

    Raises:
        UserError: OpenCV is not installed.
    """
    cv2 = _opencv()
    picture = np.zeros((height, width, 3), np.uint8)
    for (start, end), color in zip(LIMBS, COLORS[: len(LIMBS)], strict=True):
        if visible[start] and visible[end]:
            (x0, y0), (x1, y1) = points[start], points[end]
            center = int((x0 + x1) / 2), int((y0 + y1) / 2)
            half = int(math.hypot(x0 - x1, y0 - y1) / 2), STICK_WIDTH
            tilt = int(math.degrees(math.atan2(y0 - y1, x0 - x1)))
            cv2.fillConvexPoly(picture, cv2.ellipse2Poly(center, half, tilt, 0, 360, 1), color)
    picture = (picture * LIMB_BRIGHTNESS).astype(np.uint8)
    for (x, y), shown, color in zip(points, visible, COLORS, strict=True):
        if shown:
            cv2.circle(picture, (int(x), int(y)), DISC_RADIUS, color, thickness=-1)
    return picture


def draw_views(body: Body, transforms: Transforms, cameras: Cameras) -> Float[Tensor, "v 3 h w"]:
    """Skeleton pictures of the cameras' size, 0..1: keypoints that the body hides are left out."""
    points, _ = project(body.keypoints(transforms), cameras)
    seen = visible(body, transforms, cameras)
    pictures = [
        draw(at.numpy(), shown.numpy(), cameras.width, cameras.height)
        for at, shown in zip(points, seen, strict=True)
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _opencv() -> Any:
    # The ControlNets were trained on OpenCV's polygons and discs, to the pixel; other libraries
    # round differently.
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"the skeleton picture needs OpenCV ({error}): pip install 'gs-ssd[avatar]'"
        ) from error
    return cv2
