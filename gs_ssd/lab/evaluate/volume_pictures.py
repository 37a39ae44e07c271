"""Pictures of volumes from a suite's cameras: are the small parts there before any optimization?"""

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.lab import world
from gs_ssd.lab.evaluate.measure import COARSE, Pictures
from gs_ssd.lab.evaluate.suite import Turntable
from gs_ssd.lab.world.occupancy import occupancy, surface_colors
from gs_ssd.prior.volume import VolumeConfig, look

SAMPLES = 96
CERTAIN = 1e-4
"""Least and (from 1) most occupancy or colour of a true volume's logits."""


@torch.no_grad()
def volume_pictures(
    logits: Float[Tensor, "4 r r r"], half_extent: float, turntable: Turntable
) -> Pictures:
    """A volume on white from the turntable's cameras, at the size at which parts are looked for."""
    config = VolumeConfig(
        resolution=logits.shape[-1], half_extent=half_extent, map_size=COARSE, samples=SAMPLES
    )
    cameras = turntable.cameras(COARSE)
    pictures = [
        look(logits[None], some.w2c[None], some.tan_half_fov[None], config)[0]
        for some in (cameras[start : start + 4] for start in range(0, turntable.views, 4))
    ]
    alpha, color = torch.cat(pictures).split((1, 3), dim=1)
    return Pictures(color + 1 - alpha, alpha[:, 0])


def true_volume(
    kind: str, color: str, resolution: int, half_extent: float
) -> Float[Tensor, "4 r r r"]:
    """What a volume of that many cells a side can know of the true object."""
    filled = occupancy(world.sculpt(kind, color), resolution, half_extent)
    rgb, _ = surface_colors(kind, color, resolution, half_extent)
    return torch.cat([filled[None], rgb]).clamp(CERTAIN, 1 - CERTAIN).logit()
