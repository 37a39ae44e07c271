"""Trains the bundled prior from nothing: pictures of the world, an analytic encoder, UNet and text
encoder together.

Works in chunks of minutes and continues where it stopped; see `docs/prior.md` for what came out.
"""

import dataclasses
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gs_ssd.files import atomic_path
from gs_ssd.json_lines import append_record
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import denoising
from gs_ssd.lab.prior_training.captions import CaptionLaw, Mix, caption
from gs_ssd.lab.prior_training.models import (
    ModelConfig,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
)
from gs_ssd.lab.prior_training.patch_pca import PatchBasis, fit_basis
from gs_ssd.lab.prior_training.pictures import Pictures, join, shard


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run. A step is one batch; the learning rate falls as a cosine over `steps`."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    captions: CaptionLaw = dataclasses.field(default_factory=CaptionLaw)
    shards: int = 11
    shard_size: int = 4480
    steps: int = 15_500
    # afterwards the text encoder is its own average, frozen, and its outputs are remembered
    text_steps: int = 9_200
    batch: int = 64
    late_batch: int = (
        32  # from step `late_from`: more, noisier updates suit a budget of few pictures
    )
    late_from: int = 1475
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    min_snr: float = 5.0
    late_share: float = 0.4  # share of timesteps drawn from 400..999 only, where shape is decided
    ema: float = 0.999
    seed: int = 0
    bfloat16: bool = True

    def presentations(self, step: int) -> int:
        """Pictures seen after `step` steps."""
        early = min(step, self.late_from)
        return early * self.batch + (step - early) * self.late_batch


PRESETS: dict[str, TrainConfig] = {
    "cpu": TrainConfig(),
    "gpu": TrainConfig(
        model=ModelConfig(image_size=128, unet_channels=(96, 160, 224), text_layers=3),
        shards=80,
        steps=12_000,
        text_steps=6000,
        batch=512,
        late_batch=512,
    ),
    "smoke": TrainConfig(
        model=ModelConfig(unet_channels=(32, 32, 32), text_width=32, text_layers=1),
        shards=1,
        shard_size=28,
        steps=4,
        bfloat16=False,
        text_steps=2,
        batch=4,
        late_batch=2,
        late_from=3,
    ),
}


class Embedder:
    """Mixed caption embeddings `[B,L,D]`; remembers them once the text encoder is frozen."""

    def __init__(
        self, text_encoder: Any, tokenizer: Any, length: int, device: torch.device
    ) -> None:
        self.text_encoder, self.tokenizer, self.length, self.device = (
            text_encoder,
            tokenizer,
            length,
            device,
        )
        self.frozen = False
        self._tokens: dict[str, list[int]] = {}
        self._memory: dict[str, Tensor] = {}

    def __call__(self, mixes: list[Mix]) -> Tensor:
        texts = list(dict.fromkeys(text for mix in mixes for text in mix.texts))
        place = {text: index for index, text in enumerate(texts)}
        weight = torch.zeros(len(mixes), len(texts))
        for row, mix in enumerate(mixes):
            weight[row, [place[text] for text in mix.texts]] = torch.tensor(mix.weights)
        outputs = self._remembered(texts) if self.frozen else self._encode(texts)
        return (weight.to(self.device) @ outputs.flatten(1).float()).unflatten(1, outputs.shape[1:])

    def _encode(self, texts: list[str]) -> Tensor:
        for text in texts:
            if text not in self._tokens:
                self._tokens[text] = self.tokenizer(
                    text, padding="max_length", truncation=True
                ).input_ids
        ids = torch.tensor([self._tokens[text] for text in texts], device=self.device)
        return self.text_encoder(ids).last_hidden_state

    @torch.no_grad()
    def _remembered(self, texts: list[str]) -> Tensor:
        missing = [text for text in texts if text not in self._memory]
        if missing:
            self._memory.update(zip(missing, self._encode(missing).to(torch.bfloat16), strict=True))
        return torch.stack([self._memory[text] for text in texts])


