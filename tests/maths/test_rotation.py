"""Rotations, look-at matrices, covariances: properties, and scipy as an independent reference."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gs_ssd.maths import rotation

component = st.floats(-3, 3, width=32)
quaternions = st.tuples(component, component, component, component).filter(
    lambda q: sum(x * x for x in q) > 1e-3
)


@given(quaternions)
def test_a_quaternion_of_any_length_is_the_rotation_that_scipy_says(quat):
    ours = rotation.quat_to_matrix(torch.tensor(quat, dtype=torch.float64))
    np.testing.assert_allclose(
        ours, Rotation.from_quat(quat, scalar_first=True).as_matrix(), atol=1e-12
    )


@given(quaternions)
def test_matrices_are_proper_rotations_and_q_equals_minus_q(quat):
    q = torch.tensor(quat, dtype=torch.float64)
    matrix = rotation.quat_to_matrix(q)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=torch.float64))
    assert math.isclose(float(torch.linalg.det(matrix)), 1.0, rel_tol=1e-9)
    torch.testing.assert_close(matrix, rotation.quat_to_matrix(-q))


def test_look_at_puts_the_target_on_the_axis_and_up_upwards():
    eye = torch.randn(50, 3, dtype=torch.float64) * 3
    target = torch.randn(50, 3, dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(50, 3)
    w2c = rotation.look_at(eye, target, up)
    seen = (w2c @ torch.cat([target, torch.ones(50, 1)], dim=1).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(
        seen[:, :2], torch.zeros(50, 2, dtype=torch.float64), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(seen[:, 2], (target - eye).norm(dim=-1))
    higher = (w2c @ torch.cat([target + 0.1 * up, torch.ones(50, 1)], dim=1).unsqueeze(-1)).squeeze(
        -1
    )
    assert (higher[:, 1] < 0).all()  # y points down
    assert torch.allclose(torch.linalg.det(w2c[:, :3, :3]), torch.ones(50, dtype=torch.float64))


def test_looking_straight_down_is_still_a_rotation_with_the_front_at_the_bottom():
    up = torch.tensor([[0.0, 0.0, 1.0]])
    w2c = rotation.look_at(torch.tensor([[0.0, 0.0, 4.0]]), torch.zeros(1, 3), up)
    torch.testing.assert_close(w2c[0, :3, :3] @ w2c[0, :3, :3].T, torch.eye(3))
    front = w2c[0] @ torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert front[1] > 0


def test_covariance_is_that_of_samples_and_positive_definite():
    scales, quat = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.3, -0.2, 0.9, 0.4])
    covariance = rotation.covariance(scales, quat)
    samples = (torch.randn(200_000, 3) * scales) @ rotation.quat_to_matrix(quat).T
    torch.testing.assert_close(
        torch.cov(samples.T), covariance, atol=0.03, rtol=0.03
    )  # 4 sigma of 2e5 samples
    eigenvalues = torch.linalg.eigvalsh(covariance)
    torch.testing.assert_close(eigenvalues, torch.tensor([0.25, 1.0, 4.0]), atol=1e-5, rtol=1e-5)
