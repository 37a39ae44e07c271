"""A radiance field as a surface: marching cubes of its density."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import binary_fill_holes
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from gs_ssd.assets.nerf.config import ConversionConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import render
from gs_ssd.assets.nerf.to_splats import crossings, look_on
from gs_ssd.errors import UserError

CHUNK = 1 << 17  #: places at a time
LEAST_SHARE = 0.02  #: parts with less of the area than this are dropped


@dataclasses.dataclass(frozen=True)
class Surface:
    """Triangles in world axes and units, counter-clockwise from outside; `normals` are of unit
    length and point outwards, `colors` are display-referred, 0..1."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"]


def extract(field: Field, occupancy: Occupancy, config: ConversionConfig, voxels: int) -> Surface:
    """The surface where the density is that at which rays from all around lose half of their light.

    Args:
        voxels: along the box.

    Raises:
        UserError: nothing is solid from anywhere, or scikit-image is missing.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise UserError(
            f"a mesh of a radiance field needs scikit-image: pip install 'gs-ssd[mesh]' ({error})"
        ) from error
    level = level_of(field, occupancy, config)
    # A border of zeros closes the surface at the box's faces.
    volume = np.pad(densities(field, occupancy, voxels), 1)
    if not volume.max() > level:
        raise UserError("nothing of the field is solid: there is no surface; train it longer")
    solid = volume > level
    volume[binary_fill_holes(solid) & ~solid] = 2 * level  # nobody sees the walls of a cavity
    corners, faces, _, _ = marching_cubes(volume, level)
    corners, faces = _without_crumbs((corners - 1) / voxels, faces)
    places = torch.from_numpy(np.ascontiguousarray(corners.clip(0, 1), dtype=np.float32))
    normals, colors = _shade(field, places.to(field.device))
    # From descending density, scikit-image's triangles face inwards in axes x, y, z.
    inwards = _volume(corners, faces) < 0
    return Surface(
        (2 * corners - 1) * field.config.radius,
        faces[:, ::-1] if inwards else faces,
        normals,
        colors,
    )


@torch.no_grad()
def level_of(field: Field, occupancy: Occupancy, config: ConversionConfig) -> float:
    """The median density where rays from all around have lost half of their light.

    Raises:
        UserError: none does.
    """
    cameras = look_on(field, config).to(field.device)
    black = torch.zeros(1, 3, device=field.device)
    found = []
    for view in range(len(cameras)):
        seen = render(field, occupancy, cameras[view : view + 1], black)
        found.append(seen.density[crossings(seen)])
    crossed = torch.cat(found)
    if len(crossed) == 0:
        raise UserError("nothing of the field is solid: there is no surface; train it longer")
    return float(crossed.median())


@torch.no_grad()
def densities(field: Field, occupancy: Occupancy, voxels: int) -> Float[np.ndarray, "n n n"]:
    """By x, y, z at the corners of `voxels`^3 cubes; 0 where no cell nearby is occupied."""
    side = torch.linspace(0, 1, voxels + 1)
    # A corner is looked at if its cell or one beside it is occupied.
    near = functional.max_pool3d(occupancy.occupied.float()[None, None].cpu(), 3, 1, 1)[0, 0] > 0
    cell = (side * occupancy.cells).long().clamp(max=occupancy.cells - 1)
    chosen = near[cell][:, cell][:, :, cell].nonzero()
    volume = torch.zeros((voxels + 1,) * 3)
    for some in chosen.split(CHUNK):
        volume[some.unbind(1)] = field.density(side[some].to(field.device)).cpu()
    return volume.numpy()


def _shade(
    field: Field, places: Float[Tensor, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Outward normals, and colours."""
    normals, colors = [], []
    for some in places.split(CHUNK):
        some = some.clone().requires_grad_()
        features = field.features(some)
        (slope,) = torch.autograd.grad(field.density(some, features).sum(), some)
        normals.append(-functional.normalize(slope, dim=1))
        with torch.no_grad():
            colors.append(field.color(features))
    return torch.cat(normals).cpu().numpy(), torch.cat(colors).cpu().numpy()


def _without_crumbs(
    corners: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "m 3"]
) -> tuple[Float[np.ndarray, "k 3"], Int[np.ndarray, "l 3"]]:
    """The connected parts that have at least `LEAST_SHARE` of the area."""
    count = len(corners)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), np.int8), edges.T), shape=(count, count))
    parts, label = connected_components(graph, directed=False)
    a, b, c = (corners[faces[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    share = np.bincount(label[faces[:, 0]], areas, minlength=parts) / areas.sum()
    kept = faces[share[label[faces[:, 0]]] >= LEAST_SHARE]
    used, numbers = np.unique(kept, return_inverse=True)
    return corners[used], numbers.reshape(-1, 3)


def _volume(corners: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "m 3"]) -> float:
    """Signed, positive where faces are counter-clockwise from outside."""
    a, b, c = (corners[faces[:, k]].astype(np.float64) for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)
