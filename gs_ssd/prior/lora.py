"""LoRA files, added to the weights of a pipeline: diffusers' layouts, peft's and kohya's, DoRA
included.

Every tensor of a file is accounted for: layers that the model does not have are counted and named,
tensors that are not understood are refused. The library's own loaders drop `dora_scale`, skip
unknown layers and read no `adapter_config.json`, all of which changes the result without an error.
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.prior.hub import from_hub

log = logging.getLogger(__name__)

FILE, PEFT_FILE = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"
PARTS = {
    "lora_unet_": "unet", "unet.": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder",
    "text_encoder.": "text_encoder", "lora_te2_": "text_encoder_2",
    "text_encoder_2.": "text_encoder_2",
}  # fmt: skip
KINDS = {
    "lora_down.weight": "down", "lora.down.weight": "down", "lora_A.weight": "down",
    "lora_A.default.weight": "down", "lora_linear_layer.down.weight": "down",
    "lora_up.weight": "up", "lora.up.weight": "up", "lora_B.weight": "up",
    "lora_B.default.weight": "up", "lora_linear_layer.up.weight": "up",
    "alpha": "alpha", "dora_scale": "dora_scale", "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_magnitude_vector.default.weight": "magnitude",
}  # fmt: skip
_KIND = re.compile(
    r"(?P<layer>.+?)(?:\.|(?<=to_[qkv])_|(?<=to_out)_)(?P<kind>"
    + "|".join(map(re.escape, KINDS))
    + ")"
)
_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass
class Layer:
    """What a file holds for one weight: `down` (r, in, ...), `up` (out, r, ...), the rest where the
    file has it."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    scale: float = 1.0

    def applied(self, weight: Float[Tensor, "out *in"]) -> Float[Tensor, "out *in"]:
        """The weight with this layer at full strength, float32.

        A plain LoRA adds scale x up x down. DoRA (Liu et al. 2024, arXiv 2402.09353) then gives
        every output's row the length that the file has learned for it.

        Raises:
            ValueError: a shape that does not fit the weight.
        """
        down, up = self.tensors["down"].float().flatten(1), self.tensors["up"].float().flatten(1)
        if (up.shape[0], down.shape[1]) != (weight.shape[0], weight[0].numel()) or up.shape[
            1
        ] != down.shape[0]:
            raise ValueError(
                f"{tuple(up.shape)} x {tuple(down.shape)} for a weight of {tuple(weight.shape)}"
            )
        changed = weight.float() + self.scale * (up @ down).reshape(weight.shape)
        length = self.tensors.get("magnitude", self.tensors.get("dora_scale"))
        if length is None:
            return changed
        rows = changed.flatten(1)
        if length.numel() != len(rows) or (
            "dora_scale" in self.tensors and length.shape[0] != len(rows)
        ):
            raise ValueError(f"a DoRA scale of {tuple(length.shape)} for {len(rows)} outputs")
        rows = rows * (length.float().flatten() / rows.norm(dim=1).clamp_min(1e-12))[:, None]
        return rows.reshape(weight.shape)


def fuse(pipe: Any, name: str, strength: float, *, offline: bool = False) -> None:
    """Add the LoRA file, folder or hub id `name` to the pipeline's weights, in place.

    `strength` goes from the weights without it (0) to the weights with it (1) in a straight line,
    and beyond.

    Raises:
        UserError: less than half of its layers belong to this model, or it holds what cannot be
            applied.
        OSError, SafetensorError: an absent or damaged file.
    """
    path = from_hub(partial(find, name), name, offline=offline)
    tensors, settings = read(path)
    layers = collect(name, tensors)
    places = {layer: place for layer in layers if (place := _place(pipe, layer)) is not None}
    _refuse_stranger(name, [layer for layer in layers if layer not in places], len(layers))
    fused = []
    for layer, (part, module) in places.items():
        content, weight = layers[layer], getattr(pipe, part).get_submodule(module).weight
        content.scale = _scale(content, settings, part, module)
        try:
            fused.append(
                (weight, torch.lerp(weight.data.float(), content.applied(weight.data), strength))
            )
        except ValueError as error:
            raise UserError(
                f"prior.lora={name}: {layer} does not fit this model ({error}); use a LoRA made for"
                " the same model"
            ) from error
    for weight, value in fused:
        weight.data.copy_(value)
    log.info("prior.lora=%s: %d layers fused into the weights", name, len(fused))


