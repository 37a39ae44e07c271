"""Floor 1: a Stable Diffusion whose UNet sees a volume of the sentence's object through the camera
(see `volume.py`).

The folder stays a diffusers pipeline: without cameras the UNet is the one that diffusers loads.
`gs_ssd.json` names the folder of the volume; beside its weights lies what the UNet's first
convolution does with the further channels.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.pipelines import door
from gs_ssd.prior.proportions import Warp, filled_cells, warp
from gs_ssd.prior.stable_diffusion import StableDiffusionPrior, freeze
from gs_ssd.prior.volume import TextVolume, as_channels, look, open_volume, surface_points

REMEMBERED = 16
"""Sentences whose volumes are kept."""
SAME = 1e-3
"""Largest difference of two embeddings of one sentence; half precision rounds by less."""


class VolumePrior(StableDiffusionPrior):
    """Predicts noise for exact cameras.

    A row whose text is the empty sentence sees no volume, as in training, so that guidance includes
    the camera.
    """

    def __init__(
        self,
        pipe: Any,
        config: PriorConfig,
        device: torch.device,
        dtype: torch.dtype,
        metadata: dict[str, Any],
        volume: TextVolume,
        unet_input: Float[Tensor, "o c 3 3"],
    ) -> None:
        widen(pipe.unet, unet_input)
        super().__init__(pipe, config, device, dtype, metadata)
        trained = volume.config.latent_size * self.vae_factor
        if self.image_size != trained:
            raise UserError(
                f"prior.image_size={self.image_size}: this prior sees {trained} pixels a side and "
                "no others; leave prior.image_size out"
            )
        self.uses_cameras = True
        self.volume = freeze(volume, device, torch.float32)
        self._null = self.embed([""])[0]
        self._volumes: list[tuple[Tensor, Tensor]] = []
        self._numbers: Tensor | None = None
        self._warps: list[tuple[Tensor, Warp]] = []

    def with_proportions(self, numbers: Float[Tensor, "4"]) -> "VolumePrior":
        """The same prior with other objects in mind, by the numbers of `proportions.warp`; shares
        all weights."""
        other = copy.copy(self)
        other._numbers, other._warps = numbers, []
        return other

    def unet_input(self, x: Tensor, condition: Condition) -> Tensor:
        """Noisy latents, then the volumes' views."""
        return torch.cat([x, self.maps(condition).to(x)], dim=1)

    def volume_of(self, text: Float[Tensor, "l d"]) -> Float[Tensor, "4 r r r"]:
        """Logits of occupancy and colour for one sentence's embedding; the last few are
        remembered."""
        for known, volume in self._volumes:
            if _same(known, text):
                return volume
        with torch.no_grad():
            volume = self.volume(text[None].float())[0]
        self._volumes.insert(0, (text.clone(), volume))
        del self._volumes[REMEMBERED:]
        return volume

    def warp_of(self, text: Float[Tensor, "l d"]) -> Warp | None:
        """From the sentence's volume to the object in mind; None: it is the volume's own."""
        if self._numbers is None:
            return None
        for known, found in self._warps:
            if _same(known, text):
                return found
        filled = self.volume_of(text)[0] > 0
        found = warp(self._numbers, filled_cells(filled, self.volume.config.half_extent))
        self._warps = [(text.clone(), found), *self._warps[: REMEMBERED - 1]]
        return found

    def imagine(
        self, text: str, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Points on the surface of the sentence's volume, upright, facing +y, and their colours in
        0..1, on the CPU."""
        sentence = self.embed([text.strip()])[0]
        logits, half_extent = self.volume_of(sentence), self.volume.config.half_extent
        points, colors = surface_points(logits, half_extent, count, generator)
        shaped = self.warp_of(sentence)
        return points if shaped is None else shaped.cpu().apply(points), colors

    @torch.no_grad()
    def maps(self, condition: Condition) -> Float[Tensor, "b c k k"]:
        """The further input channels: zero for rows without a camera or without a sentence."""
        shape, text, cameras = self.volume.config, condition.text, condition.cameras
        size = shape.latent_size
        maps = text.new_zeros(len(text), shape.map_channels, size, size)
        if cameras is None:
            return maps
        for sentence, mine in _by_sentence(text):
            if _same(sentence, self._null):
                continue
            picture = look(
                self.volume_of(sentence)[None],
                cameras.w2c[mine][None],
                cameras.tan_half_fov[mine][None],
                shape,
                self.warp_of(sentence),
            )
            maps[mine] = as_channels(picture[0], size)
        return maps


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two embeddings are of one sentence: batches of another size round differently."""
    return bool((one - other).abs().max() < SAME)


def _by_sentence(text: Float[Tensor, "b l d"]) -> list[tuple[Tensor, Tensor]]:
    """The different sentences of a batch, each with its rows."""
    left, found = list(range(len(text))), []
    while left:
        mine = [row for row in left if _same(text[row], text[left[0]])]
        found.append((text[left[0]], torch.tensor(mine, device=text.device)))
        left = [row for row in left if row not in mine]
    return found


def widen(unet: Any, weight: Float[Tensor, "o c 3 3"]) -> None:
    """Give the UNet's first convolution further input channels, after the latents'."""
    old = unet.conv_in
    inputs = old.in_channels + weight.shape[1]
    new = nn.Conv2d(inputs, old.out_channels, old.kernel_size, padding=old.padding)
    new.weight = nn.Parameter(torch.cat([old.weight.detach(), weight.to(old.weight)], 1))
    new.bias = nn.Parameter(old.bias.detach().clone())
    unet.conv_in = new
    unet.register_to_config(in_channels=inputs)


def read_volume(
    folder: Path, metadata: dict[str, Any]
) -> tuple[TextVolume, Float[Tensor, "o c 3 3"]]:
    """The custom part that `gs_ssd.json` names, out of the pipeline's own folder.

    Raises:
        UserError: it is missing or damaged, or lies elsewhere.
    """
    named = metadata["volume"]
    part = str(named.get("folder", "")) if isinstance(named, dict) else ""
    where = (folder / part).resolve()
    if not part or where.parent != folder.resolve():
        raise UserError(
            f"{folder / 'gs_ssd.json'}: volume.folder={part!r} must name a folder beside the file"
        )
    with door(str(where)):
        return open_volume(where)
