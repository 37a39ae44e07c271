"""Floor 1: a VAE encoder that is one constant matrix on patches, applied as what it is: one strided
convolution.

The bundled autoencoder's encoder was written, not learned (`gs_ssd.lab.prior_training.patch_pca`);
a forward and backward pass through its layers costs forty times as much and differs by rounding.
"""

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TOLERANCE = 2e-2
"""How far the module may be from its own matrix, in latents of unit variance; half precision
weights round to 1e-2."""


@dataclasses.dataclass(frozen=True)
class PatchEncoder:
    """`latents = conv(pixels, weight, bias)`, pixels in -1..1."""

    weight: Float[Tensor, "c 3 p p"]
    bias: Float[Tensor, " c"]

    def __call__(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        return functional.conv2d(pixels, self.weight, self.bias, stride=self.weight.shape[-1])

    def to(self, device: torch.device | str) -> "PatchEncoder":
        return PatchEncoder(self.weight.to(device), self.bias.to(device))


@torch.no_grad()
def read_off(vae: Any, patch: int) -> PatchEncoder:
    """The matrix of a frozen AutoencoderKL's mean, by encoding every pixel of a patch once.

    Raises:
        ValueError: the encoder is not such a matrix.
    """
    pixels = 3 * patch * patch
    probe = torch.cat([torch.zeros(1, pixels), torch.eye(pixels)])  # a patch a row
    side = int(len(probe) ** 0.5 + 0.999)
    probe = torch.cat([probe, torch.zeros(side * side - len(probe), pixels)])
    picture = functional.pixel_shuffle(probe.T.reshape(1, pixels, side, side), patch)
    device = next(vae.parameters()).device
    found = vae.encode(picture.to(device, vae.dtype)).latent_dist.mean[0].flatten(1).float()
    bias, taps = found[:, 0], found[:, 1 : pixels + 1] - found[:, :1]
    encoder = PatchEncoder(taps.reshape(-1, 3, patch, patch).contiguous(), bias.contiguous())
    ramp = (
        torch.linspace(-1, 1, 3 * (4 * patch) ** 2).reshape(1, 3, 4 * patch, 4 * patch).to(device)
    )
    ramp = (37 * ramp).sin()
    error = (
        (encoder(ramp) - vae.encode(ramp.to(vae.dtype)).latent_dist.mean.float()).abs().max().item()
    )
    if error > TOLERANCE:
        raise ValueError(
            f"the encoder differs from a matrix on {patch}x{patch} patches by {error:.3g}"
        )
    return encoder
