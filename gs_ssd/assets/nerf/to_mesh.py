"""A radiance field as a surface: marching cubes of the solid that pictures of it show."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_fill_holes, gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from gs_ssd.assets.nerf.carve import cameras_and_ends, depth_behind
from gs_ssd.assets.nerf.field import PLACES_AT_ONCE, Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.errors import UserError

SMOOTHING = 1.0  #: standard deviation, voxels
LEAST_SHARE = 0.02  #: parts with less of the area than this are dropped


@dataclasses.dataclass(frozen=True)
class Surface:
    """Triangles in world axes and units, counter-clockwise from outside; `normals` are of unit
    length and point outwards, `colors` are display-referred, 0..1."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"]


def extract(field: Field, occupancy: Occupancy, voxels: int) -> Surface:
    """The surface at which rays from all around lose half of their light.

    Args:
        voxels: along the box.

    Raises:
        UserError: nothing is solid, or scikit-image is missing.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise UserError(
            f"a mesh of a radiance field needs scikit-image: pip install 'gs-ssd[mesh]' ({error})"
        ) from error
    # A border of emptiness closes the surface at the box's faces.
    volume = np.pad(solidity(field, occupancy, voxels), 1, constant_values=-1)
    if not volume.max() > 0:
        raise UserError("nothing of the field is solid: there is no surface; train it longer")
    corners, faces, slopes, _ = marching_cubes(volume, 0.0)
    corners, faces, used = _without_specks((corners - 1) / voxels, faces)
    # In axes x, y, z scikit-image's triangles face inwards, its normals do not.
    place = (2 * corners - 1) * field.config.radius
    return Surface(place, faces[:, ::-1], slopes[used], _colors(field, corners))


@torch.no_grad()
def solidity(field: Field, occupancy: Occupancy, voxels: int) -> Float[np.ndarray, "n n n"]:
    """-1 (empty) to 1 (solid) by x, y, z at the corners of `voxels`^3 cubes, smoothed; the surface
    is at 0.

    Solid is what is denser than the median place where light from all around is half gone, and what
    lies behind such places.

    Raises:
        UserError: nothing stops half of the light.
    """
    cameras, ends, crossed = cameras_and_ends(field, occupancy)
    if len(crossed) == 0:
        raise UserError("nothing of the field is solid: there is no surface; train it longer")
    level, voxel = float(crossed.median()), 2 * field.config.radius / voxels
    side = torch.linspace(0, 1, voxels + 1)
    volume = torch.full((voxels + 1,) * 3, -1.0)
    for some in _near(occupancy, side).nonzero().split(PLACES_AT_ONCE):
        places = side[some].to(field.device)
        dense = field.density(places) / level - 1
        hidden = depth_behind((2 * places - 1) * field.config.radius, cameras, ends) / voxel
        volume[some.unbind(1)] = torch.maximum(dense, hidden).clamp(-1, 1).cpu()
    smooth = gaussian_filter(volume.numpy(), SMOOTHING, mode="nearest")
    smooth[binary_fill_holes(smooth > 0) & (smooth <= 0)] = 1  # nobody sees the walls of a cavity
    return smooth


def _near(occupancy: Occupancy, side: Float[Tensor, " n"]) -> Bool[Tensor, "n n n"]:
    """Which corners lie in an occupied cell or beside one."""
    near = functional.max_pool3d(occupancy.occupied.float()[None, None].cpu(), 3, 1, 1)[0, 0] > 0
    cell = (side * occupancy.cells).long().clamp(max=occupancy.cells - 1)
    return near[cell][:, cell][:, :, cell]


@torch.no_grad()
def _colors(field: Field, corners: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    places = torch.from_numpy(np.ascontiguousarray(corners.clip(0, 1), dtype=np.float32))
    some = places.to(field.device).split(PLACES_AT_ONCE)
    return torch.cat([field.color(field.features(part)) for part in some]).cpu().numpy()


def _without_specks(
    corners: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "m 3"]
) -> tuple[Float[np.ndarray, "k 3"], Int[np.ndarray, "l 3"], Int[np.ndarray, " k"]]:
    """The connected parts that have at least `LEAST_SHARE` of the area, and which corners are
    left."""
    count = len(corners)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), np.int8), edges.T), shape=(count, count))
    parts, label = connected_components(graph, directed=False)
    a, b, c = (corners[faces[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    share = np.bincount(label[faces[:, 0]], areas, minlength=parts) / areas.sum()
    kept = faces[share[label[faces[:, 0]]] >= LEAST_SHARE]
    used, numbers = np.unique(kept, return_inverse=True)
    return corners[used], numbers.reshape(-1, 3), used
