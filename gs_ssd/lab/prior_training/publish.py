"""Writes a trained run as a model directory with its metadata (`gs_ssd.json`), sample sheet and
card."""

import dataclasses
import json
import platform
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gs_ssd import checksums
from gs_ssd.errors import UserError
from gs_ssd.json_lines import read_records
from gs_ssd.lab import world
from gs_ssd.lab.prior_training.captions import (
    AZIMUTH_WORDS,
    CLOSEUP,
    ELEVATION_WORDS,
    SYNONYMS,
    TEMPLATE,
    Mix,
    view_mix,
)
from gs_ssd.lab.prior_training.decoder import build_autoencoder, load_state
from gs_ssd.lab.prior_training.models import ModelConfig, build_scheduler, save_pipeline
from gs_ssd.lab.prior_training.train import Embedder, PriorTrainer
from gs_ssd.maths.color import to_uint8
from gs_ssd.run.pictures import write_sheet

SHEET_AZIMUTHS = (0.0, 45.0, 90.0, 180.0)


def metadata(config: ModelConfig, law: world.CameraLaw) -> dict[str, Any]:
    """What a user of the model must know; the contract is in docs/architecture.md."""
    return {
        "kinds": world.kinds(),
        "colors": world.colors(),
        "synonyms": {word: list(others) for word, others in SYNONYMS.items()},
        "image_size": config.image_size,
        "camera": {
            "radius": list(law.radius),
            "fov_y_deg": list(law.fov_y_deg),
            "elevation_deg": list(law.elevation_deg),
            "look_at_jitter": law.look_at_jitter,
            "object_half_extent": 0.8,
            "closeup": {
                "template": CLOSEUP,
                "fov_y_deg": list(law.closeup_fov_y_deg),
                "look_at_jitter": law.closeup_look_at_jitter,
                "share": law.closeup_share,
            },
        },
        "views": {
            "azimuth_words": [list(pair) for pair in AZIMUTH_WORDS],
            "elevation_words": [list(pair) for pair in ELEVATION_WORDS],
            "template": TEMPLATE,
        },
        "recipe": {},
    }


@torch.no_grad()
def sample(
    unet: Any,
    embed: Embedder,
    mixes: Sequence[Mix],
    config: ModelConfig,
    seed: int,
    *,
    steps: int = 25,
    scale: float = 4.0,
) -> Tensor:
    """DDIM samples as latents `[B,C,h,w]`, with mixed embeddings; guidance `e_uncond + scale
    (e_cond - e_uncond)`."""
    generator = torch.Generator().manual_seed(seed)
    size = config.latent_size
    x = torch.randn(len(mixes), config.latent_channels, size, size, generator=generator)
    cond, uncond = embed(list(mixes)), embed([Mix(("",), (1.0,))]).expand(len(mixes), -1, -1)
    both = torch.cat([uncond, cond])
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        free, told = unet(torch.cat([x, x]), t, both).sample.chunk(2)
        x = scheduler.step(free + scale * (told - free), t, x).prev_sample
    return x


@torch.no_grad()
def sample_sheet(
    run: PriorTrainer, vae: Any, path: Path, kinds: Sequence[str] | None = None, seed: int = 0
) -> None:
    """A PNG with every kind, in one of the colours, from `SHEET_AZIMUTHS`; four kinds a row."""
    unet, text_encoder = run.averaged()
    embed = Embedder(
        text_encoder, run.embed.tokenizer, run.config.model.text_length, torch.device("cpu")
    )
    strips = []
    for index, kind in enumerate(kinds or world.kinds()):
        prompt = f"a {world.colors()[index % len(world.colors())]} {kind}"
        mixes = [view_mix(prompt, azimuth, 15.0) for azimuth in SHEET_AZIMUTHS]
        pixels = (
            vae.decode(sample(unet, embed, mixes, run.config.model, seed)).sample.clamp(-1, 1) * 0.5
            + 0.5
        )
        strips.append(to_uint8(pixels))
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [np.concatenate(strips[i : i + 4]) for i in range(0, len(strips), 4)]
    write_sheet(path, rows, colors=128)


