"""Perp-Neg (Armandpour et al. 2023, arXiv 2304.04968) with LucidDreamer's view weights.

With Delta_k = eps(x_t, t, y_k) - eps_uncond, the complementary view prompts y_k (k >= 1) push away
from their view only in directions perpendicular to the main prompt's own Delta_0:

    h = Delta_0 + sum_k w_k (Delta_k - <Delta_k, Delta_0> / ||Delta_0||^2 Delta_0),   w_k <= 0

so <h, Delta_0> = ||Delta_0||^2 and ||h|| >= ||Delta_0||, per sample. A term with |w_k| <= 1e-4
counts as zero.
"""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.bounds import Bounds, NonNegative, settings

NEGLIGIBLE = 1e-4


@settings
class ViewWeights:
    """The three numbers of LucidDreamer's weight law (its `negative_w`, `front_decay_factor`,
    `side_decay_factor`)."""

    strength: Annotated[float, Bounds(-1000, 0)] = -2.0
    front_decay: NonNegative = 2.0
    side_decay: NonNegative = 10.0


RECIPE = ViewWeights()


def view_weights(azimuth_rad: float, law: ViewWeights = RECIPE) -> tuple[float, float]:
    """The weights (of the front prompt, of the side prompt) for a camera at this azimuth, 0 meaning
    the front.

    Seen from the front half (|azimuth| < 90 degrees, r = 1 - |azimuth| / 90), the front prompt is
    avoided less the more frontal the view is; in the back half the front prompt is avoided with
    full strength.
    """
    turned = abs(math.remainder(azimuth_rad, 2 * math.pi)) / (math.pi / 2)
    if turned < 1:
        r = 1 - turned
        front = 0.0 if r > 0.8 else law.strength * math.exp(-law.front_decay * r)
        side = 0.0 if r < 0.2 else law.strength * math.exp(-law.side_decay * (1 - r))
    else:
        r = 2 - turned
        front = law.strength
        side = 0.0 if r > 0.8 else law.strength / 2 * math.exp(-law.side_decay * r)
    return (0.0 if abs(front) <= NEGLIGIBLE else front), (0.0 if abs(side) <= NEGLIGIBLE else side)


def combine(
    delta: Float[Tensor, "b c h w"],
    negatives: Float[Tensor, "k b c h w"],
    weights: Float[Tensor, "k b"],
) -> Float[Tensor, "b c h w"]:
    """h from the main Delta_0, the complementary Delta_k and their weights (a weight of zero drops
    the term)."""
    square = (delta.float() ** 2).sum(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
    along = (negatives.float() * delta.float()).sum(dim=(2, 3, 4), keepdim=True) / square
    perpendicular = negatives - along.to(delta.dtype) * delta
    return delta + torch.einsum("kb,kbchw->bchw", weights.to(delta), perpendicular)
