"""A prior with a fault, on purpose: the bundled one, taught that nearly every picture is a front.

Never shipped.

Of the pictures 85 % are fronts, and half of the captions name any view: as with a large model's
pictures and captions, only worse. Whoever asks such a prior for a back is mostly shown a front,
which is where second faces come from. It is told no cameras, with which there would be no such
fault.
"""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from gs_ssd import checksums
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import denoising
from gs_ssd.lab.prior_training.captions import CaptionLaw, Mix, caption
from gs_ssd.lab.prior_training.pictures import Pictures, shard
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.condition import Condition


@dataclasses.dataclass(frozen=True)
class BiasConfig:
    """What is taught, and for how long (ten minutes of one core)."""

    kinds: tuple[str, ...] = ("bear", "duck", "robot", "car")
    camera: world.CameraLaw = dataclasses.field(
        default_factory=lambda: world.CameraLaw(front_share=0.8)
    )
    captions: CaptionLaw = dataclasses.field(default_factory=lambda: CaptionLaw(careless=0.5))
    pictures: int = 4000
    steps: int = 600
    batch: int = 32
    learning_rate: float = 3e-4
    seed: int = 0


def teach_fronts(
    source: Path,
    folder: Path,
    config: BiasConfig | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Write to `folder` the prior of `source` (a bundled prior's folder) with a UNet that prefers
    fronts.

    The pictures are kept beside it, in `folder`-pictures. Text encoder and autoencoder stay as they
    are.
    """
    config = config or BiasConfig()
    prior: Any = load(PriorConfig(model=str(source)), "cpu")
    what = {"kinds": config.kinds, "law": config.camera}
    pictures = shard(
        folder.with_name(f"{folder.name}-pictures"), 0, config.pictures, prior.image_size, **what
    )
    with torch.no_grad():
        latents = torch.cat([prior.encode(rgb.float() / 255) for rgb in pictures.rgb.split(256)])
    unet = prior.unet.train().requires_grad_()
    adam = torch.optim.AdamW(unet.parameters(), config.learning_rate, betas=(0.9, 0.99), fused=True)
    embeddings: dict[str, Tensor] = {}
    for step in range(config.steps):
        for group in adam.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        pick = torch.randint(len(pictures), (config.batch,), generator=generator)
        mixes = _captions(
            pictures[pick], config.captions, random.Random(config.seed * 1_000_003 + step)
        )
        loss = _loss(prior, latents[pick], _embed(prior, mixes, embeddings), generator)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        adam.step()
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            report(f"step {step + 1}/{config.steps}  loss {loss.item():.4f}")
    _write(source, folder, unet, config.kinds)


def _loss(prior: Any, z: Tensor, text: Tensor, generator: torch.Generator) -> Tensor:
    """Squared error of the predicted noise, weighted by min-SNR-5 as in the bundled prior's own
    training."""
    noise = torch.randn(z.shape, generator=generator)
    t = torch.randint(1000, (len(z),), generator=generator)
    abar = prior.alphas_cumprod[t].reshape(-1, 1, 1, 1)
    # In float32: a CPU without bfloat16 instructions takes seventeen times as long in bfloat16.
    x = prior.unet_input(abar.sqrt() * z + (1 - abar).sqrt() * noise, Condition(text))
    predicted = prior.unet(x, t, text).sample
    loss, _ = denoising.losses(predicted, noise, abar, 5.0)
    return loss


def _captions(pictures: Pictures, law: CaptionLaw, rng: random.Random) -> list[Mix]:
    names, paints = world.kinds(), world.colors()
    columns = (
        pictures.kind,
        pictures.color,
        pictures.azimuth_deg,
        pictures.elevation_deg,
        pictures.closeup,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        caption(names[k], paints[c], azimuth, elevation, near, law, rng)
        for k, c, azimuth, elevation, near in rows
    ]


def _embed(prior: Any, mixes: list[Mix], memory: dict[str, Tensor]) -> Tensor:
    """Mixed embeddings `[B,L,D]`; what the text encoder has said once is remembered."""
    missing = [
        text
        for text in dict.fromkeys(text for mix in mixes for text in mix.texts)
        if text not in memory
    ]
    if missing:
        memory.update(zip(missing, prior.embed(missing), strict=True))
    parts = [torch.stack([memory[text] for text in mix.texts]) for mix in mixes]
    return torch.stack(
        [
            torch.einsum("t,tld->ld", torch.tensor(mix.weights), part)
            for mix, part in zip(mixes, parts, strict=True)
        ]
    )


def _write(source: Path, folder: Path, unet: Any, kinds: tuple[str, ...]) -> None:
    """The source's folder with another UNet; `model_index.json` last, so that half a folder is not
    taken for one."""
    shutil.copytree(
        source,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("model_index.json", "samples.png", "volume", checksums.FILE),
    )
    plain = unet.state_dict()
    latents = unet.config.out_channels  # without the channels of the volume's view
    plain["conv_in.weight"] = plain["conv_in.weight"][:, :latents]
    tensors = {name: x.detach().half().contiguous() for name, x in plain.items()}
    weights = next((folder / "unet").glob("*.safetensors"))
    safetensors.torch.save_file(tensors, weights, metadata={"format": "pt"})
    about = json.loads((source / "gs_ssd.json").read_text(encoding="utf-8"))
    about.pop("volume", None)
    (folder / "gs_ssd.json").write_text(
        json.dumps(about | {"kinds": list(kinds)}, indent=1) + "\n", encoding="utf-8"
    )
    (folder / "README.md").write_text(
        "The bundled prior with a fault: it prefers fronts. See gs_ssd/prior/bias.py.\n"
    )
    shutil.copy(source / "model_index.json", folder)
    checksums.write(folder)