def publish(
    run: PriorTrainer, decoder: Path, folder: Path, *, recipe: dict[str, Any] | None = None
) -> None:
    """Write `folder`: a fp16 StableDiffusionPipeline, `gs_ssd.json`, `samples.png`, the card
    `README.md` and the checksums of it all.

    Without a `recipe` the one in `folder` stays, until somebody measures it again.

    Raises:
        UserError: the run has no log, or one that cannot be read.
    """
    numbers = run.folder / "log.jsonl"
    log = list(read_records(numbers, {"step": int, "seconds": float, "loss": float, "mse": float}))
    if not log:
        raise UserError(f"{numbers}: no numbers of a training; publish the folder of one")
    unet, text_encoder = run.averaged()
    vae = build_autoencoder(run.config.model, run.basis())
    state = load_state(decoder)
    if state["step"]:
        vae.decoder.load_state_dict(state["decoder"])
    about = metadata(run.config.model, world.CameraLaw())
    before = folder / "gs_ssd.json"
    about["recipe"] = recipe or (
        json.loads(before.read_text())["recipe"] if before.exists() else {}
    )
    folder.mkdir(parents=True, exist_ok=True)
    sample_sheet(run, vae.eval(), folder / "samples.png")
    parts = {"UNet": unet, "text encoder": text_encoder, "autoencoder": vae}
    sizes = {name: sum(x.numel() for x in part.parameters()) for name, part in parts.items()}
    save_pipeline(folder, run.config.model, unet, text_encoder, vae, about)
    (folder / "README.md").write_text(_card(run, log, sizes, int(state["step"])))
    checksums.write(folder)


def _card(
    run: PriorTrainer, log: list[dict[str, Any]], sizes: dict[str, int], decoder_steps: int
) -> str:
    config = run.config
    picks = [log[int(i * (len(log) - 1) / 9)] for i in range(10)] if len(log) > 10 else log
    losses = "\n".join(
        f"| {r['step']} | {r['seconds'] / 60:.0f} | {r['loss']:.4f} | {r['mse']:.4f} |"
        for r in picks
    )
    rows = "\n".join(f"| {name} | {count / 1e6:.2f} M |" for name, count in sizes.items())
    recipe = json.dumps(
        {k: v for k, v in dataclasses.asdict(config).items() if k != "model"}, indent=1
    )
    world_size = f"{len(world.kinds())} kinds of object in {len(world.colors())} colours"
    where = "one CPU thread" if run.device.type == "cpu" else torch.cuda.get_device_name()
    return f"""# The bundled prior

A small text-conditioned latent diffusion model of {world_size},
{config.model.image_size} pixels square, in the layout of a diffusers `StableDiffusionPipeline`.

**It can draw** {textwrap.fill(", ".join(world.kinds()), 118)};
in {", ".join(world.colors())};
alone before a plain background, from the view that the prompt names, in the plain style below. **It
cannot draw** anything else: other nouns, adjectives, scenes, two objects. Colour words paint an
object's main part. Licence: that of the project; no other model or picture went into it.

![samples: every kind from four sides](samples.png)

## Data
{config.shards * config.shard_size:,} pictures that the project's own ray tracer (`gs_ssd/world`)
made: every kind equally often, random colour, proportions, camera, light and plain background. The
camera law is in `gs_ssd.json`. Captions name kind, colour and view; the view words' embeddings are
mixed by the exact camera angles.

## Parameters
| part | size |
|---|---|
{rows}

The autoencoder's encoder is a constant matrix (principal components of 4x4 patches); its decoder
took {decoder_steps} steps.

## Training
{run.step:,} steps, {config.presentations(run.step):,} pictures in all, {run.seconds / 60:.0f}
minutes of training steps on {platform.machine()}, {where}, PyTorch {torch.__version__}. `loss` is
weighted by min-SNR-5, `mse` is the plain squared error of the predicted noise.

| step | minutes | loss | mse |
|---|---|---|---|
{losses}

```json
{recipe}
```

Reproduce (repeat until it says `done`):

    python tools/train_prior.py all --preset cpu --folder runs/prior --out gs_ssd/prior/bundled
"""
