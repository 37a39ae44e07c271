"""Points and colours from files that other programs wrote: point clouds and meshes.

A .ply of points needs plyfile alone; every other format and every mesh goes through open3d (extra
`mesh`), which is imported when it is needed. Whatever a file's axes, sizes and colours, what leaves
here is in world axes (z up, front +y), with colours as displayed (sRGB) in 0..1.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file
from gs_ssd.maths.color import srgb_from_linear
from gs_ssd.maths.conventions import FROM_WORLD, Frame
from gs_ssd.maths.stored_colors import unit_colors
from gs_ssd.scene.ply_file import PLY_ERRORS, open_ply

log = logging.getLogger(__name__)

FAR = 1e5  #: units; beyond, float32 is coarser than a hundredth

GLTF_ENDINGS = frozenset({".glb", ".gltf"})


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Triangles with a colour at each corner (0..1, as displayed); `None` where the file has no
    colours."""

    vertices: Float[Tensor, "n 3"]
    faces: Int[Tensor, "m 3"]
    colors: Float[Tensor, "m 3 3"] | None


def to_world(points: Float[Tensor, "n 3"], frame: Frame) -> Float[Tensor, "n 3"]:
    """The same points in world axes (p_world = R^T p_file, for rows)."""
    return points @ torch.from_numpy(FROM_WORLD[frame]).to(points.dtype)


def own_frame(path: Path) -> Frame:
    """The axes that a format prescribes: glTF's own, else the world's."""
    return "gltf" if path.suffix.lower() in GLTF_ENDINGS else "world"


def read_points(
    path: Path, frame: Frame | None = None
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"] | None]:
    """Points of a point cloud file and, where it has them, their colours in 0..1.

    Raises:
        UserError: no such file, unreadable, truncated, fewer than 4 points, or points that are not
            finite.
    """
    _require(path)
    points, rgb = _read_ply(path) if path.suffix.lower() == ".ply" else _read_cloud(path)
    if len(points) < 4 or not np.isfinite(points).all():
        raise UserError(
            f"initialize.file: {path} needs at least 4 points, all of them finite; it has"
            f" {len(points)}"
        )
    colors = None if rgb is None else torch.from_numpy(unit_colors(rgb))
    return to_world(torch.from_numpy(points), frame or own_frame(path)), colors


def _require(path: Path) -> None:
    try:
        require_plain_file(path)
    except UserError as error:
        raise UserError(f"initialize.file: {error}") from error


def _unreadable(path: Path, what: str, reason: object) -> UserError:
    return UserError(f"initialize.file: {path} is no readable {what} ({reason}); write it again")


def _read_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    def columns(*names: str) -> np.ndarray:
        return np.stack([vertex[name] for name in names], axis=-1)

    try:
        vertex = open_ply(path)["vertex"].data
        points = _near_the_origin(path, columns("x", "y", "z")).astype(np.float32)
        has_colors = {"red", "green", "blue"} <= set(vertex.dtype.names)
        return points, columns("red", "green", "blue") if has_colors else None
    except PLY_ERRORS as error:
        raise _unreadable(path, ".ply of points", error) from error


def _near_the_origin(path: Path, points: np.ndarray) -> np.ndarray:
    """Points at map coordinates, which 32 bits cannot tell apart, moved by whole units while they
    are doubles."""
    points = points.astype(np.float64)
    middle = np.nan_to_num(np.median(points, axis=0)) if len(points) else np.zeros(3)
    if np.abs(middle).max() < FAR:
        return points
    log.warning(
        "initialize.file: %s lies around (%.0f, %.0f, %.0f) and was moved to the origin",
        path,
        *middle,
    )
    return points - np.rint(middle)


def _read_cloud(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    cloud = _open3d().io.read_point_cloud(str(path))
    if cloud.is_empty():
        raise _unreadable(path, "point cloud", "open3d finds no points in it")
    points = np.asarray(cloud.points).astype(np.float32)
    return points, np.asarray(cloud.colors) if cloud.has_colors() else None


def _open3d() -> Any:
    """The open3d module, silent.

    Raises:
        UserError: it is not installed, or one of its system libraries is missing.
    """
    try:
        import open3d
    except (ImportError, OSError) as error:  # a missing libusb or libGL is an OSError
        raise UserError(
            f"initialize.file: meshes, and point clouds other than .ply, need open3d ({error}); "
            "pip install 'gs-ssd[mesh]' (and on a bare system libgl1, libgomp1, libusb-1.0-0)"
        ) from error
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def read_mesh(path: Path, frame: Frame | None = None) -> Mesh:
    """All triangles of a mesh file (OBJ, glTF, GLB, STL, PLY, OFF, FBX ...), with textures read
    into corner colours.

    Raises:
        UserError: no such file, unreadable, truncated, no triangles, or corners that are not
            finite.
    """
    _require(path)
    open3d = _open3d()
    in_linear_light = path.suffix.lower() in GLTF_ENDINGS
    model = open3d.io.read_triangle_model(str(path))
    parts = [
        _part(each.mesh, model.materials[each.material_idx], in_linear_light)
        for each in model.meshes
    ]
    if (
        not parts
    ):  # what open3d's model reader does not know, its mesh reader often does (.ply, some .glb)
        parts = [_part(open3d.io.read_triangle_mesh(str(path)), None, in_linear_light)]
    offsets = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts[:-1])])
    vertices = np.concatenate([vertices for vertices, _, _ in parts])
    faces = np.concatenate(
        [faces + offset for (_, faces, _), offset in zip(parts, offsets, strict=True)]
    )
    if len(faces) == 0:
        raise _unreadable(path, "mesh", "open3d finds no triangles in it")
    if not np.isfinite(vertices).all():
        raise UserError(f"initialize.file: {path} has corners that are not finite; repair it")
    colors = None
    if any(part_colors is not None for _, _, part_colors in parts):
        grey = [
            np.full((len(part), 3, 3), 0.5, np.float32) if rgb is None else rgb
            for _, part, rgb in parts
        ]
        colors = torch.from_numpy(np.concatenate(grey))
    points = to_world(torch.from_numpy(vertices), frame or own_frame(path))
    return Mesh(points, torch.from_numpy(faces), colors)


