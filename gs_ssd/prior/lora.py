"""LoRA files, added to the weights of a pipeline.

Every tensor of a file is accounted for: layers that the model does not have are counted and named,
tensors that are not understood are refused. The library's own loaders drop `dora_scale`, skip
unknown layers and read no `adapter_config.json`, all of which changes the result without an error.
"""

import logging
import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from gs_ssd.errors import UserError
from gs_ssd.prior.hub import from_hub
from gs_ssd.prior.lora_file import Layer, check_settings, collect, find, read
from gs_ssd.prior.lora_places import Places

log = logging.getLogger(__name__)


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
    check_settings(name, settings, layers)
    known = Places(pipe)
    places = {layer: place for layer in layers if (place := known.find(layer)) is not None}
    _refuse_stranger(name, [layer for layer in layers if layer not in places], len(layers))
    _refuse_twins(name, places)
    fused = []
    for layer, (part, module) in places.items():
        content, weight = layers[layer], getattr(pipe, part).get_submodule(module).weight
        content.scale = _scale(name, layer, content, settings, part, module)
        try:
            value = torch.lerp(weight.data.float(), content.applied(weight.data), strength)
        except ValueError as error:
            raise UserError(
                f"prior.lora={name}: {layer} does not fit this model ({error}); use a LoRA made for"
                " the same model"
            ) from error
        fused.append((weight, value))
    for weight, value in fused:
        weight.data.copy_(value)
    log.info("prior.lora=%s: fused into the weights of %d layers", name, len(fused))


def _scale(
    name: str, key: str, layer: Layer, settings: Mapping[str, Any], part: str, module: str
) -> float:
    """alpha / rank; alpha is the layer's own, else that of peft's settings, else the rank."""
    rank = max(len(layer.tensors["down"]) if layer.tensors["down"].ndim else 0, 1)
    own = {setting.removeprefix(f"{part}."): value for setting, value in settings.items()}
    patterns = own.get("alpha_pattern") or {}
    fits = [x for pattern, x in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)]
    alpha = fits[0] if fits else own.get("lora_alpha", rank)
    if "alpha" in layer.tensors:
        stored = layer.tensors["alpha"]
        alpha = stored.item() if stored.numel() == 1 else stored.tolist()
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise UserError(f"prior.lora={name}: alpha={alpha!r} of {key} must be a number")
    return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _refuse_twins(name: str, places: Mapping[str, tuple[str, str]]) -> None:
    """Two layers of a file for one weight: which one counts is not for us to say."""
    seen: dict[tuple[str, str], str] = {}
    for layer, place in places.items():
        if place in seen:
            raise UserError(
                f"prior.lora={name}: {seen[place]} and {layer} are the same layer of the model;"
                " keep one of them"
            )
        seen[place] = layer


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
