"""Linear blend skinning of points and of Gaussians: means, orientations and spherical harmonics.

Everything is written as the rest value plus a difference that is exactly zero for the identity
pose, so the rest pose comes back bit for bit.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gs_ssd.body.body import Transforms
from gs_ssd.maths import harmonics, rotation
from gs_ssd.scene.gaussians import Gaussians


def skin_points(
    points: Float[Tensor, "n 3"], weights: Float[Tensor, "n j"], transforms: Transforms
) -> Float[Tensor, "n 3"]:
    """Points of the rest pose where the pose takes them: sum_j w_j (R_j (x - rest_j) + position_j).

    Args:
        weights: rows that sum to one.
    """
    turn = transforms.rotation - torch.eye(3, device=points.device)
    about_origin = (turn @ transforms.rest_position.unsqueeze(-1)).squeeze(-1)
    shift = (transforms.position - transforms.rest_position) - about_origin
    blended = (weights @ turn.reshape(len(turn), 9)).reshape(-1, 3, 3)
    return points + ((blended @ points.unsqueeze(-1)).squeeze(-1) + weights @ shift)


def blend_rotations(weights: Float[Tensor, "n j"], transforms: Transforms) -> Float[Tensor, "n 4"]:
    """Unit quaternions of every point: the joints' own, averaged on the hemisphere of the point's
    heaviest joint."""
    quats = transforms.quats_wxyz
    heaviest = quats[weights.argmax(dim=1)]
    same_side = heaviest @ quats.T >= 0  # q and -q are one rotation; averaging them would cancel
    return functional.normalize(torch.where(same_side, weights, -weights) @ quats, dim=1)


def skin_gaussians(
    gaussians: Gaussians, weights: Float[Tensor, "n j"], transforms: Transforms
) -> Gaussians:
    """The splat in another pose. Scales and opacities stay: a joint moves its splats rigidly.

    Args:
        weights: `[N, J]`, rows that sum to one.
    """
    turn = blend_rotations(weights, transforms)
    return dataclasses.replace(
        gaussians,
        means=skin_points(gaussians.means, weights, transforms),
        quats_wxyz=rotation.quat_multiply(turn, gaussians.quats_wxyz),
        sh_rest=_turn_harmonics(gaussians.sh_rest, turn, gaussians.sh_degree),
    )


def _turn_harmonics(
    sh_rest: Float[Tensor, "n k 3"], quats_wxyz: Float[Tensor, "n 4"], degree: int
) -> Float[Tensor, "n k 3"]:
    """Coefficients whose colours turn with the splat: c'(d) = c(R^T d), solved on fixed directions
    (exact per band)."""
    if degree == 0:
        return sh_rest
    directions = _directions(sh_rest)
    seen = torch.einsum("nji,dj->ndi", rotation.quat_to_matrix(quats_wxyz), directions)
    plain = harmonics.basis(directions, degree)[:, 1:]
    change = harmonics.basis(seen, degree)[..., 1:] - plain
    return sh_rest + torch.linalg.pinv(plain) @ (change @ sh_rest)


def _directions(like: Tensor) -> Float[Tensor, "d 3"]:
    """Well spread unit vectors (a Fibonacci spiral), more than the 15 bases need."""
    index = torch.arange(32, dtype=like.dtype, device=like.device) + 0.5
    z, angle = 1 - index / 16, index * 2.399963229728653
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1)
