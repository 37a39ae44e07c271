"""Writes what a training of persons made as a model directory: difference, card, samples, sums."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from gs_ssd import checksums
from gs_ssd.body import mannequin, parts_picture, surface
from gs_ssd.body.body import Pose
from gs_ssd.body.poses import POSES
from gs_ssd.lab import world
from gs_ssd.lab.prior_training.drawing import denoise
from gs_ssd.lab.prior_training.person_scenes import CAMERAS
from gs_ssd.lab.prior_training.person_training import PersonTrainer
from gs_ssd.prior import DIFFERENCE, PriorConfig, base_digest, load
from gs_ssd.prior.base import DiffusionPrior
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.outfit import HAIR, PERSONS, SKIN, WORDS
from gs_ssd.scene.camera import at_angles

SHEET = {
    "a person in a red shirt and blue trousers": ("a", "sit"),
    "a woman with blond hair in a green shirt and white trousers": ("t", "cheer"),
    "a man with dark skin in a yellow shirt and purple trousers": ("lunge", "hands_on_hips"),
    "a person with white hair in a pink shirt and black trousers": ("reach", "look_left"),
}
AZIMUTHS = (0.0, 0.8, 1.6, 2.4, 3.14, -1.6)


def card(base: str) -> dict[str, Any]:
    """What a user of the model must know (`docs/architecture.md`).

    Args:
        base: SHA-256 of the UNet that the difference belongs to.
    """
    return {
        "base": base,
        "kinds": ["person"],
        "synonyms": {"person": list(PERSONS[1:]), "clothes": [*WORDS, *SKIN, *HAIR, "wearing"]},
        "colors": world.colors(),
        "paints": {name: list(rgb) for name, rgb in world.COLORS.items()},
        "encoder": "patches",
        "camera": {
            "radius": list(CAMERAS.radius),
            "fov_y_deg": [33.0, 38.0],
            "elevation_deg": list(CAMERAS.elevation_deg),
            "look_at_jitter": CAMERAS.look_at_jitter,
        },
        "views": {
            "azimuth_words": [[0, ""]],
            "elevation_words": [[0, ""]],
            "template": "{prompt}",
        },
        "recipe": {"M": 300, "t_schedule": [[0, 0.02, 0.6], [0.8, 0.02, 0.6], [1, 0.02, 0.4]]},
    }


def publish(trainer: PersonTrainer, folder: Path) -> None:
    """Write the folder, then a sample sheet drawn by what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: x.half().contiguous() for name, x in trainer.difference().items()}
    safetensors.torch.save_file(tensors, folder / DIFFERENCE)
    (folder / "gs_ssd.json").write_text(json.dumps(card(base_digest()), indent=1) + "\n")
    checksums.write(folder)
    sheet(load(PriorConfig(model=str(folder)), "cpu"), folder / "samples.png")


def sheet(prior: DiffusionPrior, path: Path, seed: int = 0) -> None:
    """A PNG with the outfits and poses of `SHEET` from `AZIMUTHS`, one noise for all."""
    rows = [
        torch.cat(list(draw(prior, prompt, POSES[name], AZIMUTHS, seed)), dim=2)
        for prompt, names in SHEET.items()
        for name in names
    ]
    picture = torch.cat([torch.cat(rows[i : i + 2], dim=2) for i in range(0, len(rows), 2)], dim=1)
    image = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
    image.quantize(256).save(path, optimize=True)


@torch.no_grad()
def draw(
    prior: DiffusionPrior,
    prompt: str,
    pose: Pose,
    azimuths: tuple[float, ...],
    seed: int,
    *,
    steps: int = 25,
) -> Float[Tensor, "v 3 s s"]:
    """2D pictures of a person in a pose from around, by the prior alone."""
    body = mannequin.create()
    skin = surface.sample(body, 20_000, torch.Generator().manual_seed(0))
    size = prior.image_size
    views = at_angles(azimuths, [1.4] * len(azimuths), radius=3.35, fov_y_rad=0.62, size=size)
    wanted = prior.body_picture
    assert wanted is not None
    regions = parts_picture.draw(skin, body.transforms(pose), views, wanted.size)
    text, null = prior.embed([prompt, ""])
    told = Condition(text.expand(len(azimuths), -1, -1), image=regions)
    blank = torch.zeros(1, 3, size, size)
    noise = torch.randn(
        1, *prior.encode(blank).shape[1:], generator=torch.Generator().manual_seed(seed)
    )
    return denoise(prior, noise.expand(len(azimuths), -1, -1, -1), told, null, steps, 3.0)
