"""SDXL behind the same door.

Its UNet hears two text encoders (their penultimate hidden states side by side), the second one's
pooled embedding, and the picture's size. So that embeddings stay one tensor that can be mixed
linearly, the pooled embedding travels as one more token, padded with zeros.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from gs_ssd.prior import PriorConfig
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.stable_diffusion import StableDiffusionPrior, freeze


class StableDiffusionXLPrior(StableDiffusionPrior):
    """A StableDiffusionXLPipeline as a `DiffusionPrior`; arguments as for
    `StableDiffusionPrior`."""

    def __init__(
        self,
        pipe: Any,
        config: PriorConfig,
        device: torch.device,
        dtype: torch.dtype,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if dtype == torch.float16 and config.vae_dtype is None and config.tiny_vae is None:
            config = replace(
                config, vae_dtype="float32"
            )  # SDXL's own VAE overflows in half precision
        super().__init__(pipe, config, device, dtype, metadata)
        self.tokenizer_2 = pipe.tokenizer_2
        self.text_encoder_2 = freeze(pipe.text_encoder_2, device, dtype)
        self.null_is_zero = bool(pipe.config.force_zeros_for_empty_prompt)
        self.pooled_size = pipe.text_encoder_2.config.projection_dim

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> Float[Tensor, "p l d"]:
        """Tokens of both encoders, then the pooled embedding; the null prompt is zero in models
        trained so."""
        if self.text_encoder is None:
            raise RuntimeError(
                "the text encoders were released; embed every prompt before release_text_encoder()"
            )
        hidden = []
        for tokenizer, encoder in (
            (self.tokenizer, self.text_encoder),
            (self.tokenizer_2, self.text_encoder_2),
        ):
            ids = tokenizer(
                prompts,
                padding="max_length",
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).input_ids
            output = encoder(ids.to(self.device), output_hidden_states=True)
            hidden.append(output.hidden_states[-2].float())
        tokens, pooled = torch.cat(hidden, dim=-1), output.text_embeds.float()
        embeddings = torch.cat(
            [tokens, pad(pooled, (0, tokens.shape[-1] - self.pooled_size))[:, None]], dim=1
        )
        if self.null_is_zero:
            embeddings[[not prompt for prompt in prompts]] = 0
        return embeddings

    def release_text_encoder(self) -> None:
        """Free both text encoders."""
        self.text_encoder_2 = None
        super().release_text_encoder()

    def unet_arguments(self, condition: Condition) -> tuple[Tensor, dict[str, Any]]:
        """The tokens; beside them the pooled embedding and "a whole picture of this size, not
        cropped"."""
        embeddings, size = condition.text, [self.image_size, self.image_size]
        ids = torch.tensor([*size, 0, 0, *size], dtype=self.dtype, device=embeddings.device)
        added = {
            "text_embeds": embeddings[:, -1, : self.pooled_size].to(self.dtype),
            "time_ids": ids.expand(len(embeddings), -1),
        }
        return embeddings[:, :-1].to(self.dtype), {"added_cond_kwargs": added}