class PriorTrainer:
    """The state of a run in `folder`: `state.pt` (weights, averages, Adam), `basis.pt`,
    `log.jsonl`, pictures."""

    def __init__(
        self, folder: Path, config: TrainConfig, device: torch.device | str = "cpu"
    ) -> None:
        self.folder, self.config, self.device = folder, config, torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        tokenizer = build_tokenizer(config.model)
        self.unet = build_unet(config.model).to(self.device, memory_format=torch.channels_last)
        self.text_encoder = build_text_encoder(config.model, len(tokenizer)).to(self.device)
        use_plain_attention(self.unet, self.text_encoder, self.device)
        self.embed = Embedder(self.text_encoder, tokenizer, config.model.text_length, self.device)
        self.parts = nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})
        self.average = {name: x.detach().clone() for name, x in self.parts.state_dict().items()}
        self.adam = torch.optim.AdamW(
            self.parts.parameters(),
            config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.alphas_cumprod = build_scheduler().alphas_cumprod.to(self.device)
        self.step, self.seconds = 0, 0.0
        self._load()

    def pictures(self, shards: int | None = None) -> Pictures:
        size, count = self.config.model.image_size, self.config.shard_size
        folder = self.folder / "pictures"
        return join(
            [
                shard(folder, i, count, size, self.device)
                for i in range(shards or self.config.shards)
            ]
        )

    def basis(self) -> PatchBasis:
        """The encoder's patch basis, fitted to the first shard once."""
        path = self.folder / "basis.pt"
        if not path.exists():
            basis = fit_basis(to_pixels(self.pictures(1).rgb), self.config.model.latent_channels)
            with atomic_path(path) as temporary:
                torch.save(dataclasses.asdict(basis), temporary)
        return PatchBasis(**torch.load(path, weights_only=True))

    def fit(self, minutes: float, report: Callable[[str], None] = print) -> bool:
        """Train for at most `minutes`; true when all steps are done."""
        pictures, basis = self.pictures(), self.basis()
        latents = torch.cat(
            [basis.encode(to_pixels(chunk)).half() for chunk in pictures.rgb.split(512)]
        )
        pictures = dataclasses.replace(pictures, rgb=latents.to(self.device))
        start = saved = time.monotonic()
        tally: list[tuple[float, float]] = []
        while self.step < self.config.steps and time.monotonic() - start < minutes * 60:
            began = time.monotonic()
            tally.append(self._train_step(pictures))
            self.seconds += time.monotonic() - began
            if self.step % 50 == 0:
                self._log(tally, report)
                tally = []
            if time.monotonic() - saved > 120:
                self._save()
                saved = time.monotonic()
        self._save()
        return self.step >= self.config.steps

    def _train_step(self, pictures: Pictures) -> tuple[float, float]:
        """One batch; returns the weighted loss and the plain squared error."""
        config = self.config
        self._set_learning_rate()
        if self.step >= config.text_steps and not self.embed.frozen:
            self._freeze_text()
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        size = config.batch if self.step < config.late_from else config.late_batch
        batch = pictures[torch.randint(len(pictures), (size,), generator=generator)]
        z = batch.rgb.float().to(self.device, memory_format=torch.channels_last)
        noise = torch.randn(z.shape, generator=generator).to(self.device)
        t = denoising.timesteps(size, generator, config.late_share, 400).to(self.device)
        mixes = describe(batch, config.captions, random.Random(config.seed * 1_000_003 + self.step))

        alpha = self.alphas_cumprod[t][:, None, None, None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            noised = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
            predicted = self.unet(noised, t, self.embed(mixes)).sample
        loss, mse = denoising.losses(predicted, noise, alpha, config.min_snr)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self.adam.step()
        self.step += 1
        self._update_average()
        return loss.item(), mse.item()

    def _set_learning_rate(self) -> None:
        c = self.config
        rate = (
            0.5
            * (1 + math.cos(math.pi * min(1.0, self.step / c.steps)))
            * min(1.0, (self.step + 1) / c.warmup)
        )
        for group in self.adam.param_groups:
            group["lr"] = c.learning_rate * max(rate, 0.01)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, x in self.parts.state_dict().items():
            if x.is_floating_point():
                self.average[name].lerp_(x, 1 - decay)

    def _freeze_text(self) -> None:
        prefix = "text_encoder."
        own = {
            name.removeprefix(prefix): x
            for name, x in self.average.items()
            if name.startswith(prefix)
        }
        self.text_encoder.load_state_dict(own)
        self.text_encoder.requires_grad_(False)
        self.embed.frozen = True

    def averaged(self) -> tuple[Any, Any]:
        """UNet and text encoder with their averaged weights, as fresh float32 modules."""
        unet = build_unet(self.config.model)
        text_encoder = build_text_encoder(self.config.model, len(self.embed.tokenizer))
        nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).load_state_dict(self.average)
        return unet.eval(), text_encoder.eval()

    def _log(self, tally: list[tuple[float, float]], report: Callable[[str], None]) -> None:
        loss, mse = (sum(column) / len(tally) for column in zip(*tally, strict=True))
        rate = self.config.presentations(self.step) / max(self.seconds, 1e-9)
        row = {
            "step": self.step,
            "loss": loss,
            "mse": mse,
            "seconds": self.seconds,
            "images_per_second": rate,
        }
        append_record(self.folder / "log.jsonl", row)
        report(
            f"step {self.step}/{self.config.steps}  loss {loss:.4f}  mse {mse:.4f}  {rate:.1f}"
            " images/s"
        )

    def _save(self) -> None:
        state = {
            "parts": self.parts.state_dict(),
            "average": self.average,
            "adam": self.adam.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def _load(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.parts.load_state_dict(state["parts"])
        self.adam.load_state_dict(state["adam"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        if self.step >= self.config.text_steps:
            self.text_encoder.requires_grad_(False)
            self.embed.frozen = True


def describe(pictures: Pictures, law: CaptionLaw, rng: random.Random) -> list[Mix]:
    """A random caption for every picture."""
    rows = zip(
        *(
            getattr(pictures, name).tolist()
            for name in ("kind", "color", "azimuth_deg", "elevation_deg", "closeup")
        ),
        strict=True,
    )
    names, paints = world.kinds(), world.colors()
    return [
        caption(names[k], paints[c], azimuth, elevation, near, law, rng)
        for k, c, azimuth, elevation, near in rows
    ]


def to_pixels(rgb: Tensor) -> Tensor:
    """uint8 to -1..1."""
    return rgb.float() / 127.5 - 1


def use_plain_attention(unet: Any, text_encoder: Any, device: torch.device) -> None:
    """On CPUs the fused kernel's backward is the slowest thing in the nets; two matrix products are
    far faster."""
    if device.type == "cpu":
        from diffusers.models.attention_processor import AttnProcessor

        unet.set_attn_processor(AttnProcessor())
        text_encoder.set_attn_implementation("eager")
