"""The bundled prior, taught persons: told the pose by a picture of the body, the outfit by the
sentence.

It is the bundled folder with a difference of low rank on its UNet (`low_rank.py`). The picture of
the body's regions, painted in the sentence's colours, stands in the input channels in which the
UNet sees the volumes of other objects.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.prior import BUNDLED, DIFFERENCE, PriorConfig, base_digest, low_rank, outfit
from gs_ssd.prior.base import BodyPicture
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.pipelines import door
from gs_ssd.prior.stable_diffusion import StableDiffusionPrior
from gs_ssd.prior.volume import VolumeConfig, as_channels
from gs_ssd.prior.volume_prior import read_volume, widen

SENTENCE = "a person"
"""What the UNet is told in words, whoever it is: colours and pose are in the picture."""
CARD = "gs_ssd.json"


def painted(
    regions: Float[Tensor, "b r h w"], colors: Float[Tensor, "b r 3"]
) -> Float[Tensor, "b 4 h w"]:
    """Opacity, then colours times opacity, of a picture of regions in these colours."""
    return torch.cat(
        [regions.sum(dim=1, keepdim=True), torch.einsum("brhw,brc->bchw", regions, colors)], dim=1
    )


class PersonPrior(StableDiffusionPrior):
    """Predicts noise for a body in a pose: conditions carry the picture of its regions as `image`.

    The pipeline's UNet has the further channels and the difference in it already.

    The last row of an embedding is no token: it holds the outfit's colours and, after them, 1 where
    there is a person. So the empty sentence sees no body, as in training, and embeddings still mix
    linearly.
    """

    def __init__(
        self,
        pipe: Any,
        config: PriorConfig,
        device: torch.device,
        dtype: torch.dtype,
        metadata: dict[str, Any],
        shape: VolumeConfig,
    ) -> None:
        super().__init__(pipe, config, device, dtype, metadata)
        self.body_picture = BodyPicture("regions", shape.map_size)
        self._map_size, self._latent_size = shape.map_size, shape.latent_size
        self._paints = {name: tuple(rgb) for name, rgb in metadata["paints"].items()}
        self._person, self._nobody = super().embed([SENTENCE, ""])

    def embed(self, prompts: list[str]) -> Float[Tensor, "p l d"]:
        """The same words for every person, and the outfit that the sentence names in a row of its
        own.
        """
        rows = []
        for prompt in prompts:
            row = torch.zeros_like(self._person[:1])
            if prompt.strip():
                colors = torch.tensor(outfit.read(prompt, self._paints).colors)
                row[0, : colors.numel()] = colors.flatten().to(row)
                row[0, colors.numel()] = 1.0
            rows.append(torch.cat([self._person if prompt.strip() else self._nobody, row]))
        return torch.stack(rows)

    def overflow(self, prompt: str) -> str:  # noqa: ARG002 -- outfits are read word by word
        """Nothing is ever cut."""
        return ""

    def unet_input(self, x: Tensor, condition: Condition) -> Tensor:
        """Noisy latents, then the painted picture of the body."""
        return torch.cat([x, self.maps(condition).to(x)], dim=1)

    def maps(self, condition: Condition) -> Float[Tensor, "b c k k"]:
        """The further input channels: zero for rows of the empty sentence.

        Raises:
            UserError: there is no picture of a body.
        """
        regions, row = condition.image, condition.text[:, -1].float()
        if regions is None:
            raise UserError(
                "prior.model=person is told the pose by a picture of the body; set asset=avatar,"
                " which has one"
            )
        count = 3 * len(outfit.REGIONS)
        colors, told = row[:, :count].unflatten(1, (-1, 3)), row[:, count]
        size = self._map_size
        if regions.shape[-1] != size:
            regions = interpolate(regions, (size, size), mode="area")
        seen = as_channels(painted(regions.float(), colors), self._latent_size)
        return seen * told[:, None, None, None]

    def unet_arguments(self, condition: Condition) -> tuple[Tensor, dict[str, Any]]:
        """The words alone."""
        return condition.text[:, :-1].to(self.dtype), {}


def open_person(
    folder: Path,
    pipe: Any,
    config: PriorConfig,
    device: torch.device,
    dtype: torch.dtype,
    base: dict[str, Any],
) -> PersonPrior:
    """The model in `folder` on the bundled pipeline.

    Args:
        base: the bundled prior's metadata.

    Raises:
        UserError: a file is missing or damaged, or belongs to another bundled prior.
    """
    import safetensors.torch

    with door(str(folder / CARD)):
        card = json_text.parse((folder / CARD).read_text(encoding="utf-8"))
        paints, made_on = dict(card["paints"]), str(card["base"])
    if made_on != base_digest():
        raise UserError(
            f"{folder} was taught on another version of the bundled prior; publish it again on this"
            " one (tools/train_prior.py person), or install the version that it came with"
        )
    volume, unet_input = read_volume(BUNDLED, base)
    widen(pipe.unet, unet_input)
    with door(str(folder / DIFFERENCE)):
        low_rank.merge(pipe.unet, safetensors.torch.load_file(folder / DIFFERENCE))
    return PersonPrior(pipe, config, device, dtype, card | {"paints": paints}, volume.config)
