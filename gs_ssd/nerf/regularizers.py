"""What the paper adds to the guidance of a radiance field; pure functions of what was rendered."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gs_ssd.nerf.renderer import Pictures


def orientation(pictures: Pictures) -> Float[Tensor, ""]:
    """sum w max(n . d, 0)^2 over the rays that hit something (DreamFusion, Ref-NeRF): no normal may face away.

    n is -grad sigma, normalised, with its own graph: second order through the grid. The weights w are held.
    """
    if len(pictures.places) == 0:
        return pictures.rgb.sum() * 0
    (slope,) = torch.autograd.grad(pictures.density.sum(), pictures.places, create_graph=True)
    normals = -functional.normalize(slope, dim=1)
    facing_away = (normals * pictures.directions[pictures.ray]).sum(dim=1).clamp_min(0)
    hit = (pictures.alpha.detach() > 0).sum().clamp_min(1)
    return (pictures.weights.detach() * facing_away.square()).sum() / hit


def sparsity(alpha: Float[Tensor, "v 1 height width"]) -> Float[Tensor, ""]:
    """mean sqrt(o^2 + .01): the least where nothing is (threestudio)."""
    return (alpha.square() + 0.01).sqrt().mean()


def opaque(alpha: Float[Tensor, "v 1 height width"]) -> Float[Tensor, ""]:
    """Entropy of opacity clamped to .001 .. .999: 0 where pixels are empty or solid (threestudio)."""
    held = alpha.clamp(1e-3, 1 - 1e-3)
    return functional.binary_cross_entropy(held, held)
