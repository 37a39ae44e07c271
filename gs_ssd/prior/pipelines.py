"""A diffusers StableDiffusionPipeline out of a folder or a single file, with learned tokens and
LoRA files.

Whatever is missing, truncated or of another kind becomes one `UserError` that names it (`door`).
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import entries, require_plain_file
from gs_ssd.prior import PriorConfig, lora, multiview_files, textual_inversion, weight_files
from gs_ssd.prior.card import check_card
from gs_ssd.prior.hub import HubError, first_sentence, from_hub
from gs_ssd.prior.schedulers import ddim
from gs_ssd.prior.single_file import SingleFile, read_names
from gs_ssd.prior.sources import fetch_configs, locate

log = logging.getLogger(__name__)

# diffusers loads its classes lazily, which type checkers cannot follow.
PARTS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
}
XL_PARTS: dict[str, Any] = PARTS | {"text_encoder_2": CLIPTextModelWithProjection}
PIPELINE: Any = StableDiffusionPipeline
XL_PIPELINE: Any = StableDiffusionXLPipeline
SCHEDULER: Any = DDIMScheduler


@contextlib.contextmanager
def door(what: str) -> Iterator[None]:
    """Turn what the libraries raise on bad, absent or truncated files into one `UserError` that
    names them."""
    try:
        yield
    except HubError as error:
        raise UserError(
            f"{what} cannot be fetched ({error}); place it in a folder and give its path"
        ) from error
    except (UserError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # the libraries raise every class there is, `Exception` itself among them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{what} cannot be read ({type(error).__name__}: {reason[:300]}); is a file missing,"
            " truncated or of another kind of model? Fetch it again"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars while files load, and no advice; warnings stay, as some say that a result
    will be another."""
    before = [
        (library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)
    ]
    for library, _ in before:
        library.set_verbosity_warning()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity in before:
            library.set_verbosity(verbosity)
            library.enable_progress_bar()


def fetched(kind: Any, name: str, offline: bool) -> Any:
    """A model of one part (tiny VAE, ControlNet) from a folder, the hub or its cache."""
    return from_hub(
        lambda local: kind.from_pretrained(name, local_files_only=local), name, offline=offline
    )


def open_pipeline(path: Path, config: PriorConfig, *, half: bool) -> Any:
    """The pipeline in a folder or single file, with the config's learned tokens and LoRA files.

    Raises:
        UserError: a file is missing, truncated or of another kind.
    """
    with _quiet():
        pipe = _load_single_file(path, config) if path.is_file() else _load_folder(path, half)
        _load_additions(pipe, config)
    return pipe


def read_metadata(path: Path) -> dict[str, Any]:
    card = path / "gs_ssd.json"
    if not card.is_file():
        return {}
    with door(str(card)):
        metadata = json_text.parse(card.read_text(encoding="utf-8"))
    check_card(metadata, card)
    return metadata


def _load_folder(folder: Path, half: bool) -> Any:
    """Component by component, so that nothing unused (safety checker, feature extractor) is asked
    for."""
    index = _json_object(folder, "model_index.json")
    xl = "text_encoder_2" in index or (folder / "text_encoder_2").is_dir()
    parts = {name: _load_part(folder, name, half) for name in (XL_PARTS if xl else PARTS)}
    parts |= {
        name: _load_tokenizer(folder, name)
        for name in (("tokenizer", "tokenizer_2") if xl else ("tokenizer",))
    }
    _json_object(folder / "scheduler", "scheduler_config.json")
    with door(f"{folder / 'scheduler'}"):
        parts["scheduler"] = ddim(
            SCHEDULER.load_config(str(folder / "scheduler")), str(folder / "scheduler")
        )
    _check_fit(folder, parts)
    with door(str(folder)):
        if not xl:
            return _pipeline(**parts)
        return XL_PIPELINE(
            **parts, force_zeros_for_empty_prompt=index.get("force_zeros_for_empty_prompt", True)
        )


def _require(part: Path, *names: str) -> None:
    """One of the files must be there: the libraries would then look for it on the hub, and
    blame that."""
    if not any(file.is_file() and file.match(name) for file in entries(part) for name in names):
        wanted = " or ".join(names)
        raise UserError(
            f"{part}: {wanted} is missing; the model's folder is incomplete, copy or fetch it again"
        )


