"""The parts of a texture's making, each against what is known; the whole is tested with the
mesh."""

import numpy as np
import pytest

from gs_ssd.export.texture import View, bake, texels


def test_texels_cover_each_triangle_once_and_interpolate():
    corners = np.array([[1.0, 1], [14, 3], [4, 13]])
    rows, columns, face, weights = texels(np.stack([corners, corners[[1, 0, 2]] + 0.0]), 16)
    first = face == 0
    middles = np.stack([columns, rows], axis=1) + 0.5
    assert weights[first] @ corners == pytest.approx(middles[first])
    assert weights.sum(axis=1) == pytest.approx(1)
    inside = sum(
        all(
            (2 * bx - 2 * ax) * (2 * r + 1 - 2 * ay) - (2 * by - 2 * ay) * (2 * c + 1 - 2 * ax) >= 0
            for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True)
        )
        for c in range(16)
        for r in range(16)
    )  # in whole numbers: twice the coordinates of the texels' middles
    assert first.sum() == inside
    assert len(set(zip(rows[first], columns[first], strict=True))) == first.sum()
    assert (~first).sum() == first.sum()  # of the other handedness too


def test_texels_of_a_triangle_without_area_or_outside():
    line = np.array([[[1.0, 1], [5, 5], [9, 9]], [[30, 30], [40, 30], [30, 40]]])
    assert len(texels(line, 16)[0]) == 0


def quad() -> tuple[np.ndarray, ...]:
    """The square -1..1 in z = 0, facing +z, filling its texture."""
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    vertices = np.concatenate([2.0 * uv - 1, np.zeros((4, 1))], axis=1)
    return vertices, np.tile([0.0, 0, 1], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]]), uv


def front(color: np.ndarray, *, depth: float = 3.0, back: bool = False) -> View:
    """From z = 3 (or -3), with x to the right seen from the front; it sees exactly the square."""
    turn = np.diag([-1.0, -1, 1]) if back else np.diag([1.0, -1, -1])
    w2c = np.eye(4)
    w2c[:3, :3], w2c[2, 3] = turn, 3.0
    picture = np.broadcast_to(color, (64, 64, 3)).astype(np.float32)
    return View(picture, np.full((32, 32), depth, dtype=np.float32), w2c, 1 / 3)


def test_the_picture_arrives_upright():
    """Red grows to the right (u), green upwards (v, and the texture's first row is its top)."""
    ramp = (np.arange(64) + 0.5) / 64
    color = np.stack(
        [np.tile(ramp, (64, 1)), np.tile(ramp[::-1, None], (1, 64)), np.full((64, 64), 0.25)],
        axis=-1,
    )
    texture = bake(*quad(), [front(color)], size=32, slack=0.01) / 255.0
    wanted = (np.arange(32) + 0.5) / 32
    assert texture[..., 0] == pytest.approx(np.tile(wanted, (32, 1)), abs=0.02)
    assert texture[..., 1] == pytest.approx(np.tile(wanted[::-1, None], (1, 32)), abs=0.02)
    assert texture[..., 2] == pytest.approx(0.25, abs=0.01)


def test_only_views_that_see_a_texel_colour_it():
    red, green, blue = np.eye(3)
    hidden = front(green, depth=2.5)  # something else stands before it
    texture = bake(*quad(), [front(red), hidden, front(blue, back=True)], size=16, slack=0.1)
    assert (texture == [255, 0, 0]).all()


def test_views_that_look_straight_count_most():
    red, blue = np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
    slanted = front(blue)
    angle = np.deg2rad(60)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    slanted.w2c[:3, :3] = slanted.w2c[:3, :3] @ turn
    texture = bake(
        *quad(),
        [front(red), View(slanted.color, slanted.depth, slanted.w2c, 1.0)],
        size=16,
        slack=2.0,
    )
    red_share = texture[8, 8, 0] / 255
    assert red_share == pytest.approx(1 / (1 + np.cos(angle) ** 4), abs=0.03)


def test_what_nothing_sees_takes_the_colour_beside_it():
    vertices, normals, faces, uv = quad()
    color = np.zeros((64, 64, 3))
    color[:, :32, 0] = color[:, 32:, 2] = 1
    texture = bake(vertices, normals, faces, 0.25 + 0.5 * uv, [front(color)], size=64, slack=0.1)
    assert texture[32, 5].tolist() == [255, 0, 0]
    assert texture[32, 60].tolist() == [0, 0, 255]
    assert texture[:, 20].sum() > 0
