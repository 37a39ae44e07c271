"""Camera batches: axes, wrapping, slicing."""

import math

import torch

from gs_ssd.scene import camera
from gs_ssd.scene.camera import Cameras


def test_the_front_camera_stands_on_plus_y_and_sees_plus_x_at_its_left():
    front = Cameras.orbit(
        torch.tensor([0.0]), torch.tensor([math.pi / 2]), torch.tensor([2.0]), torch.tensor([0.8]), 40, 20
    )
    torch.testing.assert_close(front.positions, torch.tensor([[0.0, 2.0, 0.0]]), atol=1e-6, rtol=0)
    point = front.w2c[0] @ torch.tensor([0.5, 0.0, 0.0, 1.0])
    assert point[0] < 0
    torch.testing.assert_close(point[2], torch.tensor(2.0))


def test_pixels_are_square_whatever_the_aspect():
    wide = Cameras.orbit(
        torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([math.radians(60)]), 200, 100
    )
    torch.testing.assert_close(wide.tan_half_fov, torch.tensor([[2.0, 1.0]]) * math.tan(math.radians(30)))


def test_angles_wrap_to_half_open_minus_pi_to_pi():
    angles = torch.tensor([math.pi, -math.pi, 3 * math.pi / 2, -0.5, 0.0, 7.0], dtype=torch.float64)
    wrapped = camera.wrap_angle(angles)
    assert ((wrapped > -math.pi) & (wrapped <= math.pi)).all()
    torch.testing.assert_close(wrapped.cos(), angles.cos())
    torch.testing.assert_close(wrapped.sin(), angles.sin(), atol=1e-12, rtol=0)


def test_slices_are_batches_of_cameras():
    ring = camera.ring(8, 1.4, 3.0, 0.7, 32)
    part = ring[2:5]
    assert len(part) == 3
    assert torch.equal(part.w2c, ring.w2c[2:5])
    assert part.width == 32
    torch.testing.assert_close(part.azimuth_rad[0], torch.tensor(math.pi / 2))
