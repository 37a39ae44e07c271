"""MVDream behind `base.DiffusionPrior`: four views of one object are predicted together.

Rows come in groups of four: azimuths a quarter turn apart, one elevation, distance, field of view
and timestep. A row without a camera is a single picture.
"""

from typing import Any

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.multiview_unet import camera_numbers
from gs_ssd.prior.stable_diffusion import StableDiffusionPrior

VIEWS = 4
OWN: dict[str, Any] = {
    # MVDream was trained on elevations of 0 to 30 degrees and objects that fill the picture.
    "camera": {"radius": [3.5, 4.0], "fov_y_deg": [25.0, 35.0], "elevation_deg": [0.0, 30.0]},
    "negative": (
        "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and"
        " unclear, cropped, lowres, low quality, artifacts, duplicate, morbid, mutilated, poorly"
        " drawn face, deformed, dehydrated, bad proportions"
    ),
}
"""What the model does not say of itself; the negative prompt is that of MVDream's own
optimization (threestudio's mvdream-sd21 configs)."""


class MultiViewPrior(StableDiffusionPrior):
    """A Stable Diffusion pipeline whose UNet is a `MultiViewUNet`; arguments as for
    `StableDiffusionPrior`.

    Raises:
        UserError: settings that would undo the joint attention, or that know no group of views.
    """

    views_per_group = VIEWS

    def __init__(
        self,
        pipe: Any,
        config: PriorConfig,
        device: torch.device,
        dtype: torch.dtype,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if config.attention_slicing:
            raise UserError(
                "prior.attention_slicing replaces the attention across views that"
                f" prior.model={config.model} consists of; leave it out"
            )
        if config.controlnet:
            raise UserError(
                f"prior.controlnet={config.controlnet} does not go with prior.model={config.model},"
                " which predicts several views together; leave one of them out"
            )
        super().__init__(pipe, config, device, dtype, OWN | (metadata or {}))
        self.uses_cameras = True

    def unet_arguments(self, condition: Condition) -> tuple[Tensor, dict[str, Any]]:
        """Text, and beside it the cameras, by which the rows become groups.

        Raises:
            ValueError: the rows are no whole groups.
        """
        text, added = super().unet_arguments(condition)
        if condition.cameras is None:
            return text, added
        if len(condition) % VIEWS:
            raise ValueError(f"{len(condition)} views are no groups of {VIEWS}")
        added |= {
            "class_labels": camera_numbers(condition.cameras).to(self.dtype),
            "cross_attention_kwargs": {"views": VIEWS},
        }
        return text, added
