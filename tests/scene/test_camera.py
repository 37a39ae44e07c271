"""Camera batches: axes, wrapping, slicing."""

import math

import pytest
import torch

from gs_ssd.scene import camera
from gs_ssd.scene.camera import Cameras


def test_the_front_camera_stands_on_plus_y_and_sees_plus_x_at_its_left():
    front = Cameras.orbit(
        torch.tensor([0.0]),
        torch.tensor([math.pi / 2]),
        torch.tensor([2.0]),
        torch.tensor([0.8]),
        40,
        20,
    )
    torch.testing.assert_close(front.positions, torch.tensor([[0.0, 2.0, 0.0]]), atol=1e-6, rtol=0)
    point = front.w2c[0] @ torch.tensor([0.5, 0.0, 0.0, 1.0])
    assert point[0] < 0
    torch.testing.assert_close(point[2], torch.tensor(2.0))


def test_pixels_are_square_whatever_the_aspect():
    wide = Cameras.orbit(
        torch.tensor([0.0]),
        torch.tensor([1.0]),
        torch.tensor([2.0]),
        torch.tensor([math.radians(60)]),
        200,
        100,
    )
    torch.testing.assert_close(
        wide.tan_half_fov, torch.tensor([[2.0, 1.0]]) * math.tan(math.radians(30))
    )


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


def _project(cameras, points):
    """Where points [N,3] land in each picture, x and y in -1..1."""
    seen = points @ cameras.w2c[:, :3, :3].transpose(1, 2) + cameras.w2c[:, None, :3, 3]
    return seen[..., :2] / seen[..., 2:] / cameras.tan_half_fov[:, None]


def _cameras_anywhere():
    return Cameras.orbit(
        torch.tensor([0.3, -2.0, math.pi]), torch.tensor([0.4, 1.6, 1.2]),
        torch.tensor([3.0, 2.5, 4.0]),
        torch.tensor([0.7, 0.9, 0.5]), 40, 30,
        eye_offset=torch.tensor([[0.1, 0.2, -0.1]]).expand(3, 3),
    )  # fmt: skip


def test_mirrored_cameras_see_the_mirrored_object_left_for_right():
    cameras, points = _cameras_anywhere(), torch.randn(50, 3) * 0.5
    flipped = _project(cameras.mirrored(), points * torch.tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(
        flipped, _project(cameras, points) * torch.tensor([-1.0, 1.0]), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(cameras.mirrored().azimuth_rad, torch.tensor([-0.3, 2.0, math.pi]))


def test_turned_cameras_stand_where_their_azimuth_says():
    plain = Cameras.orbit(
        torch.tensor([0.3, -2.0]),
        torch.tensor([0.4, 1.6]),
        torch.tensor([3.0, 2.5]),
        torch.tensor([0.7, 0.9]),
        40,
        30,
    )
    turned = plain.turned(torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(turned.azimuth_rad, torch.tensor([1.3, 2 * math.pi - 4.0]))
    expected = camera.orbit_position(turned.azimuth_rad, plain.polar_rad, plain.radius)
    torch.testing.assert_close(turned.positions, expected, atol=1e-5, rtol=1e-5)


def test_batches_join_and_images_of_two_sizes_do_not():
    first, second = camera.ring(2, 1.4, 3.0, 0.7, 32), camera.ring(3, 1.4, 3.0, 0.7, 32)
    joined = Cameras.cat([first, second])
    assert torch.equal(joined[2:].w2c, second.w2c)
    with pytest.raises(ValueError, match="sizes"):
        Cameras.cat([first, camera.ring(2, 1.4, 3.0, 0.7, 64)])


def test_cameras_around_stand_evenly_in_every_direction():
    seen = camera.around(200, 3.0, 0.7, 8)
    assert torch.allclose(seen.positions.norm(dim=1), torch.full((200,), 3.0))
    directions = seen.positions / 3
    assert directions.mean(dim=0).norm() < 0.01  # no side is preferred
    nearest = (directions @ directions.T).fill_diagonal_(-1).max(dim=1).values.acos()
    assert nearest.min() > 0.6 * nearest.max()  # and none is crowded
