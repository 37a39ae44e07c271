"""Colours as displayed against amounts of light."""

import torch
from jaxtyping import Float
from torch import Tensor


def srgb_from_linear(light: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Colours as displayed (sRGB, 0..1) from amounts of light, clipped to 0..1 (IEC 61966-2-1)."""
    light = light.clamp(0.0, 1.0)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
