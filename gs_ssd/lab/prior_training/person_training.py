"""Teaches the bundled prior persons in any pose: a difference of low rank of its UNet.

What the UNet is told of the pose is the picture of the body's regions, painted in the sentence's
colours, in the channels in which it sees the volumes of other objects. It follows them untrained; a
short training adds hands, faces, hair, light and how wide clothes are.
"""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gs_ssd.files import atomic_path
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import denoising, person_scenes
from gs_ssd.lab.prior_training.person_scenes import PersonScenes, dressed
from gs_ssd.lab.prior_training.train import use_plain_attention
from gs_ssd.lab.world.colors import INK
from gs_ssd.prior import PriorConfig, load, low_rank
from gs_ssd.prior.outfit import HAIR, SKIN
from gs_ssd.prior.patch_encoder import read_off
from gs_ssd.prior.person_prior import SENTENCE, painted
from gs_ssd.prior.volume import as_channels


@dataclasses.dataclass(frozen=True)
class PersonTraining:
    """One run."""

    shards: int = 8
    pictures: int = 800  # a shard
    rank: int = 16
    steps: int = 900
    batch: int = 32
    learning_rate: float = 1.2e-3
    warmup: int = 50
    min_snr: float = 5.0
    late_share: float = 0.6  # of timesteps drawn from `late_from`..999 only
    late_from: int = 300
    empty_share: float = 0.12
    plain_share: float = 0.5  # of outfits in named colours; the others are any
    paint: float = 0.05  # how far the colours are from those that are told
    ema: float = 0.997
    seed: int = 0
    bfloat16: bool = True


PRESETS = {
    "cpu": PersonTraining(),
    "smoke": PersonTraining(1, 8, steps=2, batch=4, warmup=1, bfloat16=False),
}


class PersonTrainer:
    """The state of a run in `folder`: `person.pt` (what is trained, its average, Adam),
    `person_log.jsonl`, pictures.

    Args:
        base: the pipeline folder to start from; nothing in it is changed.
    """

    def __init__(self, folder: Path, config: PersonTraining, base: Path) -> None:
        self.folder, self.config = folder, config
        folder.mkdir(parents=True, exist_ok=True)
        prior: Any = load(PriorConfig(model=str(base)), "cpu")
        self.text = prior.embed([SENTENCE, ""])
        self.latent_size, self.map_size = (
            prior.volume.config.latent_size,
            prior.volume.config.map_size,
        )
        self.encode = read_off(prior.vae, prior.vae_factor)
        self.alphas_cumprod, self.image_size = prior.alphas_cumprod, prior.image_size
        self.unet = prior.unet.train()
        self.base = {name: x.detach().clone() for name, x in self.unet.named_parameters()}
        use_plain_attention(self.unet, prior.text_encoder, torch.device("cpu"))
        self.trained = low_rank.attach(self.unet, config.rank, config.seed)
        self.adam = torch.optim.AdamW(
            self.trained, config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.average = [x.detach().clone() for x in self.trained]
        self.step, self.seconds = 0, 0.0
        if (folder / "person.pt").exists():
            self._resume(torch.load(folder / "person.pt", weights_only=True))

    def _resume(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.trained, state["trained"], strict=True):
                parameter.copy_(value)
        self.adam.load_state_dict(state["adam"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]

    def pictures(self) -> PersonScenes:
        """The training pictures; made first where they are missing."""
        config = self.config
        folder = self.folder / "persons"
        return person_scenes.load(
            folder, config.shards, config.pictures, self.image_size, self.map_size
        )

    def fit(self, minutes: float, report: Callable[[str], None] = print) -> bool:
        """Train for at most `minutes`; true when all steps are done."""
        data = self.pictures()
        return denoising.fit(
            self,
            lambda: self._train_step(data),
            steps=self.config.steps,
            minutes=minutes,
            log=self.folder / "person_log.jsonl",
            report=report,
        )

    def difference(self) -> dict[str, Tensor]:
        """The averaged difference from the base, by the names of its weights."""
        now = [x.detach().clone() for x in self.trained]
        with torch.no_grad():
            for parameter, value in zip(self.trained, self.average, strict=True):
                parameter.copy_(value)
        found = low_rank.extract(self.unet, self.base)
        with torch.no_grad():
            for parameter, value in zip(self.trained, now, strict=True):
                parameter.copy_(value)
        return found

    def _train_step(self, data: PersonScenes) -> dict[str, float]:
        config, count = self.config, self.config.batch
        for group in self.adam.param_groups:
            group["lr"] = denoising.learning_rate(
                config.learning_rate, self.step, config.steps, config.warmup
            )
        seed = config.seed * 1_000_003 + self.step + 77
        generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
        batch = data[torch.randint(len(data), (count,), generator=generator)]
        told_colors, colors = self._outfits(count, generator, rng)
        color, alpha_of = dressed(batch, colors)
        backgrounds = world.draw_backgrounds(count, generator)[:, :, None, None]
        z = self.encode(2 * (color + (1 - alpha_of) * backgrounds) - 1)
        seen = as_channels(painted(batch.told.float() / 255, told_colors), self.latent_size)
        noise, t = (
            torch.randn(z.shape, generator=generator),
            denoising.timesteps(count, generator, config.late_share, config.late_from),
        )
        empty = torch.rand(count, generator=generator) < config.empty_share
        seen[empty] = 0.0
        text = torch.where(empty[:, None, None], self.text[1], self.text[0])
        alpha = self.alphas_cumprod[t][:, None, None, None]
        x_t = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            predicted = self.unet(torch.cat([x_t, seen], 1), t, text).sample
        loss, mse = denoising.losses(predicted, noise, alpha, config.min_snr)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.adam.step()
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.trained, strict=True):
                mean.lerp_(parameter, 1 - decay)
        return {"loss": loss.item(), "mse": mse.item()}

    def _outfits(
        self, count: int, generator: torch.Generator, rng: random.Random
    ) -> tuple[Float[Tensor, "n r 3"], Float[Tensor, "n q 3"]]:
        """Colours as they are told, and as they are in the pictures (eyes too)."""
        named = list(world.COLORS.values())
        rows = [
            [
                rng.choice(choices)
                for choices in (list(SKIN.values()), list(HAIR.values()), named, named, named)
            ]
            for _ in range(count)
        ]
        free = torch.rand(count, 5, 3, generator=generator)
        plain = torch.rand(count, 1, 1, generator=generator) < self.config.plain_share
        told = torch.where(plain, torch.tensor(rows), free)
        shift = self.config.paint * (2 * torch.rand(told.shape, generator=generator) - 1)
        eyes = torch.tensor(INK).expand(count, 1, 3)
        return told, torch.cat([(told + shift).clamp(0, 1), eyes], dim=1)

    def save(self) -> None:
        """Write the state."""
        state = {
            "trained": [x.detach() for x in self.trained],
            "adam": self.adam.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_path(self.folder / "person.pt") as temporary:
            torch.save(state, temporary)
