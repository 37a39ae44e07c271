"""What a LoRA file holds, layer by layer: diffusers' layouts, peft's and kohya's, DoRA included."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import entries, require_plain_file

FILE, PEFT_FILE = "pytorch_lora_weights.safetensors", "adapter_model.safetensors"
KINDS = {
    r"lora_down\.weight": "down", r"lora\.down\.weight": "down",
    r"lora_linear_layer\.down\.weight": "down", r"lora_A(\.\w+)?\.weight": "down",
    r"lora_up\.weight": "up", r"lora\.up\.weight": "up",
    r"lora_linear_layer\.up\.weight": "up", r"lora_B(\.\w+)?\.weight": "up",
    "alpha": "alpha", "dora_scale": "dora_scale",
    r"lora_magnitude_vector((\.\w+)?\.weight)?": "magnitude",
}  # fmt: skip
"""Ends of tensors' names; peft may put the adapter's name in the middle."""
_KIND = re.compile(
    r"(?P<layer>.+?)(?:\.|(?<=to_[qkv])_|(?<=to_out)_)(?P<kind>" + "|".join(KINDS) + ")"
)
REBASED = re.compile(r"pissa|olora|corda|loftq", re.IGNORECASE)
"""Ways to start peft's training that change the base weights too, which the file then lacks."""


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
        down, up = self.tensors["down"].float(), self.tensors["up"].float()
        shapes = f"{tuple(up.shape)} x {tuple(down.shape)} for a weight of {tuple(weight.shape)}"
        if min(down.ndim, up.ndim) < 2 or 0 in (*down.shape, *up.shape):
            raise ValueError(shapes)
        down, up = down.flatten(1), up.flatten(1)
        wanted = len(weight), len(down), len(down), weight[0].numel()
        if (*up.shape, *down.shape) != wanted:
            raise ValueError(shapes)
        changed = weight.float() + self.scale * (up @ down).reshape(weight.shape)
        length = self.tensors.get("magnitude", self.tensors.get("dora_scale"))
        if length is None:
            return changed
        rows = changed.flatten(1)
        across = "dora_scale" in self.tensors and (length.ndim == 0 or len(length) != len(rows))
        if length.numel() != len(rows) or across:
            raise ValueError(f"a DoRA scale of {tuple(length.shape)} for {len(rows)} outputs")
        rows = rows * (length.float().flatten() / rows.norm(dim=1).clamp_min(1e-12))[:, None]
        return rows.reshape(weight.shape)


def find(name: str, local: bool) -> Path:
    """The file of a path, a folder, or a hub id (owner/name), fetched where not `local`."""
    path = Path(name).expanduser()
    if path.is_dir():
        found = [path / file for file in (FILE, PEFT_FILE) if (path / file).is_file()]
        found = found or [file for file in entries(path) if file.suffix == ".safetensors"]
        if len(found) != 1:
            raise UserError(
                f"prior.lora={name}: the folder holds {len(found)} .safetensors files; name the one"
                " to use"
            )
        return found[0]
    if path.exists():
        require_plain_file(path)
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
    some.

    Raises:
        OSError, SafetensorError, ValueError: damaged.
    """
    if path.suffix != ".safetensors":
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return tensors, {}
    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        texts = [(file.metadata() or {}).get("lora_adapter_metadata", "{}")]
    beside = path.with_name("adapter_config.json")
    if path.name == PEFT_FILE and beside.is_file():
        texts.append(beside.read_text(encoding="utf-8"))
    settings: dict[str, Any] = {}
    for text in texts:
        found = json_text.parse(text)
        if not isinstance(found, dict):
            raise ValueError(f"peft's settings must be an object, not {text[:40]}")
        settings |= found
    return tensors, settings


def collect(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Layer]:
    """The tensors by layer.

    Raises:
        UserError: a tensor that is no part of a LoRA or DoRA, that is there twice or not finite, or
            a pair of which one is missing.
    """
    layers: dict[str, Layer] = {}
    for key, tensor in tensors.items():
        match = _KIND.fullmatch(key)
        if match is None:
            raise UserError(
                f"prior.lora={name}: {key} is no tensor of a LoRA or DoRA (LoHa, LoKr, biases and"
                " learned tokens in a LoRA file are not supported); convert it to a plain LoRA"
            )
        kind = next(k for pattern, k in KINDS.items() if re.fullmatch(pattern, match["kind"]))
        content = layers.setdefault(match["layer"], Layer()).tensors
        if kind in content:
            raise UserError(
                f"prior.lora={name}: {match['layer']} is there twice ({key}); a file of several"
                " adapters is not supported, save one of them"
            )
        if not tensor.float().isfinite().all():
            raise UserError(f"prior.lora={name}: {key} is not finite; the file is damaged")
        content[kind] = tensor
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


def check_settings(name: str, settings: Mapping[str, Any], layers: Mapping[str, Layer]) -> None:
    """Refuse what peft's settings promise and the tensors do not hold.

    Raises:
        UserError: base weights of its own, or DoRA without magnitudes.
    """
    magnitudes = any({"magnitude", "dora_scale"} & set(x.tensors) for x in layers.values())
    for key, value in settings.items():
        last = key.rpartition(".")[2]
        if last == "init_lora_weights" and isinstance(value, str) and REBASED.match(value):
            raise UserError(
                f"prior.lora={name}: trained with {last}={value}, which changes the base weights"
                " too; convert it to a plain LoRA (peft: path_initial_model_for_weight_conversion)"
            )
        if last == "use_dora" and value and not magnitudes:
            raise UserError(
                f"prior.lora={name}: its settings say {last}, but it holds no magnitudes; fetch it"
                " again"
            )
