"""Real spherical harmonics up to degree 3, with the signs of 3D Gaussian splatting.

Order within a band is m = -l..l with the Condon-Shortley phase, so band 1 is (-y, z, -x). A colour
is `sum_k sh[k] * basis[k](direction) + 0.5`, clamped at zero, where the direction runs from the
camera to the Gaussian.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.maths.conventions import SH_C0 as C0

MAX_DEGREE = 3
_C1 = math.sqrt(3.0 / (4.0 * math.pi))
_C2 = (
    0.5 * math.sqrt(15.0 / math.pi),
    0.25 * math.sqrt(5.0 / math.pi),
    0.25 * math.sqrt(15.0 / math.pi),
)
_C3 = (
    0.25 * math.sqrt(35.0 / (2.0 * math.pi)),
    0.5 * math.sqrt(105.0 / math.pi),
    0.25 * math.sqrt(21.0 / (2.0 * math.pi)),
    0.25 * math.sqrt(7.0 / math.pi),
    0.25 * math.sqrt(105.0 / math.pi),
)


def num_bases(degree: int) -> int:
    """K, the number of bases of all bands up to `degree` (0..3)."""
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree must be 0..{MAX_DEGREE}, got {degree}")
    return (degree + 1) ** 2


def basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch k"]:
    """Values of the K = (degree + 1)^2 bases at unit directions."""
    num_bases(degree)
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    xx, yy, zz = x * x, y * y, z * z
    if degree >= 2:
        values += [
            _C2[0] * x * y,
            -_C2[0] * y * z,
            _C2[1] * (2 * zz - xx - yy),
            -_C2[0] * x * z,
            _C2[2] * (xx - yy),
        ]
    if degree >= 3:
        values += [
            -_C3[0] * y * (3 * xx - yy),
            _C3[1] * x * y * z,
            -_C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3[2] * x * (4 * zz - xx - yy),
            _C3[4] * z * (xx - yy),
            -_C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(values, dim=-1)


def evaluate(
    sh: Float[Tensor, "*batch k 3"], directions: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """Colours >= 0 (display-referred, nominally 0..1) seen along unit directions from the camera to
    the Gaussian."""
    degree = math.isqrt(sh.shape[-2]) - 1
    if num_bases(degree) != sh.shape[-2]:
        raise ValueError(f"sh has {sh.shape[-2]} bases; it must be one of 1, 4, 9, 16")
    return ((basis(directions, degree).unsqueeze(-1) * sh).sum(dim=-2) + 0.5).clamp_min(0.0)


def rgb_to_dc(rgb: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The degree-0 coefficient that shows `rgb` (0..1) from everywhere."""
    return (rgb - 0.5) / C0


def dc_to_rgb(dc: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Colour of a degree-0 coefficient, not clamped."""
    return dc * C0 + 0.5
