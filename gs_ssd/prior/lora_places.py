"""Which weight of a model a layer of a LoRA file stands for, whoever's names the file uses."""

import re
from collections.abc import Mapping
from typing import Any

import torch

PARTS = {
    "lora_unet_": "unet", "unet.": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder",
    "text_encoder.": "text_encoder", "lora_te2_": "text_encoder_2",
    "text_encoder_2.": "text_encoder_2",
}  # fmt: skip
UNNAMED = ("unet", "text_encoder")
"""Where a layer belongs that names no part, as peft saves a single model: the first that has it."""
PEFT, COMFY, KOHYA = "base_model.model.", "diffusion_model.", "lora_unet_"
TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
ORIGINAL = re.compile(
    rf"{KOHYA}(input_blocks|middle_block|output_blocks|time_embed|label_emb|out_)"
)


class Places:
    """The weights of a pipeline that a LoRA can change, found by a file's names for them."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.names = {part: _names(getattr(pipe, part, None)) for part in set(PARTS.values())}

    def find(self, layer: str) -> tuple[str, str] | None:
        """Part and module of a file's layer, e.g. ("unet", "mid_block.attentions.0.proj_in")."""
        inner = layer.removeprefix(PEFT)
        if inner.startswith(COMFY):
            return self._original(KOHYA + inner.removeprefix(COMFY).replace(".", "_"))
        prefix = next((p for p in sorted(PARTS, key=len, reverse=True) if inner.startswith(p)), "")
        flat = _flat(inner.removeprefix(prefix).removeprefix(PEFT))
        for part in (PARTS[prefix],) if prefix else UNNAMED:
            candidates = (flat, f"{flat}_0") if part == "unet" else (_as_clip(flat),)
            if found := self._named(part, *candidates):
                return found
        return self._original(inner)

    def _original(self, layer: str) -> tuple[str, str] | None:
        """A layer under the name of the original UNet (input_blocks, ...), translated by diffusers'
        own table."""
        if not ORIGINAL.match(layer):
            return None
        pair = {f"{layer}.lora_{kind}.weight": torch.zeros(1, 1) for kind in ("down", "up")}
        try:
            translated, _ = self.pipe.lora_state_dict(pair, unet_config=self.pipe.unet.config)
        except (KeyError, ValueError, IndexError):  # a block that this UNet does not have
            return None
        name = re.sub(r"[._]lora\.(down|up)\.weight$", "", next(iter(translated)))
        flat = _flat(name.removeprefix("unet."))
        return self._named("unet", flat, f"{flat}_0")

    def _named(self, part: str, *candidates: str) -> tuple[str, str] | None:
        names: Mapping[str, str] = self.names[part]
        return next(((part, names[flat]) for flat in candidates if flat in names), None)


def _flat(name: str) -> str:
    return name.replace(".", "_").replace("_processor_", "_")


def _as_clip(flat: str) -> str:
    """A text encoder's module by CLIP's own words, where a file uses those of the UNet."""
    flat = flat.removeprefix("text_model_")
    last = next((old for old in TEXT_NAMES if flat.endswith(f"_{old}")), None)
    return flat if last is None else flat.removesuffix(last) + TEXT_NAMES[last]


def _names(model: Any) -> dict[str, str]:
    """Module names by their spelling without dots, of all that a LoRA can change."""
    if model is None:
        return {}
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    found = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return {name.removeprefix("text_model.").replace(".", "_"): name for name in found}
