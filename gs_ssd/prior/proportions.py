"""Floor 1: other proportions of one shape: a smooth warp of space with four numbers.

A sentence's volume holds one shape, the mean of its kind. The objects of a kind differ from it
mostly by their proportions, and these are four numbers here, each N(0, 1): height against width,
width against depth, taper (wider above than below) and bulge (wider at both ends than in the
middle). Zeros are the mean shape itself.

The warp is undone in closed form: heights are scaled alone, and the radius depends on the height.
"""

import dataclasses
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUMBERS = 4
SPREADS = (0.045, 0.024, 0.028, 0.038)
"""How much the objects of the world differ within a kind: standard deviations of the logarithms of
height over width, of width over depth, and of the coefficients of the radius's logarithm over
P1 and P2 of the height; root mean square over the kinds
(`gs_ssd.lab.prior_training.world_proportions`)."""
HALF_EXTENT = 0.8
"""Objects stand in a box of this half size, within a ball of radius 1: so they are set again after
the warp."""


@dataclasses.dataclass(frozen=True)
class Warp:
    """Points of the mean shape to those of another: x and y times `axes` and the radius at their
    height, z times `axes`."""

    axes: Float[Tensor, "3"]
    radius: Float[Tensor, "2"]
    """Coefficients of log radius over the first two Legendre polynomials of the height."""
    middle: Float[Tensor, ""]
    half_height: Float[Tensor, ""]
    """The heights, of the mean shape, that the polynomials are over: beyond them the radius stays
    as it is at the end."""

    def apply(self, points: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
        """From the mean shape to the other."""
        return points * self._factors(points[..., 2:])

    def undo(self, points: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
        """From the other shape back to the mean."""
        return points / self._factors(points[..., 2:] / self.axes[2])

    def cpu(self) -> "Warp":
        """The same there."""
        return Warp(self.axes.cpu(), self.radius.cpu(), self.middle.cpu(), self.half_height.cpu())

    def _factors(self, height: Float[Tensor, "... 1"]) -> Float[Tensor, "... 3"]:
        h = ((height - self.middle) / self.half_height).clamp(-1, 1)
        first, second = self.radius
        radius = (first * h + second * (1.5 * h * h - 0.5)).exp()
        return self.axes * torch.cat([radius, radius, torch.ones_like(radius)], -1)


def warp(numbers: Float[Tensor, "4"], filled: Float[Tensor, "n 3"]) -> Warp:
    """The warp of a shape that fills these points; what comes out has the size that the mean shape
    has."""
    filled = filled if len(filled) else filled.new_zeros(1, 3)
    tall, wide, taper, bulge = numbers.to(filled) * filled.new_tensor(SPREADS)
    axes = torch.stack([wide / 2 - tall / 3, -wide / 2 - tall / 3, tall * 2 / 3]).exp()
    low, high = filled[:, 2].aminmax()
    half_height = ((high - low) / 2).clamp(min=1e-3)
    loose = Warp(axes, torch.stack([taper, bulge]), (low + high) / 2, half_height)
    scale = _size(filled) / _size(loose.apply(filled))
    return dataclasses.replace(loose, axes=axes * scale)


def _size(points: Float[Tensor, "n 3"]) -> Float[Tensor, ""]:
    half = points.abs().amax(0)
    return torch.maximum(half.amax(), HALF_EXTENT * half.norm()).clamp(min=1e-6)


def filled_cells(filled: Bool[Tensor, "r r r"], half_extent: float) -> Float[Tensor, "n 3"]:
    """Centres of the filled cells (z, y, x) of a cube around the origin, as points (x, y, z)."""
    cells = filled.nonzero().flip(1) + 0.5
    return (cells / filled.shape[0] * 2 - 1) * half_extent


def of_noise(noise: Float[Tensor, "c h w"]) -> Float[Tensor, "4"]:
    """The proportions that go with a picture's first noise: N(0, 1) as it is, and a function of it
    alone.

    Its products with four orthonormal directions: the highest frequencies of a cosine transform of
    all its numbers, which say next to nothing of what the picture shows where.
    """
    flat = noise.flatten().double()
    n = flat.numel()
    place = torch.arange(n, device=flat.device, dtype=torch.float64) + 0.5
    frequency = n - 1 - torch.arange(NUMBERS, device=flat.device, dtype=torch.float64)
    cosines = math.sqrt(2 / n) * (math.pi / n * frequency[:, None] * place).cos()
    return (cosines @ flat).float()