def find(name: str, local: bool) -> Path:
    """The file of a path, a folder, or a hub id (owner/name), fetched where not `local`."""
    path = Path(name).expanduser()
    if path.is_dir():
        found = [path / file for file in (FILE, PEFT_FILE) if (path / file).is_file()] or list(
            path.glob("*.safetensors")
        )
        if len(found) != 1:
            raise UserError(
                f"prior.lora={name}: the folder holds {len(found)} .safetensors files; name the one"
                " to use"
            )
        return found[0]
    if path.is_file():
        return path
    if name.count("/") != 1 or path.suffix:
        raise FileNotFoundError("no such file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, FILE, local_files_only=local))
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        raise UserError(
            f"prior.lora={name}: the repository has no {FILE}; download the file that you want and"
            " give its path"
        ) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file, and peft's settings (rank, alpha, ...) where it or its folder has
    some."""
    if path.suffix != ".safetensors":
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return tensors, {}
    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        settings = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    beside = path.with_name("adapter_config.json")
    if path.name == PEFT_FILE and beside.is_file():
        settings |= json.loads(beside.read_text(encoding="utf-8"))
    return tensors, settings


def collect(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Layer]:
    """The tensors by layer.

    Raises:
        UserError: a tensor that is no part of a LoRA or DoRA, or a pair of which one is missing.
    """
    layers: dict[str, Layer] = {}
    for key, tensor in tensors.items():
        match = _KIND.fullmatch(key)
        if match is None:
            raise UserError(
                f"prior.lora={name}: {key} is no tensor of a LoRA or DoRA (LoHa, LoKr, biases and"
                " learned tokens in a LoRA file are not supported); convert it to a plain LoRA"
            )
        layers.setdefault(match["layer"], Layer()).tensors[KINDS[match["kind"]]] = tensor
    for layer, content in layers.items():
        absent = {"down", "up"} - content.tensors.keys()
        if absent:
            raise UserError(
                f"prior.lora={name}: {layer} has no {' and no '.join(sorted(absent))} matrix; fetch"
                " it again"
            )
    if not layers:
        raise UserError(f"prior.lora={name} holds no tensors; fetch it again")
    return layers


def _place(pipe: Any, layer: str) -> tuple[str, str] | None:
    """Part and module that a file's layer stands for, e.g. ("unet",
    "mid_block.attentions.0.proj_in")."""
    inner = layer.removeprefix("base_model.model.")
    prefix = next((p for p in sorted(PARTS, key=len, reverse=True) if inner.startswith(p)), "")
    part = PARTS.get(prefix, "unet")
    inner = inner.removeprefix(prefix).removeprefix("base_model.model.")
    names = _names(getattr(pipe, part, None))
    flat = inner.replace(".", "_").replace("_processor_", "_")
    if part == "unet":
        return _named(part, names, flat, f"{flat}_0") or _place_original(pipe, layer, names)
    flat = flat.removeprefix("text_model_")
    last = next((old for old in _TEXT_NAMES if flat.endswith(f"_{old}")), None)
    return _named(
        part, names, flat if last is None else flat.removesuffix(last) + _TEXT_NAMES[last]
    )


def _place_original(pipe: Any, layer: str, names: Mapping[str, str]) -> tuple[str, str] | None:
    """A layer under the name of the original UNet (input_blocks, ...), translated by diffusers' own
    table."""
    if not re.match(
        r"lora_unet_(input_blocks|middle_block|output_blocks|time_embed|label_emb|out_)", layer
    ):
        return None
    pair = {f"{layer}.lora_{kind}.weight": torch.zeros(1, 1) for kind in ("down", "up")}
    try:
        translated, _ = pipe.lora_state_dict(pair, unet_config=pipe.unet.config)
    except (KeyError, ValueError, IndexError):  # a block that this UNet does not have
        return None
    inner = re.sub(r"[._]lora\.(down|up)\.weight$", "", next(iter(translated))).removeprefix(
        "unet."
    )
    flat = inner.replace(".", "_").replace("_processor_", "_")
    return _named("unet", names, flat, f"{flat}_0")


def _named(part: str, names: Mapping[str, str], *candidates: str) -> tuple[str, str] | None:
    return next(((part, names[flat]) for flat in candidates if flat in names), None)


def _names(model: Any) -> dict[str, str]:
    """Module names by their spelling without dots, of all that a LoRA can change."""
    if model is None:
        return {}
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    found = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return {name.removeprefix("text_model.").replace(".", "_"): name for name in found}


def _scale(layer: Layer, settings: Mapping[str, Any], part: str, module: str) -> float:
    """alpha / rank; alpha is the layer's own, else that of peft's settings, else the rank."""
    rank = layer.tensors["down"].shape[0]
    own = {key.removeprefix(f"{part}."): value for key, value in settings.items()}
    alpha = own.get("lora_alpha", rank)
    for pattern, value in (own.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
    if "alpha" in layer.tensors:
        alpha = layer.tensors["alpha"].item()
    return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _refuse_stranger(name: str, strange: list[str], count: int) -> None:
    if not strange:
        return
    shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
    if 2 * len(strange) > count:
        found = "none" if len(strange) == count else f"only {count - len(strange)}"
        raise UserError(
            f"prior.lora={name}: {found} of its layers are of this model ({len(strange)} of {count}"
            f" are not: {shown}); use a LoRA made for the same model"
        )
    log.warning(
        "prior.lora=%s: %d of %d layers are not of this model and do nothing: %s",
        name,
        len(strange),
        count,
        shown,
    )
