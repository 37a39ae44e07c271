"""How well pictures match their sentence, by a CLIP model: for prompts that no judge knows."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gs_ssd.errors import UserError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipScore:
    """100 x cosine between the embeddings of picture and sentence (Hessel et al. 2021, without
    their factor 2.5).

    Scores of different models cannot be compared: name the model with every number.

    Args:
        model: a CLIP model's folder or hub id, e.g. openai/clip-vit-base-patch32.

    Raises:
        UserError: transformers is missing, or the model cannot be fetched or read.
    """

    def __init__(self, model: str, device: torch.device | str = "cpu") -> None:
        try:
            from transformers import AutoTokenizer, CLIPModel

            from gs_ssd.prior.pipelines import door, fetched
        except ImportError as error:
            raise UserError(f"--clip {model} needs transformers: {error}") from error
        with door(f"--clip {model}"):
            self.net: Any = fetched(CLIPModel, model, False).eval().requires_grad_(False)
            self.tokenizer: Any = fetched(AutoTokenizer, model, False)
        self.net.to(device)
        self.name, self.size = model, self.net.config.vision_config.image_size

    @torch.no_grad()
    def __call__(self, rgb: Float[Tensor, "v 3 h w"], prompt: str) -> Float[Tensor, " v"]:
        """One score a picture (0..1)."""
        device = self.net.device
        pictures = F.interpolate(
            rgb.to(device), (self.size, self.size), mode="bicubic", antialias=True
        ).clamp(0, 1)
        mean, std = (pictures.new_tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
        length = self.net.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            [prompt], truncation=True, max_length=length, return_tensors="pt"
        ).to(device)
        output = self.net(pixel_values=(pictures - mean) / std, **tokens)
        return (
            100
            * (
                F.normalize(output.image_embeds, dim=1) @ F.normalize(output.text_embeds, dim=1)[0]
            ).cpu()
        )
