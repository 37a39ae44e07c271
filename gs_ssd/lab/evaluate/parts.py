"""Are the small and thin parts there: handle, spout, beak, ears, legs, windows? And the gaps
between them?

Every named part of the true object is taken off in turn. Where that changes the picture, the part
is in sight; there the asset is asked which of the two it resembles more, the object with the part
or without it.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SEEN = 0.03
"""Least mean squared difference of a pixel with and without a part at which the part counts as seen
there."""
FEW = 12
"""Views in which a part covers fewer pixels than this say nothing of it."""
REACH = 7
"""Pixels at 128 a side across which a gap is a gap."""


def recall(
    rgb: Float[Tensor, "v 3 s s"],
    truth: Float[Tensor, "v 3 s s"],
    without: Float[Tensor, "v 3 s s"],
) -> float:
    """The share of the pixels showing a part that resemble the object with the part, not the one
    without it.

    All pictures on the same background; NaN where the part is never in sight.
    """
    seen = (truth - without).square().mean(1) > SEEN
    seen &= (seen.sum((1, 2)) >= FEW)[:, None, None]
    closer = (rgb - truth).square().mean(1) < (rgb - without).square().mean(1)
    return (closer & seen).sum().item() / seen.sum().item() if seen.any() else float("nan")


def gap_recall(alpha: Float[Tensor, "v s s"], truth: Float[Tensor, "v s s"]) -> float:
    """The share of the true object's gaps (the hole of a handle, between legs) through which one
    sees.

    A gap is what a closing of the silhouette by `REACH` pixels fills. NaN where there is none.
    """
    where = gaps(truth > 0.5)
    return (
        ((alpha <= 0.5) & where).sum().item() / where.sum().item() if where.any() else float("nan")
    )


def gaps(silhouette: Bool[Tensor, "v s s"]) -> Bool[Tensor, "v s s"]:
    """Pixels outside of a silhouette that its closing contains, without slivers."""
    size = 2 * REACH + 1
    grown = F.max_pool2d(silhouette[:, None].float(), size, 1, REACH)
    closed = 1 - F.max_pool2d(1 - grown, size, 1, REACH)
    inside = (closed > 0.5) & ~silhouette[:, None]
    core = 1 - F.max_pool2d(1 - inside.float(), 3, 1, 1)  # at least three pixels across
    return ((F.max_pool2d(core, 3, 1, 1) > 0.5) & inside)[:, 0]


def psnr(rgb: Float[Tensor, "v 3 s s"], truth: Float[Tensor, "v 3 s s"]) -> float:
    """Peak signal to noise over all views, dB, of pictures in 0..1 on one background."""
    return (-10 * (rgb - truth).square().mean().clamp(min=1e-10).log10()).item()
