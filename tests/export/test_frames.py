"""Frames: proper rotations, and quaternions and harmonics that turn with them."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from gs_ssd.export.frames import (
    FROM_WORLD,
    frame_rotation,
    multiply_quaternions,
    quaternion_from_rotation,
    rotations_from_quaternions,
    sh_basis,
    sh_rotation,
    up_rotation,
)

RNG = np.random.default_rng(1)


def unit_vectors(count: int) -> np.ndarray:
    v = RNG.normal(size=(count, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


@pytest.mark.parametrize("frame", FROM_WORLD)
def test_no_frame_mirrors(frame):
    assert np.linalg.det(FROM_WORLD[frame]) == pytest.approx(1)
    assert FROM_WORLD[frame] @ FROM_WORLD[frame].T == pytest.approx(np.eye(3))


@pytest.mark.parametrize(
    ("frame", "up", "front"),
    [("world", (0, 0, 1), (0, 1, 0)), ("gltf", (0, 1, 0), (0, 0, 1)),
        ("inria", (0, -1, 0), (0, 0, -1)),
     ("blender", (0, 0, 1), (0, -1, 0))],
)  # fmt: skip
def test_up_and_front_are_where_the_table_says(frame, up, front):
    rotation = frame_rotation("world", frame)
    assert rotation @ [0, 0, 1] == pytest.approx(up)
    assert rotation @ [0, 1, 0] == pytest.approx(front)


def test_inria_is_gltf_turned_half_about_x():
    assert frame_rotation("gltf", "inria") == pytest.approx(np.diag([1, -1, -1]))


@pytest.mark.parametrize("up", [sign + axis for sign, axis in itertools.product("+-", "xyz")])
@pytest.mark.parametrize("frame", FROM_WORLD)
def test_up_rotation_brings_the_axis_up(up, frame):
    rotation = up_rotation(up, frame)
    start = np.eye(3)["xyz".index(up[1])] * (-1 if up[0] == "-" else 1)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation @ start == pytest.approx(FROM_WORLD[frame] @ [0, 0, 1], abs=1e-12)


def test_quaternions_agree_with_scipy():
    rotations = Rotation.random(50, random_state=2)
    matrices = np.concatenate([rotations.as_matrix(), np.array(list(FROM_WORLD.values()))])
    for matrix in matrices:
        wxyz = quaternion_from_rotation(matrix)
        assert Rotation.from_quat(np.roll(wxyz, -1)).as_matrix() == pytest.approx(matrix, abs=1e-7)
    a, b = rotations[:25], rotations[25:]
    ours = multiply_quaternions(np.roll(a.as_quat(), 1, axis=1), np.roll(b.as_quat(), 1, axis=1))
    assert rotations_from_quaternions(3 * ours) == pytest.approx((a * b).as_matrix(), abs=1e-12)


def test_basis_is_scipys_real_form():
    directions = unit_vectors(40)
    theta, phi = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for band in range(4):
        for m in range(-band, band + 1):
            value = sph_harm_y(band, abs(m), theta, phi)  # with the Condon-Shortley phase
            part = value.real if m >= 0 else value.imag
            columns.append(part * (np.sqrt(2) if m else 1))
    assert sh_basis(directions, 3) == pytest.approx(np.stack(columns, axis=1), abs=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_turn_with_the_object(degree):
    rotation = Rotation.random(random_state=3).as_matrix()
    matrix = sh_rotation(rotation, degree)
    coefficients = RNG.normal(size=matrix.shape[1])
    directions = unit_vectors(30)
    turned = sh_basis(directions @ rotation.T, degree) @ (matrix @ coefficients)  # seen along R d
    assert turned == pytest.approx(sh_basis(directions, degree) @ coefficients, abs=1e-12)
    assert matrix @ matrix.T == pytest.approx(np.eye(len(matrix)), abs=1e-12)


def test_half_turn_about_x_flips_the_known_signs():
    signs = [1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1]
    assert sh_rotation(np.diag([1.0, -1, -1]), 3) == pytest.approx(np.diag(signs), abs=1e-12)
