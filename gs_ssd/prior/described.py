"""A prior as its card describes it, without weights: enough to check settings and prompts."""

import json
from pathlib import Path
from typing import Any, NoReturn

import torch

from gs_ssd.prior import BUNDLED, PriorConfig
from gs_ssd.prior.base import BodyPicture
from gs_ssd.prior.sources import check_name

CARD = "gs_ssd.json"


class DescribedPrior:
    """What can be known of a prior before it is loaded; whatever needs weights raises."""

    uses_depth = uses_cameras = False
    body_picture: BodyPicture | None = None

    def __init__(self, metadata: dict[str, Any], image_size: int) -> None:
        self.metadata, self.image_size = metadata, image_size
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def _absent(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("this prior is only described")

    alphas_cumprod = torch.empty(0)
    embed = overflow = encode = decode = predict_noise = _absent

    def release_text_encoder(self) -> None:
        """There is none."""


def describe(config: PriorConfig) -> DescribedPrior | None:
    """The prior that the settings name; None: only its weights could tell.

    Raises:
        UserError: there can be no such model.
    """
    if config.model == "analytic":
        return DescribedPrior({}, 64)
    if config.model != "bundled":
        check_name(config.model, "prior.model")
    folder = BUNDLED if config.model == "bundled" else Path(config.model).expanduser()
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # Stable Diffusion has none; a damaged one is refused as it is loaded
    if not isinstance(card, dict) or config.textual_inversion:  # those teach it new words
        return None
    return DescribedPrior(card, config.image_size or card.get("image_size", 64))
