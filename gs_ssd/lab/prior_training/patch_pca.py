"""An image encoder that needs no training: principal components of 4x4 patches, written into an
AutoencoderKL.

The map from picture to latent is one constant matrix, so that its gradient carries no adversarial
directions, and the diffusion model can start to train at once. Only the decoder is learned.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

PATCH = 4
_CONSTANT = 300.0  # channels of +-100 hold the last group norm's variance still


@dataclasses.dataclass(frozen=True)
class PatchBasis:
    """`z = weight @ (patch - mean)` for patches of pixels in -1..1, flattened as (channel, row,
    column)."""

    weight: Tensor  # [C, 48]
    mean: Tensor  # [48]
    inverse: Tensor  # [48, C]: the best linear way back

    def encode(self, pixels: Tensor) -> Tensor:
        """`[B,3,H,W]` in -1..1 to `[B,C,H/4,W/4]`."""
        patches = nn.functional.pixel_unshuffle(
            pixels, PATCH
        )  # channels in the order (channel, row, column)
        centred = patches - self.mean[:, None, None].to(pixels)
        return torch.einsum("ck,bkhw->bchw", self.weight.to(pixels), centred)

    def decode(self, latents: Tensor) -> Tensor:
        """The linear reconstruction, `[B,3,H,W]`."""
        patches = torch.einsum("kc,bchw->bkhw", self.inverse.to(latents), latents)
        return nn.functional.pixel_shuffle(patches + self.mean[:, None, None].to(latents), PATCH)


def fit_basis(pixels: Tensor, channels: int) -> PatchBasis:
    """Principal components of the patches of `[B,3,H,W]` in -1..1, half whitened (divided by the
    square root of their deviation, which keeps large structure large), and of unit variance over
    all."""
    patches = nn.functional.pixel_unshuffle(pixels, PATCH).movedim(1, -1).flatten(0, -2).double()
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    values, vectors = values.flip(0)[:channels].clamp(min=1e-12), vectors.flip(1)[:, :channels]
    vectors = vectors * vectors.sum(0).sign()  # eigenvectors have no sign of their own: fix one
    scale = values**-0.25
    scale = scale / (values * scale**2).mean().sqrt()
    return PatchBasis((vectors * scale).T.float(), mean.float(), (vectors / scale).float())


@torch.no_grad()
def write_encoder(vae: Any, basis: PatchBasis) -> None:
    """Set the encoder of a diffusers `AutoencoderKL` (three levels, one layer each, no attention,
    one norm group).

    Every residual branch is zero. Two strided convolutions gather 2x2 and then 4x4 pixels; the
    second also projects, to +z and -z, because silu(z) - silu(-z) = z makes the head linear; the
    pairs also keep the norm's mean at zero.
    """
    encoder, channels = vae.encoder, len(basis.weight)
    for name, module in encoder.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    _write_taps(encoder.conv_in, {(i, i, 1, 1): 1.0 for i in range(3)})
    gather, project = (encoder.down_blocks[level].downsamplers[0].conv for level in (0, 1))
    _write_taps(
        gather,
        {(4 * c + 2 * y + x, c, y, x): 1.0 for c in range(3) for y in range(2) for x in range(2)},
    )
    for block in encoder.down_blocks[1:]:
        shortcut = block.resnets[0].conv_shortcut
        if shortcut is not None:
            _write_taps(shortcut, {(i, i, 0, 0): 1.0 for i in range(shortcut.in_channels)})

    nn.init.zeros_(project.weight)
    # (C, colour, row, dy, column, dx) -> output, input = (colour, dy, dx), tap = (row, column)
    taps = (
        basis.weight.reshape(channels, 3, 2, 2, 2, 2)
        .permute(0, 1, 3, 5, 2, 4)
        .reshape(channels, 12, 2, 2)
    )
    shift = -basis.weight @ basis.mean
    project.weight[:channels, :12, :2, :2], project.weight[channels : 2 * channels, :12, :2, :2] = (
        taps,
        -taps,
    )
    spare = len(project.bias) - 2 * channels
    still = _CONSTANT * torch.tensor([1.0, -1.0]).repeat(spare // 2)
    project.bias.copy_(torch.cat([shift, -shift, still]))

    norm = encoder.conv_norm_out
    nn.init.zeros_(norm.bias)
    nn.init.zeros_(norm.weight)
    norm.weight[: 2 * channels] = (_CONSTANT**2 * spare / len(norm.weight) + norm.eps) ** 0.5
    head = {(i, i, 1, 1): 1.0 for i in range(channels)} | {
        (i, channels + i, 1, 1): -1.0 for i in range(channels)
    }
    _write_taps(encoder.conv_out, head)
    encoder.conv_out.bias[channels:] = -12.0  # log variance: the encoder is certain
    _write_taps(vae.quant_conv, {(i, i, 0, 0): 1.0 for i in range(2 * channels)})
    _write_taps(vae.post_quant_conv, {(i, i, 0, 0): 1.0 for i in range(channels)})


def _write_taps(conv: nn.Conv2d, taps: dict[tuple[int, int, int, int], float]) -> None:
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    for index, value in taps.items():
        conv.weight[index] = value