def _part(
    mesh: Any, material: Any, in_linear_light: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Vertices, faces and corner colours of one part: its texture's, else its vertices', else its
    material's."""
    vertices = np.asarray(mesh.vertices).astype(np.float32).reshape(-1, 3)
    faces = np.asarray(mesh.triangles).astype(np.int64).reshape(-1, 3)
    uvs, vertex_colors = np.asarray(mesh.triangle_uvs), np.asarray(mesh.vertex_colors)
    image = (
        None if material is None or material.albedo_img is None else np.asarray(material.albedo_img)
    )
    if image is not None and image.ndim == 3 and image.shape[2] >= 3 and len(uvs) == 3 * len(faces):
        return vertices, faces, _texels(image, uvs).reshape(-1, 3, 3)
    if (
        len(vertex_colors) == len(vertices) > 0
        and vertex_colors.min() >= 0
        and vertex_colors.max() <= 1
    ):
        return vertices, faces, _shown(vertex_colors, in_linear_light)[faces]
    if material is not None:
        base = _shown(np.asarray(material.base_color)[:3], in_linear_light)
        return vertices, faces, np.broadcast_to(base, (len(faces), 3, 3)).copy()
    return vertices, faces, None


def _shown(rgb: np.ndarray, in_linear_light: bool) -> np.ndarray:
    """Colours as displayed; glTF's factors and vertex colours are amounts of light, its textures
    are not."""
    rgb = rgb.astype(np.float32)
    return srgb_from_linear(torch.from_numpy(rgb)).numpy() if in_linear_light else rgb


def _texels(image: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Colours of the texels that hold the points `uvs` [K, 2]; v counts from the bottom, beyond
    0..1 it repeats."""
    height, width = image.shape[:2]
    inside = uvs - np.floor(uvs)
    inside = np.where(
        (inside == 0) & (uvs > 0), 1.0, inside
    )  # the far edge belongs to the picture, not to its copy
    column = np.clip((inside[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - inside[:, 1]) * height).astype(int), 0, height - 1)
    return unit_colors(image[row, column, :3])


def sample_surface(
    mesh: Mesh, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"] | None]:
    """`count` points spread evenly over the surface, with the corners' colours mixed in between.

    Raises:
        UserError: the surface has no area.
    """
    corners = mesh.vertices[mesh.faces]
    first, second, third = corners.unbind(dim=1)
    areas = torch.linalg.cross(second - first, third - first).norm(dim=-1).double()
    if not areas.sum() > 0:
        raise UserError("the initial mesh has no area: all of its triangles are degenerate")
    # torch.multinomial ends at 2^24 categories; the inverse of the cumulative area does not.
    drawn = torch.rand(count, generator=generator, dtype=torch.float64) * areas.sum()
    face = torch.searchsorted(areas.cumsum(0), drawn, right=True).clamp_max(len(areas) - 1)
    root, along = torch.rand(2, count, 1, generator=generator).unbind()
    root = root.sqrt()
    weights = torch.cat([1 - root, root * (1 - along), root * along], dim=-1).unsqueeze(-1)
    points = (weights * corners[face]).sum(dim=1)
    return points, None if mesh.colors is None else (weights * mesh.colors[face]).sum(dim=1)
