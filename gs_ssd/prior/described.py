"""A prior as its card describes it, without weights: enough to check settings and prompts."""

import functools
from pathlib import Path
from typing import Any, NoReturn

import torch

from gs_ssd import json_text
from gs_ssd.prior import BUNDLED, PERSON, PriorConfig
from gs_ssd.prior.base import BodyPicture
from gs_ssd.prior.card import check_card
from gs_ssd.prior.sources import check_name

CARD = "gs_ssd.json"
OURS = {"bundled": BUNDLED, "person": PERSON}


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
        UserError: there can be no such model, or its card says what cannot be.
    """
    if config.model == "analytic":
        return DescribedPrior({}, 64)
    if config.model not in OURS:
        check_name(config.model, "prior.model")
    card = card_of(config.model)
    if (
        not card or config.textual_inversion
    ):  # Stable Diffusion has none; learned words are not in it
        return None
    check_card(card, Path(config.model) / CARD)
    return DescribedPrior(card, config.image_size or card.get("image_size") or 64)


@functools.lru_cache(maxsize=32)
def card_of(model: str) -> dict[str, Any]:
    """The card of a model of ours in a folder; empty for any other, and for a damaged one, which
    is refused as it is loaded."""
    path = (OURS.get(model) or Path(model).expanduser()) / CARD
    try:
        card = json_text.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}
