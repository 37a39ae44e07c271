"""Teaches the bundled UNet to look at a volume of its sentence through the camera
(`gs_ssd.prior.volume_prior`).

Starts from a folder that already draws; its first convolution gets further input channels, which
begin at zero. The volume is trained before (`volume_training`) and stays as it is, so that every
picture's view of it is made once.
"""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gs_ssd.files import atomic_path
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import denoising, scenes
from gs_ssd.lab.prior_training.captions import CaptionLaw, Mix, caption, prompt, view_mix
from gs_ssd.lab.prior_training.held_out import held_out
from gs_ssd.lab.prior_training.train import Embedder, use_plain_attention
from gs_ssd.maths.color import quantize
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.patch_encoder import read_off
from gs_ssd.prior.volume import TextVolume, as_channels, look
from gs_ssd.prior.volume_prior import widen


@dataclasses.dataclass(frozen=True)
class CameraTraining:
    """One run. The shares of a batch: empty sentences, sentences alone, the rest with a camera."""

    shards: int = 9
    rounds: int = 20  # of eight pictures of every kind, a shard
    steps: int = 4400
    batch: int = 32
    learning_rate: float = 6e-4
    warmup: int = 100
    weight_decay: float = 0.01
    min_snr: float = 5.0
    late_share: float = 0.6  # of timesteps drawn from `late_from`..999 only
    late_from: int = 300
    empty_share: float = 0.11
    blind_share: float = 0.13
    worded_share: float = 0.15  # of all: a camera, and view words too
    colorless_share: float = 0.08  # of the pictures: sentence and volume name no colour
    synonym: float = 0.12
    ema: float = 0.999
    seed: int = 0
    bfloat16: bool = True


PRESETS = {
    "cpu": CameraTraining(),
    "smoke": CameraTraining(1, 1, steps=2, batch=4, warmup=1, bfloat16=False),
}


@torch.no_grad()
def views_of_volumes(
    pictures: scenes.Scenes,
    colorless: Tensor,
    volume: TextVolume,
    embed: Callable[[list[str]], Tensor],
    seed: int,
) -> Tensor:
    """Every picture's camera looking at its sentence's volume, `[N,4,m,m]` uint8; three phrasings a
    pair."""
    config, rng = volume.config, random.Random(seed)
    out = torch.zeros(len(pictures), 4, config.map_size, config.map_size, dtype=torch.uint8)
    for kind, name in enumerate(world.kinds()):
        for color in range(-1, len(world.colors())):
            of_color = colorless if color < 0 else (pictures.color == color) & ~colorless
            mine = ((pictures.kind == kind) & of_color).nonzero()[:, 0]
            for some in mine.chunk(3) if len(mine) else ():
                law = CaptionLaw(dropout=0.0, synonym=0.2, colorless=float(color < 0))
                logits = volume(
                    embed([prompt(name, world.colors()[max(color, 0)], False, law, rng)])
                )
                for part in some.split(32):
                    seen = look(
                        logits, pictures.w2c[part][None], pictures.tan_half_fov[part][None], config
                    )
                    out[part] = quantize(seen[0])
    return out


