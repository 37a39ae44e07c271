"""Points spread over a body's outer surface, with their normals, skinning weights and regions.

An avatar's splats start on them and are bound to them, and the picture of the body's regions is
drawn with them. Where the parts of a body overlap, what lies inside another part is left out.
"""

import dataclasses
import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from gs_ssd.body.body import KEYPOINTS, Body
from gs_ssd.prior.outfit import REGIONS

OUTWARDS = 2e-3
"""World units that a point is lifted off its triangle before it is asked whether it is inside."""
WEARS = {
    "skin": ("neck", "head", "right_wrist", "left_wrist"),
    "shirt": ("spine", "chest", "right_shoulder", "right_elbow", "left_shoulder", "left_elbow"),
    "trousers": ("pelvis", "right_hip", "right_knee", "left_hip", "left_knee"),
    "shoes": ("right_ankle", "left_ankle"),
}
"""Which joints' skin wears what; hair is the part of the head above and behind the face."""


@dataclasses.dataclass(frozen=True)
class Surface:
    """M points of a body's outer surface in the rest pose."""

    points: Float[Tensor, "m 3"]
    normals: Float[Tensor, "m 3"]
    """Unit length, outwards."""
    weights: Float[Tensor, "m j"]
    """Skinning weights; rows sum to one."""
    regions: Int[Tensor, " m"]
    """Index into `REGIONS`."""
    spacing: float
    """Radius of a disc with a point's share of the area, world units."""

    def __len__(self) -> int:
        return len(self.points)

    @property
    def bones(self) -> Int[Tensor, " m"]:
        """The joint that carries most of each point."""
        return self.weights.argmax(dim=1)


def sample(body: Body, count: int, generator: torch.Generator) -> Surface:
    """About evenly spread points, drawn from `generator` (on the CPU); somewhat fewer than `count`
    are outside.
    """
    corners = body.vertices[body.faces]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = cross.norm(dim=1) / 2
    # One draw in each of `count` equal shares of the area: fewer gaps than free draws leave.
    share = (torch.arange(count) + torch.rand(count, generator=generator)) / count * area.sum()
    face = torch.searchsorted(area.cumsum(0), share).clamp_max(len(area) - 1)
    u, v = torch.rand(2, count, generator=generator)
    root = u.sqrt()
    mix = torch.stack([1 - root, root * (1 - v), root * v], dim=1)
    points = (mix.unsqueeze(-1) * corners[face]).sum(dim=1)
    normals = functional.normalize(cross[face], dim=1)
    if body.overlapping:
        outside = winding(body, points + OUTWARDS * normals) < 0.5
        points, normals, face, mix = (part[outside] for part in (points, normals, face, mix))
    weights = (mix.unsqueeze(-1) * body.weights[body.faces[face]]).sum(dim=1)
    weights = weights / weights.sum(dim=1, keepdim=True)
    radius = math.sqrt(float(area.sum()) / count / math.pi)
    return Surface(points, normals, weights, regions(body, points, weights), radius)


def winding(body: Body, points: Float[Tensor, "n 3"], chunk: int = 1024) -> Float[Tensor, " n"]:
    """How many closed parts of the body each point lies in: the winding number of its triangles.

    Only parts whose box holds the point are asked: around all others it is 0.
    """
    total = torch.zeros(len(points))
    for part in _parts(body.faces, len(body.vertices)):
        corners = body.vertices[part]
        low, high = corners.amin(dim=(0, 1)), corners.amax(dim=(0, 1))
        for rows in ((points >= low) & (points <= high)).all(dim=1).nonzero()[:, 0].split(chunk):
            total[rows] += _solid_angles(points[rows], corners) / (4 * math.pi)
    return total


def _parts(faces: Int[Tensor, "f 3"], vertices: int) -> list[Int[Tensor, "g 3"]]:
    """The faces of each connected part."""
    a, b, c = faces.numpy().T
    edges = (np.ones(2 * len(a)), (np.concatenate([a, b]), np.concatenate([b, c])))
    graph = coo_matrix(edges, shape=(vertices, vertices))
    count, label = connected_components(graph, directed=False)
    of_face = torch.from_numpy(label[a])
    return [faces[of_face == part] for part in range(count) if (of_face == part).any()]


def _solid_angles(
    points: Float[Tensor, "n 3"], corners: Float[Tensor, "f 3 3"]
) -> Float[Tensor, " n"]:
    """The sum of the triangles' signed solid angles (van Oosterom and Strackee, 1983).

    Arranged so that all products of pairs are matrix products.
    """
    a, b, c = corners.unbind(1)
    edges = [torch.linalg.cross(x, y) for x, y in ((a, b), (b, c), (c, a))]
    normal, volume = edges[0] + edges[1] + edges[2], (a * edges[1]).sum(dim=1)
    la, lb, lc = (torch.cdist(points, corner) for corner in (a, b, c))
    square = points.square().sum(dim=1, keepdim=True)
    ab, bc, ca = ((x * y).sum(1) - points @ (x + y).T + square for x, y in ((a, b), (b, c), (c, a)))
    denominator = la * lb * lc + ab * lc + bc * la + ca * lb
    return 2 * torch.atan2(volume - points @ normal.T, denominator).sum(dim=1)


def regions(
    body: Body, points: Float[Tensor, "n 3"], weights: Float[Tensor, "n j"]
) -> Int[Tensor, " n"]:
    """What is worn at each point of the rest pose, by the joint that carries it; index into
    `REGIONS`.
    """
    of_joint = {name: region for region, joints in WEARS.items() for name in joints}
    worn: list[int] = []
    for name, parent in zip(body.joint_names, body.parents, strict=True):
        own = of_joint.get(name)  # a joint that is not in the table wears what its parent does
        inherited = worn[parent] if parent >= 0 else REGIONS.index("trousers")
        worn.append(inherited if own is None else REGIONS.index(own))
    found = torch.tensor(worn)[weights.argmax(dim=1)]
    hair = _is_hair(body, points) & (weights.argmax(dim=1) == body.joint_names.index("head"))
    return torch.where(hair, REGIONS.index("hair"), found)


def _is_hair(body: Body, points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Above the forehead, or behind the ears down to the height of the nose."""
    nose, eye, ear = (
        body.keypoint_positions[KEYPOINTS.index(name)]
        for name in ("nose", "right_eye", "right_ear")
    )
    forehead = eye[2] + body.forehead * (eye[2] - nose[2])
    # The hairline falls from the forehead to the ears.
    slope = (forehead - ear[2]) / (eye[1] - ear[1])
    line = ear[2] + slope * (points[:, 1] - ear[1])
    behind = (points[:, 1] < ear[1]) & (points[:, 2] > nose[2] - 0.03)
    return ((points[:, 1] >= ear[1]) & (points[:, 2] > line)) | behind
