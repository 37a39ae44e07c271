"""Rotations between the frames of `gs_ssd.maths.conventions`, as matrices and quaternions; nothing
is ever mirrored."""

import numpy as np
from numpy.typing import NDArray

from gs_ssd.maths.conventions import FROM_WORLD, Frame

FloatArray = NDArray[np.floating]


def frame_rotation(source: Frame, target: Frame) -> FloatArray:
    """The rotation [3,3] with `p_target = R @ p_source`."""
    return FROM_WORLD[target] @ FROM_WORLD[source].T


def up_rotation(up: str, frame: Frame) -> FloatArray:
    """The shortest rotation [3,3] that turns the signed axis `up` ("+x" ... "-z") into the up axis
    of `frame`.

    Half a turn, where `up` is the very opposite, goes about x (the field's usual flip), or about y
    when x is up.
    """
    start = np.zeros(3)
    start["xyz".index(up[-1])] = -1.0 if up.startswith("-") else 1.0
    end = FROM_WORLD[frame] @ np.array([0.0, 0.0, 1.0])
    cosine = float(start @ end)
    if cosine < -0.5:
        return np.diag([1.0, -1.0, -1.0]) if up[-1] != "x" else np.diag([-1.0, 1.0, -1.0])
    axis = np.cross(start, end)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return (
        np.eye(3) + cross + cross @ cross / (1.0 + cosine)
    )  # Rodrigues, written with sin and cos of the angle


def quaternion_from_rotation(rotation: FloatArray) -> FloatArray:
    """Unit quaternions (w, x, y, z) [...,4], w >= 0, of rotations [...,3,3]; safe at half turns.

    The largest eigenvector of Bar-Itzhack's 4x4 matrix (J. Guidance 23(6), 2000) never divides by a
    small number.
    """
    r = np.asarray(rotation, dtype=np.float64)
    trace = np.trace(r, axis1=-2, axis2=-1)
    skew = [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]]
    k = np.empty((*r.shape[:-2], 4, 4))
    k[..., 0, 0] = trace
    k[..., 0, 1:] = k[..., 1:, 0] = np.stack(skew, axis=-1)
    k[..., 1:, 1:] = r + np.swapaxes(r, -1, -2) - trace[..., None, None] * np.eye(3)
    wxyz = np.linalg.eigh(k)[1][..., -1]
    return np.where(wxyz[..., :1] >= 0, wxyz, -wxyz)


def multiply_quaternions(left_wxyz: FloatArray, right_wxyz: FloatArray) -> FloatArray:
    """Hamilton product of quaternions [..., 4]: rotate by `right_wxyz` first, then by
    `left_wxyz`."""
    a, b, c, d = np.moveaxis(np.asarray(left_wxyz), -1, 0)
    w, x, y, z = np.moveaxis(np.asarray(right_wxyz), -1, 0)
    return np.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        axis=-1,
    )


def rotations_from_quaternions(quats_wxyz: FloatArray) -> FloatArray:
    """Rotation matrices [N,3,3] of quaternions [N,4], which need not be unit but must not be
    zero."""
    q = quats_wxyz / np.linalg.norm(quats_wxyz, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def sh_basis(directions: FloatArray, degree: int) -> FloatArray:
    """Real spherical harmonics [N, (degree+1)^2] at unit `directions` [N,3]:
    `gs_ssd.maths.harmonics` for numpy."""
    import torch  # only where harmonics are turned: torch takes a second to import

    from gs_ssd.maths import harmonics

    return harmonics.basis(
        torch.from_numpy(np.asarray(directions, dtype=np.float64)), degree
    ).numpy()


def sh_rotation(rotation: FloatArray, degree: int) -> FloatArray:
    """The matrix D [K,K] that turns coefficients with the object: `c' = D @ c`, for K =
    (degree+1)^2.

    A turned function is f'(d) = f(R^T d). Within a band both sides are linear in the coefficients,
    so D follows from the basis at enough directions: Y(d) D = Y(R^T d). It is exact up to rounding,
    since bands do not mix.
    """
    if degree == 0:
        return np.eye(1)
    directions = np.random.default_rng(0).normal(size=(64, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    here, there = sh_basis(directions, degree), sh_basis(directions @ rotation, degree)
    matrix = np.zeros((here.shape[1], here.shape[1]))
    for band in range(degree + 1):
        columns = slice(band * band, (band + 1) ** 2)
        matrix[columns, columns] = np.linalg.lstsq(here[:, columns], there[:, columns], rcond=None)[
            0
        ]
    return matrix
