"""How many splats a graphics card blends in each pixel: what a splat costs on a phone or a
headset."""

import dataclasses

import numpy as np

from gs_ssd.export.clean import VISIBLE
from gs_ssd.export.frames import FloatArray, rotations_from_quaternions
from gs_ssd.export.splats import Splats
from gs_ssd.export.views import cameras_around, in_unit_ball

BLUR = 0.3  #: pixels squared that rasterizers add to a shadow's covariance
NEAR = 0.2  #: framing radii; nearer splats are not drawn


@dataclasses.dataclass(frozen=True)
class Overdraw:
    """Layers are splats whose alpha reaches 1/255 in a pixel; the mean is over pixels that have
    any.

    `fill`: layers of all pixels over the pixels of the picture, the work of a frame.
    """

    mean: float
    worst: int
    fill: float


def overdraw(splats: Splats, size: int = 512) -> Overdraw:
    """Over the sixteen views of `gs_ssd.export.views`, in square pictures of `size` pixels."""
    splats = in_unit_ball(splats)
    splats = splats.take(splats.opacities > VISIBLE)
    axes = (
        rotations_from_quaternions(splats.unit_quats_wxyz.astype(np.float64))
        * splats.scales[:, None, :]
    )
    covariances = axes @ axes.transpose(0, 2, 1)
    reach = 2 * np.log(255 * splats.opacities.astype(np.float64))
    cameras = cameras_around(size)
    focal = size / (2 * cameras.tan_half_fov.numpy().astype(np.float64))
    total, covered, worst = 0, 0, 0
    for w2c, f in zip(cameras.w2c.numpy().astype(np.float64), focal, strict=True):
        layers = _layers(
            splats.means @ w2c[:3, :3].T + w2c[:3, 3], w2c[:3, :3], covariances, reach, f, size
        )
        total += int(layers.sum())
        covered += int((layers > 0).sum())
        worst = max(worst, int(layers.max(initial=0)))
    return Overdraw(total / max(covered, 1), worst, total / (len(focal) * size * size))


def _layers(
    points: FloatArray,
    rotation: FloatArray,
    covariances: FloatArray,
    reach: FloatArray,
    focal: FloatArray,
    size: int,
) -> np.ndarray:
    """Splats a pixel [size,size], for means [N,3] in camera axes (x right, y down, z forward)."""
    drawn = points[:, 2] > NEAR
    x, y, z = points[drawn].T
    jacobian = np.zeros((len(x), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 0, 2] = focal[0] / z, -focal[0] * x / z**2
    jacobian[:, 1, 1], jacobian[:, 1, 2] = focal[1] / z, -focal[1] * y / z**2
    spread = jacobian @ rotation
    shadow = spread @ covariances[drawn] @ spread.transpose(0, 2, 1)
    a, b, c = shadow[:, 0, 0] + BLUR, shadow[:, 0, 1], shadow[:, 1, 1] + BLUR
    left, right, row = _spans(
        focal[0] * x / z + size / 2, focal[1] * y / z + size / 2, a, b, c, reach[drawn], size
    )
    edges = np.zeros(size * (size + 1), dtype=np.int64)
    np.add.at(edges, row * (size + 1) + left, 1)
    np.add.at(edges, row * (size + 1) + right, -1)
    return np.cumsum(edges.reshape(size, size + 1), axis=1)[:, :-1]


def _spans(
    u: FloatArray,
    v: FloatArray,
    a: FloatArray,
    b: FloatArray,
    c: FloatArray,
    reach: FloatArray,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row by row, from which pixel up to before which one an ellipse with covariance (a b; b c)
    covers centres."""
    half = np.sqrt(reach * c)
    first = np.ceil(v - half - 0.5).clip(0, size).astype(np.int64)
    last = np.floor(v + half - 0.5).clip(-1, size - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    splat = np.repeat(np.arange(len(u)), count)
    row = np.arange(len(splat)) - np.repeat(np.cumsum(count) - count, count) + first[splat]
    down = row + 0.5 - v[splat]
    # On a row, x given y is normal with mean b y / c and variance a - b^2 / c.
    middle = u[splat] + b[splat] / c[splat] * down
    variance = np.maximum(a - b * b / c, 0)[splat]
    across = np.sqrt(variance * np.maximum(reach[splat] - down**2 / c[splat], 0))
    left = np.ceil(middle - across - 0.5).clip(0, size).astype(np.int64)
    right = (np.floor(middle + across - 0.5).clip(-1, size - 1) + 1).astype(np.int64)
    full = right > left
    return left[full], right[full], row[full]
