"""Floor 2: what is varied from view to view so that the prior cannot be fooled: backgrounds and scales."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Probabilities of a view's background; what is left of 1 stays white."""

    background_random: float = 0.33
    """A plain colour, uniform in RGB."""
    background_black: float = 0.33
    scale_noise: float = 0.1118
    """Standard deviation of the relative noise on every scale (LucidDreamer: sqrt(0.2) / 4)."""


def backgrounds(config: AugmentConfig, num_views: int, generator: torch.Generator) -> Float[Tensor, "v 3"]:
    """One colour a view: white, black or random."""
    color = torch.rand(num_views, 3, generator=generator, device=generator.device)
    kind = torch.rand(num_views, 1, generator=generator, device=generator.device)
    color = torch.where(kind < config.background_random, color, torch.ones_like(color))
    black = (kind >= config.background_random) & (kind < config.background_random + config.background_black)
    return torch.where(black, torch.zeros_like(color), color)


def noisy_scales(
    scales: Float[Tensor, "n 3"], config: AugmentConfig, generator: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Scales times 1 + noise, not below zero; the same noise in all views, which are rendered in one call."""
    if config.scale_noise == 0:
        return scales
    noise = torch.randn(scales.shape, generator=generator, device=generator.device).to(scales)
    return (scales * (1 + config.scale_noise * noise)).clamp_min(0.0)
