"""What one .safetensors file in the original layout holds, told by the names of its tensors."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from gs_ssd.errors import UserError

PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
LORA_MARKS = ("lora_", ".lora.", "lora.down", "hada_", "lokr_")


def missing_parts(file: Path, *, xl: bool) -> list[str]:
    """The parts of a pipeline that a file lacks.

    Raises:
        UserError: the file is unreadable, or holds no UNet (then it is no model).
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            names = list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"prior.model={file} cannot be read ({error}); it is truncated, or no .safetensors"
        ) from error
    parts = [part for part in PREFIXES if xl or part != "text_encoder_2"]
    missing = [part for part in parts if not any(name.startswith(PREFIXES[part]) for name in names)]
    if "unet" not in missing:
        return missing
    if any(mark in name for name in names for mark in LORA_MARKS):
        raise UserError(
            f"prior.model={file} is a LoRA, not a model; give it as 'prior.lora=[{file}]' beside a"
            " model"
        )
    example = f", e.g. {names[0]}" if names else ""
    raise UserError(
        f"prior.model={file} is not a Stable Diffusion checkpoint in the original layout: none of"
        f" its {len(names)} tensors belongs to a UNet{example}; give a whole model, or a diffusers"
        " pipeline folder"
    )