class CameraTrainer:
    """The state of a run in `folder`: `camera.pt` (weights, averages, Adam), `camera_log.jsonl`,
    pictures, views.

    Args:
        base: the pipeline folder to start from; its text encoder and autoencoder stay as they are.
    """

    def __init__(
        self, folder: Path, config: CameraTraining, base: Path, volume: TextVolume
    ) -> None:
        self.folder, self.config, self.volume = folder, config, volume
        prior: Any = load(PriorConfig(model=str(base)), "cpu")
        self.embed = Embedder(
            prior.text_encoder, prior.tokenizer, prior.max_tokens, torch.device("cpu")
        )
        self.embed.frozen = True  # its outputs are remembered
        self.encode, self.alphas_cumprod = (
            read_off(prior.vae, prior.vae_factor),
            prior.alphas_cumprod,
        )
        self.image_size, self.unet = prior.image_size, prior.unet.requires_grad_(True).train()
        if not prior.uses_cameras:
            outputs = self.unet.conv_in.out_channels
            widen(self.unet, torch.zeros(outputs, volume.config.map_channels, 3, 3))
        use_plain_attention(self.unet, prior.text_encoder, torch.device("cpu"))
        self.adam = torch.optim.AdamW(
            self.unet.parameters(),
            config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )
        self.average = {name: x.detach().clone() for name, x in self.unet.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        if (folder / "camera.pt").exists():
            state = torch.load(folder / "camera.pt", weights_only=True)
            self.unet.load_state_dict(state["unet"])
            self.adam.load_state_dict(state["adam"])
            self.average, self.step, self.seconds = (
                state["average"],
                state["step"],
                state["seconds"],
            )

    def pictures(self) -> tuple[scenes.Scenes, Tensor, Tensor]:
        """The pictures without the held-out pairs, which of them go without a colour word, and
        their volumes' views."""
        everything = scenes.load(
            self.folder / "scenes", self.config.shards, self.config.rounds, self.image_size
        )
        kept = everything[torch.tensor([pair not in held_out() for pair in everything.pairs()])]
        dice = torch.rand(len(kept), generator=torch.Generator().manual_seed(self.config.seed + 5))
        colorless, path = dice < self.config.colorless_share, self.folder / "volume_views.pt"
        if not path.exists():
            views = views_of_volumes(
                kept, colorless, self.volume, self._embed_texts, self.config.seed + 5
            )
            with atomic_path(path) as temporary:
                torch.save(views, temporary)
        return kept, colorless, torch.load(path, weights_only=True)

    def _embed_texts(self, texts: list[str]) -> Tensor:
        return self.embed([Mix((text,), (1.0,)) for text in texts])

    def fit(self, minutes: float, report: Callable[[str], None] = print) -> bool:
        """Train for at most `minutes`; true when all steps are done."""
        data = self.pictures()
        return denoising.fit(
            self,
            lambda: self._train_step(*data),
            steps=self.config.steps,
            minutes=minutes,
            log=self.folder / "camera_log.jsonl",
            report=report,
        )

    def _train_step(
        self, pictures: scenes.Scenes, colorless: Tensor, views: Tensor
    ) -> dict[str, float]:
        config, count = self.config, self.config.batch
        for group in self.adam.param_groups:
            group["lr"] = denoising.learning_rate(
                config.learning_rate, self.step, config.steps, config.warmup
            )
        seed = config.seed * 1_000_003 + self.step + 77
        generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
        chosen = torch.randint(len(pictures), (count,), generator=generator)
        batch = pictures[chosen]
        z = self.encode(self._on_backgrounds(batch.rgba, generator))
        seen = as_channels(views[chosen].float() / 255, self.volume.config.latent_size)
        noise = torch.randn(z.shape, generator=generator)
        t = denoising.timesteps(count, generator, config.late_share, config.late_from)
        mode = torch.rand(count, generator=generator)
        mixes = self._captions(batch, colorless[chosen].tolist(), mode.tolist(), rng)
        seen *= (mode >= config.empty_share + config.blind_share)[:, None, None, None]
        alpha = self.alphas_cumprod[t][:, None, None, None]
        x_t = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            predicted = self.unet(torch.cat([x_t, seen], 1), t, self.embed(mixes)).sample
        loss, mse = denoising.losses(predicted, noise, alpha, config.min_snr)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.adam.step()
        self.step += 1
        self._update_average()
        return {"loss": loss.item(), "mse": mse.item()}

    def _on_backgrounds(self, rgba: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels in -1..1."""
        color, alpha = (rgba.float() / 255).split((3, 1), dim=1)
        background = world.draw_backgrounds(len(rgba), generator)[:, :, None, None]
        return 2 * (color + (1 - alpha) * background) - 1

    def _captions(
        self, batch: scenes.Scenes, colorless: list[bool], mode: list[float], rng: random.Random
    ) -> list[Mix]:
        config, mixes = self.config, []
        blind = config.empty_share + config.blind_share
        angles = zip(
            batch.azimuth_deg.tolist(),
            batch.elevation_deg.tolist(),
            batch.closeup.tolist(),
            strict=True,
        )
        for pair, view, plain, draw in zip(batch.pairs(), angles, colorless, mode, strict=True):
            law = CaptionLaw(dropout=0.0, synonym=config.synonym, colorless=float(plain))
            if draw < config.empty_share:
                mixes.append(Mix(("",), (1.0,)))
            elif draw < blind:
                mixes.append(caption(*pair, *view, CaptionLaw(dropout=0.0), rng))
            elif draw < 1 - config.worded_share:
                mixes.append(Mix((prompt(*pair, False, law, rng),), (1.0,)))
            else:
                mixes.append(view_mix(prompt(*pair, view[2], law, rng), *view[:2]))
        return mixes

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, x in self.unet.state_dict().items():
            self.average[name].lerp_(x, 1 - decay)

    def save(self) -> None:
        """Write the state."""
        state = {
            "unet": self.unet.state_dict(),
            "adam": self.adam.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_path(self.folder / "camera.pt") as temporary:
            torch.save(state, temporary)
