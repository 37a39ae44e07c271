"""The bundled prior, taught persons: told the pose by a picture of the body, the outfit by the sentence.

It is the bundled folder with a difference of low rank on its UNet (`low_rank.py`). The picture of the body's regions,
painted in the sentence's colours, stands in the input channels in which the UNet sees the volumes of other objects.
"""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, low_rank, outfit
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.pipelines import door
from gs_ssd.prior.stable_diffusion import StableDiffusionPrior
from gs_ssd.prior.volume import VolumeConfig, as_channels
from gs_ssd.prior.volume_prior import widen

SENTENCE = "a person"
"""What the UNet is told in words, whoever it is: colours and pose are in the picture."""
WEIGHTS = "difference.safetensors"


def painted(
    regions: Float[Tensor, "b r h w"], colors: Float[Tensor, "b r 3"]
) -> Float[Tensor, "b 4 h w"]:
    """Opacity, then colours times opacity, of a picture of regions in these colours."""
    return torch.cat(
        [regions.sum(dim=1, keepdim=True), torch.einsum("brhw,brc->bchw", regions, colors)], dim=1
    )
