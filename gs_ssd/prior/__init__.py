"""2D diffusion models. `load` is the only door; see `base.DiffusionPrior` for what comes out."""

import os
from pathlib import Path
from typing import Annotated, Literal

import torch

from gs_ssd import checksums
from gs_ssd.bounds import Bounds, choice, settings
from gs_ssd.errors import UserError
from gs_ssd.prior.base import DiffusionPrior
from gs_ssd.prior.sources import check_name, locate, name_of

BUNDLED = Path(__file__).parent / "bundled"
PERSON = Path(__file__).parent / "bundled_person"
UNET = "unet/diffusion_pytorch_model.safetensors"
DIFFERENCE = "difference.safetensors"
"""Marks a folder that holds a difference from the bundled prior, and no pipeline of its own."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Dtype = Annotated[str, choice(DTYPES)]

OF_A_NETWORK = ("prediction", "tiny_vae", "lora", "textual_inversion", "controlnet")
"""Settings that change what a network answers."""

__all__ = ["BUNDLED", "PERSON", "DiffusionPrior", "PriorConfig", "choose_dtype", "load"]


@settings
class PriorConfig:
    """Which 2D model guides, and how it runs."""

    model: str = "bundled"
    """A short name (bundled, person, sd21-base, sd15, sdxl, mvdream, analytic), a hub id, a
    pipeline folder, one .safetensors file."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    base: str | None = None
    """For a single file: pipeline folder or hub id with the matching configs, and with parts that
    the file lacks; without it those of Stable Diffusion 1 or XL, as the file is (2.x needs one)."""
    prediction: Literal["epsilon", "v_prediction"] | None = None
    """"epsilon" or "v_prediction", where the model's own scheduler config is wrong or absent."""
    dtype: Dtype | None = None
    """float32 | float16 | bfloat16; by default float16 on a GPU and float32 on a CPU."""
    vae_dtype: Dtype | None = None
    """The VAE's own, where it must differ (float32 cures a VAE that overflows in half
    precision)."""
    image_size: Annotated[int, Bounds(8, 4096)] | None = None
    """Pixels a side that the VAE sees; by default the model's. Smaller saves memory and time."""
    tiny_vae: str | None = None
    """Folder or hub id of an AutoencoderTiny that replaces the VAE (e.g. madebyollin/taesd)."""
    lora: tuple[str, ...] = ()
    """LoRA files (diffusers/peft or kohya layout)."""
    lora_scale: Annotated[float, Bounds(-100, 100)] = 1.0
    textual_inversion: tuple[str, ...] = ()
    """Learned tokens, each "file" or "file=token"."""
    controlnet: str | None = None
    """Folder or hub id of a ControlNet, driven by the rendered depth or by an avatar's skeleton."""
    control: Literal["depth", "openpose"] | None = None
    """What drives it; by default what its name says, else depth."""
    control_scale: Annotated[float, Bounds(-100, 100)] = 1.0
    variety: Annotated[float, Bounds(0, 3)] = 0.0
    """How far the object's proportions, drawn from the seed, are from the mean of its kind; 1: as
    the objects that the bundled prior was taught differ. Only for a prior that has a shape in mind
    (bundled)."""
    sliced_vae: bool = False
    """Encode and decode one view at a time: less memory, a little slower."""
    attention_slicing: bool = False
    """Only where torch has no fused attention: it replaces that one, and then costs time and
    memory."""
    channels_last: bool = True
    compile: bool = False
    """torch.compile the noise prediction (a minute of warming up)."""
    offline: bool = False
    """Never ask the network; HF_HUB_OFFLINE=1 does the same."""


