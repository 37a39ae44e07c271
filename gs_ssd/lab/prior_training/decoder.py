"""Learns the way back from the analytic latents: the decoder of the bundled autoencoder, its
encoder untouched."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gs_ssd.files import atomic_path
from gs_ssd.lab.prior_training.models import ModelConfig, build_vae
from gs_ssd.lab.prior_training.patch_pca import PatchBasis, write_encoder


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    steps: int = 1000
    batch: int = 12
    learning_rate: float = 2e-3
    latent_noise: float = 0.05  # sampled latents are never perfect
    seed: int = 0


def build_autoencoder(model: ModelConfig, basis: PatchBasis) -> Any:
    """An AutoencoderKL whose encoder is exact and whose decoder is not trained."""
    vae = build_vae(model)
    write_encoder(vae, basis)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    vae.post_quant_conv.requires_grad_(False)
    return vae


def fit_decoder(
    path: Path,
    model: ModelConfig,
    basis: PatchBasis,
    pixels: Tensor,
    config: DecoderConfig,
    minutes: float,
    device: torch.device | str = "cpu",
    report: Callable[[str], None] = print,
) -> bool:
    """Train the decoder on `pixels [N,3,S,S]` (uint8) for at most `minutes`; the state is kept at
    `path`.

    Returns true when all steps are done. The loss is L1 + MSE + the L1 of neighbouring pixels'
    differences (edges).
    """
    torch.manual_seed(config.seed)
    vae = build_autoencoder(model, basis).to(device, memory_format=torch.channels_last)
    adam = torch.optim.AdamW(vae.decoder.parameters(), config.learning_rate, betas=(0.9, 0.99))
    state = load_state(path)
    step = state["step"]
    if step:
        vae.decoder.load_state_dict(state["decoder"])
        adam.load_state_dict(state["adam"])
    start = time.monotonic()
    while step < config.steps and time.monotonic() - start < minutes * 60:
        for group in adam.param_groups:
            group["lr"] = (
                config.learning_rate * (1 - step / config.steps) * min(1.0, (step + 1) / 50) + 1e-5
            )
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        batch = pixels[torch.randint(len(pixels), (config.batch,), generator=generator)].to(device)
        target = batch.float() / 127.5 - 1
        z = basis.encode(target)
        noise = torch.randn(z.shape, generator=generator).to(z)
        strength = config.latent_noise * torch.rand(len(z), 1, 1, 1, generator=generator).to(z)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            out = vae.decode(
                (z + strength * noise).contiguous(memory_format=torch.channels_last)
            ).sample
        loss = _loss(out.float(), target)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        adam.step()
        step += 1
        if step % 100 == 0:
            report(
                f"decoder step {step}/{config.steps}  loss {loss.item():.4f} "
                f" {psnr(out, target):.1f} dB"
            )
            _save(path, vae, adam, step)
    _save(path, vae, adam, step)
    return step >= config.steps


def _save(path: Path, vae: Any, adam: torch.optim.Optimizer, step: int) -> None:
    with atomic_path(path) as temporary:
        torch.save(
            {"decoder": vae.decoder.state_dict(), "adam": adam.state_dict(), "step": step},
            temporary,
        )


def load_state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else {"step": 0}


def psnr(out: Tensor, target: Tensor) -> float:
    """Peak signal to noise in dB for pixels in -1..1."""
    return (10 * torch.log10(4 / (out.clamp(-1, 1) - target).square().mean())).item()


def _loss(out: Tensor, target: Tensor) -> Tensor:
    error = out - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + edges