def _json_object(part: Path, name: str) -> dict[str, Any]:
    """A config that is there and an object; of a list the libraries say that the hub has no such
    model."""
    _require(part, name)
    with door(str(part / name)):
        content = json_text.parse((part / name).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it must hold an object, {...}")
    return content


def _load_part(folder: Path, name: str, half: bool) -> Any:
    _json_object(folder / name, "config.json")
    _require(folder / name, "*.safetensors", "*.bin")
    if name == "unet" and multiview_files.is_multiview(folder):
        with door(f"{folder / name}"):
            return multiview_files.load_unet(folder, half)
    with door(f"{folder / name}"):
        variant = weight_files.variant(folder / name, half)
        part, info = XL_PARTS[name].from_pretrained(
            str(folder / name), variant=variant, output_loading_info=True, local_files_only=True
        )
        missing = [key for key in info["missing_keys"] if "position_ids" not in key]
        if missing:
            raise ValueError(f"{len(missing)} tensors are missing, e.g. {missing[0]}")
    return part


def _load_tokenizer(folder: Path, name: str) -> Any:
    _require(folder / name, "vocab.json", "tokenizer.json")
    with door(f"{folder / name}"):
        return CLIPTokenizer.from_pretrained(str(folder / name), local_files_only=True)


def _check_fit(folder: Path, parts: dict[str, Any]) -> None:
    """Parts of different models, each sound by itself, would fail in the middle of the first
    step."""
    encoders = [parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts]
    width, wanted = (
        sum(encoder.config.hidden_size for encoder in encoders),
        parts["unet"].config.cross_attention_dim,
    )
    if width not in (wanted if isinstance(wanted, list | tuple) else (wanted,)):
        raise UserError(f"{folder}: the text encoder gives {width} channels, "
                        f"the UNet reads {wanted}; "
                        "they are of different models")  # fmt: skip
    latents, predicted = parts["vae"].config.latent_channels, parts["unet"].config.out_channels
    if latents != predicted:
        raise UserError(f"{folder}: the VAE has {latents} latent channels, "
                        f"the UNet predicts {predicted}; "
                        "they are of different models")  # fmt: skip
    size = parts["unet"].config.sample_size
    if type(size) is not int or size < 1:
        raise UserError(
            f"{folder / 'unet' / 'config.json'}: sample_size={size!r} must be a number of latents a"
            " side"
        )
    for name in ("tokenizer", "tokenizer_2"):
        encoder = parts.get(name.replace("tokenizer", "text_encoder"))
        if encoder is not None and len(parts[name]) > encoder.config.vocab_size:
            raise UserError(
                f"{folder / name}: {len(parts[name])} tokens, the text encoder knows "
                f"{encoder.config.vocab_size}; they are of different models"
            )


def _load_single_file(path: Path, config: PriorConfig) -> Any:
    """One .safetensors file in the original layout; configs and missing parts come from
    `prior.base`."""
    if path.suffix != ".safetensors":
        raise UserError(
            f"prior.model: {path} is not a .safetensors file (pickled ones can run code; convert"
            " it)"
        )
    file = read_names(path)
    missing = file.missing(xl=file.kind == "sdxl")
    if missing and config.base is None:
        raise UserError(
            f"prior.model={path} holds no {missing[0]}; set prior.base to a folder or hub id that"
            " has one"
        )
    base = _base_of(file, config)
    xl = (base / "text_encoder_2").is_dir()
    parts: dict[str, Any] = {} if xl else {"safety_checker": None}
    for name in file.missing(xl=xl):
        log.info(
            "prior.model=%s holds no %s; it is taken from prior.base=%s", path, name, config.base
        )
        parts[name] = _load_part(base, name, half=False)
    with door(f"prior.model={path} (configs from {config.base or base})"):
        pipe = (XL_PIPELINE if xl else PIPELINE).from_single_file(
            str(path), config=str(base), local_files_only=True, **parts
        )
    scheduler = {"_class_name": type(pipe.scheduler).__name__, **pipe.scheduler.config}
    pipe.scheduler = ddim(scheduler, f"prior.model={path}")
    return pipe


def _base_of(file: SingleFile, config: PriorConfig) -> Path:
    """The folder with the configs of a single file; without `prior.base` those of its family.

    The library would look for these by itself, and ask the network even where it must not.
    """
    if config.base is not None:
        base = locate(config.base, offline=config.offline, key="prior.base")
        if not base.is_dir():
            raise UserError(f"prior.base={config.base} must be a pipeline folder or a hub id")
        return base
    if file.kind == "sd2":
        raise UserError(
            f"prior.model={file.path} is of Stable Diffusion 2, and such a file does not say"
            " whether it predicts noise or v; set prior.base to a folder or hub id that does"
        )
    try:
        base, source = fetch_configs(file.kind, offline=config.offline)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"prior.model={file.path} needs configs, and those of {file.kind} are neither in the"
            f" cache nor to be fetched ({first_sentence(error)}); set prior.base to a pipeline"
            " folder of the same family"
        ) from error
    log.info("prior.model=%s: configs are those of %s", file.path, source)
    return base


def _pipeline(**parts: Any) -> Any:
    return PIPELINE(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def _load_additions(pipe: Any, config: PriorConfig) -> None:
    """Learned tokens, then LoRA files, fused into the weights: a step costs the same with and
    without them."""
    for entry in config.textual_inversion:
        named = "=" in entry and not Path(entry).expanduser().exists()
        file, _, token = entry.rpartition("=") if named else (entry, "", "")
        if hasattr(pipe, "text_encoder_2"):
            raise UserError("prior.textual_inversion is not supported for SDXL; use a LoRA")
        with door(f"prior.textual_inversion={file}"):
            textual_inversion.learn(pipe, _addition(file), token or None, offline=config.offline)
    for file in config.lora:
        with door(f"prior.lora={file}"):
            lora.fuse(pipe, file, config.lora_scale, offline=config.offline)


def _addition(name: str) -> str:
    """A local path, or a hub id (owner/name) as it is."""
    path = Path(name).expanduser()
    if not path.exists() and (name.count("/") != 1 or path.suffix):
        raise FileNotFoundError("no such file")
    if path.exists() and not path.is_dir():
        require_plain_file(path)
    return str(path) if path.exists() else name
