"""Rotations, quaternions (w, x, y, z), look-at matrices and covariances of Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def quat_to_matrix(quats_wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions of any non-zero length; q and -q give the same matrix."""
    w, x, y, z = functional.normalize(quats_wxyz, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quat_multiply(
    left_wxyz: Float[Tensor, "*batch 4"], right_wxyz: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """The rotation `right_wxyz` followed by `left_wxyz` (Hamilton's product)."""
    a, b, c, d = left_wxyz.unbind(-1)
    w, x, y, z = right_wxyz.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        dim=-1,
    )


def quat_about(
    axis: Float[Tensor, "*batch 3"], angle_rad: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions that turn by `angle_rad` about unit `axis`, right-handed."""
    half = (angle_rad / 2).unsqueeze(-1)
    return torch.cat([half.cos(), half.sin() * axis], dim=-1)


def quat_between(source: Float[Tensor, "3"], target: Float[Tensor, "3"]) -> Float[Tensor, "4"]:
    """The shortest turn from the direction of `source` to that of `target`; any of them where they
    are opposite."""
    a, b = functional.normalize(source, dim=0), functional.normalize(target, dim=0)
    cosine = float(a @ b)
    if cosine < -1 + 1e-6:
        other = torch.linalg.cross(a, torch.eye(3)[int(a.abs().argmin())])
        return torch.cat([torch.zeros(1), functional.normalize(other, dim=0)])
    return functional.normalize(
        torch.cat([torch.tensor([1 + cosine]), torch.linalg.cross(a, b)]), dim=0
    )


def look_at(
    eye: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], up: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """World-to-camera matrices (OpenCV: x right, y down, z forward) of cameras at `eye` looking at
    `target`.

    `up` need not be orthogonal to the line of sight, nor of unit length. Straight above or below
    the target, where `up` says nothing, the image's upper edge points to -y (world), i.e. the front
    (+y) lies at the bottom.
    """
    forward = functional.normalize(target - eye, dim=-1)
    right = torch.linalg.cross(forward, up)
    front = torch.tensor([0.0, -1.0, 0.0], dtype=eye.dtype, device=eye.device).expand_as(up)
    fallback = torch.linalg.cross(forward, front)
    right = functional.normalize(
        torch.where(right.norm(dim=-1, keepdim=True) < 1e-6, fallback, right), dim=-1
    )
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)
    w2c = torch.zeros(*eye.shape[:-1], 4, 4, dtype=eye.dtype, device=eye.device)
    w2c[..., :3, :3] = rotation
    w2c[..., :3, 3] = -(rotation @ eye.unsqueeze(-1)).squeeze(-1)
    w2c[..., 3, 3] = 1.0
    return w2c


def covariance(
    scales: Float[Tensor, "*batch 3"], quats_wxyz: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch 3 3"]:
    """World covariance R diag(s)^2 R^T of Gaussians with standard deviations `scales` (linear)
    along their axes."""
    half = quat_to_matrix(quats_wxyz) * scales.unsqueeze(-2)
    return half @ half.transpose(-1, -2)
