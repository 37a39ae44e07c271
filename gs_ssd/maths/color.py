"""Colours as displayed against amounts of light, and as 8-bit numbers."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def srgb_from_linear(light: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Colours as displayed (sRGB, 0..1) from amounts of light, clipped to 0..1 (IEC 61966-2-1)."""
    light = light.clamp(0.0, 1.0)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def quantize(values: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """0..1 as the nearest of 0..255; what lies outside is clipped."""
    return (values.detach().float().clamp(0, 1) * 255).round().byte()


def to_uint8(rgb: Float[Tensor, "v 3 h w"]) -> UInt8[np.ndarray, "v h w 3"]:
    """Pictures in 0..1 as 8-bit arrays, colours last."""
    return quantize(rgb).permute(0, 2, 3, 1).cpu().numpy()