def load(config: PriorConfig, device: torch.device | str) -> DiffusionPrior:
    """The prior that `config.model` names, on `device`.

    Raises:
        UserError: unknown or missing model, unreadable or truncated weights, no network; the
            message says the fix.
    """
    device = torch.device(device)
    if config.base is not None and not config.model.endswith(".safetensors"):
        raise UserError(
            f"prior.base={config.base} says where a single .safetensors file finds its configs, and"
            f" prior.model={config.model} is none; leave prior.base out"
        )
    if config.revision is not None and _is_local(config.model):
        raise UserError(
            f"prior.revision={config.revision} names a commit on the hub, and prior.model="
            f"{config.model} is not fetched from there; leave prior.revision out"
        )
    if config.model == "analytic":
        return _analytic(config, device)
    dtype = choose_dtype(config.dtype, device)
    if config.base is not None:
        check_name(config.base, "prior.base")
    path = _locate(
        config, half=dtype != torch.float32
    )  # before the import of diffusers, which takes seconds
    os.environ.setdefault(
        "TRANSFORMERS_VERBOSITY", "error"
    )  # read when it is imported: it warns of what is not used
    try:
        from gs_ssd.prior.multiview import MultiViewPrior
        from gs_ssd.prior.multiview_unet import MultiViewUNet
        from gs_ssd.prior.pipelines import open_pipeline, read_metadata
        from gs_ssd.prior.stable_diffusion import StableDiffusionPrior
        from gs_ssd.prior.stable_diffusion_xl import StableDiffusionXLPrior
    except ImportError as error:
        raise UserError(
            f"prior.model={config.model} needs diffusers and transformers ({error}): pip install"
            " diffusers transformers"
        ) from error
    pipe = open_pipeline(path, config, half=dtype != torch.float32)
    metadata = read_metadata(path)
    if (taught := taught_on_bundled(config.model)) is not None:
        from gs_ssd.prior.person_prior import open_person

        prior = open_person(taught, pipe, config, device, dtype, metadata)
        prior.source = name_of(taught)
        return prior
    if "volume" in metadata:
        from gs_ssd.prior.volume_prior import VolumePrior, read_volume

        prior = VolumePrior(pipe, config, device, dtype, metadata, *read_volume(path, metadata))
    else:
        kind = StableDiffusionXLPrior if hasattr(pipe, "text_encoder_2") else StableDiffusionPrior
        kind = MultiViewPrior if isinstance(pipe.unet, MultiViewUNet) else kind
        prior = kind(pipe, config, device, dtype, metadata)
    prior.source = name_of(path)
    return prior


def _is_local(model: str) -> bool:
    return model in ("bundled", "person", "analytic") or Path(model).expanduser().exists()


def _analytic(config: PriorConfig, device: torch.device) -> DiffusionPrior:
    """The exact prior.

    Raises:
        UserError: a setting is given that it has no use for.
    """
    from gs_ssd.prior.analytic import AnalyticPrior

    prior, default = AnalyticPrior.discs(device), PriorConfig()
    own = {"dtype": "float32", "vae_dtype": "float32", "image_size": prior.image_size}
    for name in (*OF_A_NETWORK, *own):
        value = getattr(config, name)
        if value != getattr(default, name) and value != own.get(name, value is None):
            raise UserError(
                f"prior.{name} has no effect on prior.model=analytic, which is a formula without "
                f"weights; leave prior.{name} out, or name another model"
            )
    return prior


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The dtype of a config's word; without one, half precision on a GPU and single on a CPU."""
    if name is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES[name]


def taught_on_bundled(model: str) -> Path | None:
    """The folder of a model that is a difference from the bundled prior; None for all others."""
    folder = PERSON if model == "person" else Path(model)
    return folder if model == "person" or (folder / DIFFERENCE).is_file() else None


def base_digest() -> str:
    """SHA-256 of the bundled UNet, as its list has it: what a difference belongs to."""
    lines = (BUNDLED / checksums.FILE).read_text(encoding="ascii").splitlines()
    return next(line.split("  ")[0] for line in lines if line.endswith(f"  {UNET}"))


def _locate(config: PriorConfig, *, half: bool) -> Path:
    if (taught := taught_on_bundled(config.model)) is not None:
        checksums.check(taught, "reinstall the package, or publish the model again")
    elif config.model != "bundled":
        path = locate(config.model, revision=config.revision, offline=config.offline, half=half)
        if (path / "gs_ssd.json").is_file() and (path / checksums.FILE).is_file():  # one of ours
            checksums.check(
                path,
                f"fetch it again (or delete {checksums.FILE}, if you have changed it yourself)",
            )
        return path
    if not (BUNDLED / "model_index.json").is_file():
        raise UserError(
            f"prior.model: the bundled prior is missing from {BUNDLED}; reinstall, or name another"
            " model"
        )
    checksums.check(BUNDLED, "reinstall the package")
    return BUNDLED
