"""What one .safetensors file in the original layout holds, told by the names of its tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from gs_ssd.errors import UserError

PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
LORA_MARKS = ("lora_", ".lora.", "lora.down", "hada_", "lokr_")
QUANTISED_MARKS = (".scale_weight", ".weight_scale", ".absmax", ".scale_input", "scaled_fp8")
OPEN_CLIP = "cond_stage_model.model."  #: the text encoder of Stable Diffusion 2


@dataclass(frozen=True)
class SingleFile:
    """The names of a checkpoint's tensors, and the path for messages."""

    path: Path
    names: tuple[str, ...]

    @property
    def kind(self) -> Literal["sd15", "sd2", "sdxl"]:
        """Which family the file is of."""
        if self.has("text_encoder_2"):
            return "sdxl"
        return "sd2" if any(name.startswith(OPEN_CLIP) for name in self.names) else "sd15"

    def has(self, part: str) -> bool:
        """Whether it holds a part of a pipeline."""
        return any(name.startswith(PREFIXES[part]) for name in self.names)

    def missing(self, *, xl: bool) -> list[str]:
        """The parts of a pipeline that it lacks."""
        return [
            part for part in PREFIXES if (xl or part != "text_encoder_2") and not self.has(part)
        ]


def read_names(path: Path) -> SingleFile:
    """Look into a checkpoint without loading it.

    Raises:
        UserError: the file is unreadable, holds no UNet (then it is no model), or is quantised.
    """
    try:
        with safe_open(str(path), framework="pt") as opened:
            names = tuple(opened.keys())
            weights = (n for n in names if n.startswith(PREFIXES["unet"]) and n.endswith(".weight"))
            dtypes = {opened.get_slice(name).get_dtype() for name in weights}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"prior.model={path} cannot be read ({error}); it is truncated, or no .safetensors"
        ) from error
    file = SingleFile(path, names)
    if not file.has("unet"):
        raise _no_model(file)
    marks = {mark for mark in QUANTISED_MARKS if any(mark in name for name in names)}
    if found := marks | {dtype for dtype in dtypes if dtype.startswith(("I", "U"))}:
        raise UserError(
            f"prior.model={path} is quantised ({', '.join(sorted(found))}), which is not read; use"
            " the file in half or full precision"
        )
    return file


def _no_model(file: SingleFile) -> UserError:
    path, names = file.path, file.names
    if any(mark in name for name in names for mark in LORA_MARKS):
        return UserError(
            f"prior.model={path} is a LoRA, not a model; give it as 'prior.lora=[{path}]' beside a"
            " model"
        )
    example = f", e.g. {names[0]}" if names else ""
    return UserError(
        f"prior.model={path} is not a Stable Diffusion checkpoint in the original layout: none of"
        f" its {len(names)} tensors belongs to a UNet{example}; give a whole model, or a diffusers"
        " pipeline folder"
    )
