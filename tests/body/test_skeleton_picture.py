"""The skeleton picture: what is hidden, where it is drawn, and the convention to the pixel."""

import math

import numpy as np
import pytest
import torch

from gs_ssd.body import mannequin, openpose, poses, visibility
from gs_ssd.body.body import KEYPOINTS
from gs_ssd.scene import camera

pytest.importorskip("cv2", reason="needs opencv-python-headless (pip install 'gs-ssd[avatar]')")


@pytest.fixture(scope="module")
def body():
    return mannequin.create()


def seen_from(body, azimuth_deg, pose="a"):
    cameras = camera.Cameras.orbit(
        torch.tensor([math.radians(azimuth_deg)]),
        torch.tensor([1.45]),
        torch.tensor([3.2]),
        torch.tensor([0.8]),
        256,
        256,
    )
    transforms = body.transforms(poses.POSES[pose])
    shown = visibility.visible(body, transforms, cameras)[0]
    points, _ = visibility.project(body.keypoints(transforms), cameras)
    return {name for name, yes in zip(KEYPOINTS, shown, strict=True) if yes}, points[0], shown


def test_a_front_view_has_all_keypoints_and_a_back_view_has_no_face(body):
    assert seen_from(body, 0)[0] == set(KEYPOINTS)
    behind = seen_from(body, 180)[0]
    assert not behind & {"nose", "right_eye", "left_eye"}
    assert {"neck", "right_shoulder", "left_hip", "right_knee"} <= behind


def test_from_the_right_the_left_side_is_hidden(body):
    shown = seen_from(body, 90, "stand")[0]
    assert "right_ear" in shown
    assert not shown & {"left_ear", "left_eye", "left_shoulder", "left_elbow", "left_hip"}


def test_the_front_view_shows_the_right_hand_on_the_left_of_the_picture(body):
    _, points, _ = seen_from(body, 0)
    right, left = (points[KEYPOINTS.index(f"{side}_wrist")] for side in ("right", "left"))
    assert right[0] < 128 < left[0]
    assert points[KEYPOINTS.index("nose")][1] < points[KEYPOINTS.index("neck")][1]


def test_projection_agrees_with_the_rasterizer(body):
    from gs_ssd.render.renderer import render
    from gs_ssd.scene.gaussians import Gaussians

    point = torch.tensor([[0.3, 0.2, 0.4]])
    dot = Gaussians(
        point, torch.full((1, 3), -4.0), torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([4.0]),
        torch.zeros(1, 1, 3),
        torch.zeros(1, 0, 3),
    )  # fmt: skip
    cameras = camera.ring(5, 1.1, 3.0, 0.7, 96)
    alpha = render(dot, cameras, torch.zeros(5, 3)).alpha[:, 0]
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    centers = torch.stack(
        [(alpha * axis).sum((1, 2)) / alpha.sum((1, 2)) for axis in (x, y)], dim=1
    )
    points, depth = visibility.project(point, cameras)
    assert torch.allclose(points[:, 0], centers, atol=0.05)
    assert torch.allclose(depth[:, 0], (cameras.positions - 0).norm(dim=1), atol=0.6)


def described(points, shown, size):
    """The convention by its description: ellipses and discs as sets of pixels, no drawing
    library."""
    picture = np.zeros((size, size, 3), int)
    y, x = np.mgrid[:size, :size]
    for (a, b), color in zip(openpose.LIMBS, openpose.COLORS, strict=False):
        if shown[a] and shown[b]:
            center = np.trunc((points[a] + points[b]) / 2)
            delta = points[a] - points[b]
            half = int(np.hypot(*delta) / 2)
            tilt = math.radians(int(math.degrees(math.atan2(delta[1], delta[0]))))
            dx, dy = x - center[0], y - center[1]
            along, across = (
                dx * math.cos(tilt) + dy * math.sin(tilt),
                dy * math.cos(tilt) - dx * math.sin(tilt),
            )
            picture[(along / max(half, 1e-9)) ** 2 + (across / 4) ** 2 <= 1] = color
    picture = (picture * 0.6).astype(int)
    for (px, py), yes, color in zip(points, shown, openpose.COLORS, strict=True):
        if yes:
            picture[(x - int(px)) ** 2 + (y - int(py)) ** 2 <= 16] = color
    return picture


@pytest.mark.parametrize("azimuth", [0, 40, 130, 250])
def test_the_picture_is_the_conventions(azimuth, body):
    _, points, shown = seen_from(body, azimuth, "stand" if azimuth > 90 else "a")
    points, shown = points.numpy(), shown.numpy()
    drawn = openpose.draw(points, shown, 256, 256).astype(int)
    expected = described(points, shown, 256)
    different = (drawn != expected).any(-1)
    # Polygons on whole pixels may take a pixel more or less than the ideal ellipse on its outline,
    # nowhere else.
    outline = np.zeros_like(different)
    for shift in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        outline |= (np.roll(expected, shift, (0, 1)) != expected).any(-1)
    assert not (different & ~outline).any()
    colors = {
        (0, 0, 0),
        *openpose.COLORS,
        *(tuple(int(c * 0.6) for c in color) for color in openpose.COLORS),
    }
    assert {tuple(color) for color in drawn.reshape(-1, 3)} <= colors
    assert different.mean() < 0.02


def test_limbs_are_darker_than_keypoints_and_missing_ends_leave_out_limbs(body):
    _, points, shown = seen_from(body, 0)
    points, shown = points.numpy(), shown.numpy().copy()
    neck, elbow = KEYPOINTS.index("neck"), KEYPOINTS.index("right_elbow")
    whole = openpose.draw(points, shown, 256, 256)
    x, y = points[elbow].astype(int)
    assert tuple(whole[y, x]) == openpose.COLORS[elbow]
    x, y = ((points[elbow] + points[elbow - 1]) / 2).astype(int)
    assert tuple(whole[y, x]) == tuple(int(c * 0.6) for c in openpose.COLORS[2])
    shown[neck] = False
    shown[elbow] = False
    part = openpose.draw(points, shown, 256, 256)
    assert not part[y - 1 : y + 2, x - 1 : x + 2].any()


def test_view_prompts_can_follow_the_bodys_facing(body):
    turned = poses.pose({"pelvis": [("z", -90.0)]})  # to its right, towards +x
    assert float(visibility.facing_azimuth(body.transforms(turned))) == pytest.approx(
        math.pi / 2, abs=1e-5
    )
    assert float(visibility.facing_azimuth(body.transforms(poses.POSES["a"]))) == 0
