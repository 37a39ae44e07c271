"""Writes a UNet that sees a volume, and its volume, as a model directory: metadata, sample sheet
and card."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from gs_ssd import checksums
from gs_ssd.lab import world
from gs_ssd.lab.prior_training import drawing, sides
from gs_ssd.lab.prior_training.camera_training import CameraTrainer
from gs_ssd.lab.prior_training.held_out import held_out
from gs_ssd.lab.prior_training.volume_training import VolumeTrainer
from gs_ssd.maths.color import to_uint8
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.volume import TextVolume, open_volume, save
from gs_ssd.run.pictures import write_sheet

SHEET_AZIMUTHS = (0.0, 60.0, 120.0, 180.0, 240.0, 300.0)
UNET = "unet/diffusion_pytorch_model.safetensors"
VOLUME = "volume"


def publish(camera: CameraTrainer, volume: VolumeTrainer, base: Path, folder: Path) -> None:
    """Write `folder`: `base` with the new UNet and the volume, and what is said of them.

    `folder` may be `base`."""
    with _renewed(base, folder) as new:
        write_parts(new, camera.average, volume.averaged())
        about = json.loads((new / "gs_ssd.json").read_text())
        about |= {
            "encoder": "patches",
            "volume": {"folder": VOLUME, "held_out": sorted(map(list, held_out()))},
        }
        (new / "gs_ssd.json").write_text(json.dumps(about, indent=1) + "\n")


def publish_volume(volume: VolumeTrainer, base: Path, folder: Path) -> None:
    """Write `folder`: `base` with another volume for its UNet. `folder` may be `base`."""
    _, unet_input = open_volume(base / VOLUME)
    with _renewed(base, folder) as new:
        save(volume.averaged(), unet_input, new / VOLUME)


@contextlib.contextmanager
def _renewed(base: Path, folder: Path) -> Iterator[Path]:
    """A copy of `base` to change; afterwards it gets its checksums and samples and becomes
    `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary) / "model"
        shutil.copytree(base, new)
        yield new
        checksums.write(new)
        sample_sheet(new, new / "samples.png")
        shutil.copytree(new, folder, dirs_exist_ok=True)


def write_parts(folder: Path, unet: dict[str, Tensor], volume: TextVolume) -> None:
    """The UNet as diffusers reads it, without the further channels; the volume with their weights,
    in a folder."""
    latents = volume.config.map_channels
    wide = unet["conv_in.weight"]
    plain = dict(unet) | {"conv_in.weight": wide[:, : wide.shape[1] - latents]}
    tensors = {name: x.half().contiguous() for name, x in plain.items()}
    safetensors.torch.save_file(tensors, folder / UNET, metadata={"format": "pt"})
    save(volume, wide[:, wide.shape[1] - latents :], folder / VOLUME)


def sample_sheet(model: Path, path: Path, seed: int = 0) -> None:
    """A PNG with every kind, in one of the colours, from `SHEET_AZIMUTHS`, one noise for all; two
    kinds a row."""
    prior: Any = load(PriorConfig(model=str(model)), "cpu")
    azimuth = torch.tensor(SHEET_AZIMUTHS)
    views = world.orbit(azimuth, torch.full_like(azimuth, 15.0), sides.RADIUS, sides.FOV_Y_DEG)
    strips = []
    for kind in world.kinds():
        color = sides.palette(kind)
        article = "an" if color[0] in "aeiou" else "a"
        pictures = drawing.draw(prior, [f"{article} {color} {kind}"] * len(azimuth), views, seed)
        strips.append(to_uint8(pictures))
    rows = [np.concatenate(strips[i : i + 2]) for i in range(0, len(strips), 2)]
    write_sheet(path, rows, colors=256)
