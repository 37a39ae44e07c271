"""Which keypoints a camera sees: projection, and occlusion culling by the body's own surface.

DreamWaltz leaves out of the skeleton picture what the body hides, so that a back view has no face.
A keypoint lies on the skin (nose, eyes, ears) or inside a limb; it is hidden where another part of
the body is met before the keypoint, or before the skin of its own limb.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gs_ssd.body.body import Body, Transforms
from gs_ssd.body.skinning import skin_points
from gs_ssd.scene.camera import Cameras


def project(
    points: Float[Tensor, "n 3"], cameras: Cameras
) -> tuple[Float[Tensor, "v n 2"], Float[Tensor, "v n"]]:
    """Pixel coordinates (x right, y down, the picture's corner at 0) and depth along the view axis
    of each point."""
    seen = points @ cameras.w2c[:, :3, :3].transpose(1, 2) + cameras.w2c[:, None, :3, 3]
    depth = seen[..., 2]
    plane = seen[..., :2] / depth.clamp_min(1e-6).unsqueeze(-1) / cameras.tan_half_fov[:, None]
    size = torch.tensor([cameras.width, cameras.height], dtype=points.dtype, device=points.device)
    return (plane + 1) / 2 * size, depth


def visible(body: Body, transforms: Transforms, cameras: Cameras) -> Bool[Tensor, "v 18"]:
    """Whether each keypoint is in front of the camera and not hidden by the body.

    Pixels outside count as seen."""
    corners = skin_points(body.vertices, body.weights, transforms)[body.faces]
    points = body.keypoints(transforms)
    own = _own_faces(body)
    ahead = points @ cameras.w2c[:, 2, :3].T + cameras.w2c[:, 2, 3] > 0
    seen = []
    for eye in cameras.positions:
        ray = points - eye
        distance = ray.norm(dim=1)
        met = _hits(eye, ray / distance.unsqueeze(1), corners)
        limb = torch.where(own, met, torch.inf).amin(dim=1)
        # Inside its limb, a keypoint is seen where the limb's own skin is; on the head, where it
        # lies itself.
        seen.append(met.amin(dim=1) >= torch.minimum(limb, distance) - body.keypoint_tolerance)
    return torch.stack(seen) & ahead.T


def _own_faces(body: Body) -> Bool[Tensor, "18 f"]:
    """The faces that may lie in front of each keypoint: its own joint's; none for the keypoints of
    the head."""
    head = body.joint_names.index("head")
    carried = (body.weights[:, list(body.keypoint_joints)] > 0.25)[body.faces].any(dim=1).T
    return carried & (torch.tensor(body.keypoint_joints) != head).unsqueeze(1)


def _hits(
    eye: Float[Tensor, "3"], directions: Float[Tensor, "n 3"], corners: Float[Tensor, "f 3 3"]
) -> Float[Tensor, "n f"]:
    """Distance along each ray to each triangle, infinite where it is missed (after Moller and
    Trumbore, 1997).

    Written as products of matrices: with one eye for all rays, every term is linear in the
    direction.
    """
    a, b, c = corners.unbind(1)
    edge, other, start = b - a, c - a, eye - a
    normal, q = torch.linalg.cross(other, edge), torch.linalg.cross(start, edge)
    determinant = directions @ normal.T
    inverse = torch.where(determinant.abs() > 1e-12, 1 / determinant, 0.0)
    u = directions @ torch.linalg.cross(other, start).T * inverse
    v = directions @ q.T * inverse
    t = (other * q).sum(-1) * inverse
    hit = (inverse != 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6)
    return torch.where(hit, t, torch.inf)


def facing_azimuth(transforms: Transforms, root: Int[Tensor, ""] | int = 0) -> Float[Tensor, ""]:
    """The azimuth (radians, 0 at +y, a quarter turn at +x) that the body's front faces: view
    prompts follow it."""
    front = transforms.rotation[root] @ torch.tensor([0.0, 1.0, 0.0])
    return torch.atan2(front[0], front[1])
