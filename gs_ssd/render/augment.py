"""What is varied from view to view so that the prior cannot be fooled: backgrounds and scales."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.bounds import Bounds, Share, settings
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError


@settings
class AugmentConfig:
    """Probabilities of a view's background; what is left of 1 stays white."""

    background_random: Share = 0.33
    """A plain colour, uniform in RGB."""
    background_black: Share = 0.33
    scale_noise: Annotated[float, Bounds(0, 10)] = 0.1118
    """Standard deviation of the relative noise on every scale (LucidDreamer: sqrt(0.2) / 4)."""

    def __post_init__(self) -> None:
        if self.background_random + self.background_black > 1 + 1e-9:
            raise UserError(
                f"augment.background_random={self.background_random:g} and"
                f" augment.background_black={self.background_black:g} are shares of the views;"
                " together they must be at most 1"
            )


def backgrounds(
    config: AugmentConfig, num_views: int, generator: torch.Generator
) -> Float[Tensor, "v 3"]:
    """One colour a view: white, black or random."""
    color = torch.rand(num_views, 3, generator=generator, device=generator.device)
    kind = torch.rand(num_views, 1, generator=generator, device=generator.device)
    color = torch.where(kind < config.background_random, color, torch.ones_like(color))
    black = (kind >= config.background_random) & (
        kind < config.background_random + config.background_black
    )
    return torch.where(black, torch.zeros_like(color), color)


def noisy_scales(
    scales: Float[Tensor, "n 3"], config: AugmentConfig, generator: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Scales times 1 + noise, not below zero; the same noise in all views, which are rendered in
    one call."""
    if config.scale_noise == 0:
        return scales
    noise = torch.randn(scales.shape, generator=generator, device=generator.device)
    noise = to_device(noise, scales.device, scales.dtype)
    return (scales * (1 + config.scale_noise * noise)).clamp_min(0.0)
