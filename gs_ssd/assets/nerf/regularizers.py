"""The orientation loss of a radiance field: a pure function of what was rendered."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gs_ssd.assets.nerf.renderer import NerfRenderOutput


def orientation(pictures: NerfRenderOutput) -> Float[Tensor, ""]:
    """sum w max(n . d, 0)^2 over the rays that hit something (DreamFusion, Ref-NeRF): no normal may
    face away.

    n is -grad sigma, normalised, with its own graph: second order through the grid. The weights w
    are held.
    """
    seen = pictures.traced
    if len(seen.places) == 0:
        return pictures.rgb.sum() * 0
    (slope,) = torch.autograd.grad(seen.density.sum(), seen.places, create_graph=True)
    normals = -functional.normalize(slope, dim=1)
    facing_away = (normals * pictures.directions[seen.ray]).sum(dim=1).clamp_min(0)
    hit = (seen.opacity.detach() > 0).sum().clamp_min(1)
    return (seen.weights.detach() * facing_away.square()).sum() / hit
