"""A texture for a mesh: an atlas by xatlas, and per texel the colours of the views that see it.

Extra `mesh`."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, UInt8
from numpy.typing import NDArray

from gs_ssd.errors import UserError
from gs_ssd.export.dotsplat import to_bytes

GUTTER = 4  #: texels between charts, filled with their neighbours' colours


@dataclasses.dataclass(frozen=True)
class View:
    """What one camera saw: `color` [H,W,3] in 0..1, z-`depth` [h,w] (0 where nothing is), both
    square, OpenCV axes."""

    color: NDArray[np.float32]
    depth: NDArray[np.float32]
    w2c: NDArray[np.float64]
    tan_half_fov: float


def unwrap(
    vertices: Float64[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], size: int
) -> tuple[Int[np.ndarray, " w"], Int[np.ndarray, "f 3"], Float32[np.ndarray, "w 2"]]:
    """Cut the mesh into charts and pack them: which old vertex each new one is, the new faces,
    coordinates in 0..1.

    Raises:
        UserError: xatlas is missing.
    """
    try:
        import xatlas
    except ImportError as error:
        raise UserError(f"a texture needs xatlas: pip install 'gs-ssd[mesh]' ({error})") from error
    atlas, options = xatlas.Atlas(), xatlas.PackOptions()
    options.resolution, options.padding, options.bilinear = size, GUTTER, True
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    atlas.generate(pack_options=options)
    origin, faces, uv = atlas[0]
    return origin.astype(np.int64), faces.astype(np.int64), uv.astype(np.float32)


def bake(
    vertices: Float64[np.ndarray, "w 3"],
    normals: Float64[np.ndarray, "w 3"],
    faces: Int[np.ndarray, "f 3"],
    uv: Float32[np.ndarray, "w 2"],
    views: list[View],
    *,
    size: int,
    slack: float,
) -> UInt8[np.ndarray, "s s 3"]:
    """The texture, display-referred sRGB; `size` is a power of two, v points upwards as in OBJ.

    A texel is the mean of the views that see it, weighted by the fourth power of the cosine between
    normal and ray; a view sees it if its depth there agrees to within `slack`. Texels that no view
    sees take their neighbours' colour.
    """
    rows, columns, face, weights = texels(uv[faces] * size, size)
    points = np.einsum("tk,tkc->tc", weights, vertices[faces[face]])
    normals = np.einsum("tk,tkc->tc", weights, normals[faces[face]])
    color, total = np.zeros_like(points), np.zeros(len(points))
    for view in views:
        weight, seen = _seen(view, points, normals, slack)
        color += weight[:, None] * seen
        total += weight
    known = total > 1e-6
    texture, filled = np.zeros((size, size, 3)), np.zeros((size, size), dtype=bool)
    texture[rows[known], columns[known]] = color[known] / total[known, None]
    filled[rows[known], columns[known]] = True
    return to_bytes(255 * _fill(texture, filled)[::-1])


def texels(
    triangles: Float[np.ndarray, "f 3 2"], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Texels whose middles lie in a triangle (x to the right, y up, in texels): rows, columns,
    face, barycentrics."""
    triangles = triangles.astype(np.float64)
    low = np.ceil(triangles.min(axis=1) - 0.5).astype(np.int64).clip(0, size)
    high = np.floor(triangles.max(axis=1) - 0.5).astype(np.int64).clip(-1, size - 1) + 1
    wide, tall = np.maximum(high - low, 0).T
    face = np.repeat(np.arange(len(triangles)), wide * tall)
    within = np.arange(len(face)) - np.repeat(np.cumsum(wide * tall) - wide * tall, wide * tall)
    columns, rows = low[face, 0] + within % wide[face], low[face, 1] + within // wide[face]
    a, b, c = (triangles[:, i] for i in range(3))
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    twice = x1 * y2 - x2 * y1
    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = columns + 0.5 - a[face, 0], rows + 0.5 - a[face, 1]
        second = (dx * y2[face] - x2[face] * dy) / twice[face]
        third = (x1[face] * dy - dx * y1[face]) / twice[face]
        weights = np.stack([1 - second - third, second, third], axis=1)
        inside = (weights >= -1e-9).all(axis=1)
    return rows[inside], columns[inside], face[inside], weights[inside]


def _seen(
    view: View,
    points: Float64[np.ndarray, "t 3"],
    normals: Float64[np.ndarray, "t 3"],
    slack: float,
) -> tuple[Float64[np.ndarray, " t"], Float32[np.ndarray, "t 3"]]:
    """Weight and colour of a view for every point."""
    turn, shift = view.w2c[:3, :3], view.w2c[:3, 3]
    at = points @ turn.T + shift
    place = 0.5 + 0.5 * at[:, :2] / (view.tan_half_fov * at[:, 2:])  # 0..1 across the picture
    inside = ((place >= 0) & (place < 1)).all(axis=1)

    def look(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        column, row = (place * len(picture)).astype(np.int64).clip(0, len(picture) - 1).T
        return picture[row, column]

    depth = look(view.depth)
    toward = -turn.T @ shift - points
    cosine = (normals * toward).sum(axis=1)
    cosine /= np.linalg.norm(normals, axis=1).clip(1e-12) * np.linalg.norm(toward, axis=1)
    agrees = inside & (depth > 0) & (np.abs(depth - at[:, 2]) < slack)
    return np.where(agrees, cosine.clip(0, None) ** 4, 0.0), look(view.color)


def _fill(texture: NDArray[np.float64], filled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Empty texels take the mean of what is filled near them: from the next coarser picture, where
    that has it."""
    size = len(texture)
    if size == 1 or filled.all():
        return texture
    blocks = (size // 2, 2, size // 2, 2)
    count = filled.reshape(blocks).sum(axis=(1, 3))
    total = (texture * filled[..., None]).reshape(*blocks, 3).sum(axis=(1, 3))
    coarse = _fill(total / np.maximum(count, 1)[..., None], count > 0)
    return np.where(filled[..., None], texture, coarse.repeat(2, axis=0).repeat(2, axis=1))
