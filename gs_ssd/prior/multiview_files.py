"""MVDream's UNet out of a pipeline folder, in either of the two layouts of its public ports.

- `unet/` of the class MultiViewUNetModel, with the tensors' original names and the config of the
  original code (hub: ashawkey/mvdream-sd2.1-diffusers, dylanebert/mvdream). KokeCacao's port wraps
  it: MultiViewUNetWrapperModel, every name behind "unet.".
- `unet/` in diffusers' own names and config, the camera's two layers in `camera_proj/` (hub:
  lzq49/mvdream-sd21-diffusers).

Every tensor finds its place, or the folder is refused. Only .safetensors files are read.
"""

from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import LDM_UNET_KEY, convert_ldm_unet_checkpoint
from safetensors.torch import load_file
from torch import Tensor

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import entries
from gs_ssd.prior import weight_files
from gs_ssd.prior.multiview_unet import CAMERA_NUMBERS, MultiViewUNet

ORIGINAL = {"MultiViewUNetModel": "", "MultiViewUNetWrapperModel": "unet."}
"""Classes of the original layout, and what stands before every tensor's name."""
CAMERA_FOLDER = "camera_proj"
FIXED: dict[str, Any] = {
    "dims": 2, "conv_resample": True, "num_classes": None, "num_heads": -1,
    "num_heads_upsample": -1, "use_scale_shift_norm": False, "resblock_updown": False,
    "n_embed": None, "num_attention_blocks": None, "adm_in_channels": None,
    "use_spatial_transformer": True, "use_linear_in_transformer": True,
    "camera_dim": CAMERA_NUMBERS,
}  # fmt: skip
"""What the original config may say, but only so; `camera_dim` must be there."""
FREE = {
    "image_size", "in_channels", "out_channels", "model_channels", "attention_resolutions",
    "num_res_blocks", "channel_mult", "num_head_channels", "transformer_depth", "context_dim",
    "dropout", "use_checkpoint", "legacy", "ip_dim", "ip_weight", "use_fp16", "use_bf16",
}  # fmt: skip


def is_multiview(folder: Path) -> bool:
    """Whether a pipeline folder holds a multi-view UNet in one of the layouts."""
    return (folder / CAMERA_FOLDER).is_dir() or _class_of(folder) in ORIGINAL


def load_unet(folder: Path, half: bool) -> MultiViewUNet:
    """The UNet of a pipeline folder, float32, on the CPU.

    Args:
        half: take half precision files where there are both.

    Raises:
        UserError: ImageDream's, or another config that this UNet cannot follow.
        ValueError: a tensor is missing, unknown or of another shape.
    """
    part = folder / "unet"
    config = json_text.parse((part / "config.json").read_text(encoding="utf-8"))
    kind = config.get("_class_name")
    tensors = _tensors(part, half)
    if kind in ORIGINAL:
        translated = from_original(config, part / "config.json")
        tensors = renamed(tensors, translated, ORIGINAL[kind])
    else:
        translated = {key: value for key, value in config.items() if not key.startswith("_")}
        tensors |= {
            f"class_embedding.{name}": tensor
            for name, tensor in _tensors(folder / CAMERA_FOLDER, half).items()
        }
    unet = MultiViewUNet.empty(translated)
    _check(tensors, unet.state_dict())
    unet.load_state_dict({name: t.float() for name, t in tensors.items()}, assign=True)
    return unet


def from_original(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """A UNet2DConditionModel's config from that of the original code.

    Raises:
        UserError: names the key that cannot be followed.
    """
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    if given.get("ip_dim"):
        raise UserError(
            f"{file}: ip_dim={given['ip_dim']}: this is ImageDream's UNet, which wants a picture;"
            " only MVDream's, which is told by text, is supported"
        )
    for key, value in given.items():
        if key not in FREE and (key not in FIXED or value != FIXED[key]):
            wanted = f"only {FIXED[key]!r} is supported" if key in FIXED else "an unknown key"
            raise UserError(f"{file}: {key}={value!r}: {wanted}")
    needed = ("in_channels", "out_channels", "model_channels", "attention_resolutions",
              "num_res_blocks", "channel_mult", "num_head_channels", "context_dim",
              "camera_dim")  # fmt: skip
    if missing := [key for key in needed if key not in given]:
        raise UserError(f"{file}: {', '.join(missing)} is missing; fetch the folder again")
    widths = [given["model_channels"] * factor for factor in given["channel_mult"]]
    attends = [2**level in given["attention_resolutions"] for level in range(len(widths))]
    return {
        "sample_size": given.get("image_size", 32),
        "in_channels": given["in_channels"],
        "out_channels": given["out_channels"],
        "block_out_channels": widths,
        "layers_per_block": given["num_res_blocks"],
        "attention_head_dim": [width // given["num_head_channels"] for width in widths],
        "transformer_layers_per_block": given.get("transformer_depth", 1),
        "cross_attention_dim": given["context_dim"],
        "use_linear_projection": True,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
    }


def renamed(
    tensors: dict[str, Tensor], config: dict[str, Any], prefix: str = ""
) -> dict[str, Tensor]:
    """The same tensors under diffusers' names (the library's own renaming).

    Raises:
        ValueError: a tensor that the renaming leaves behind.
    """
    named = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(prefix)
        # The library knows the camera's layers as those of a class embedding.
        bare = bare.replace("camera_embed.", "label_emb.0.", 1)
        named[f"{LDM_UNET_KEY}{bare}"] = tensor
    try:
        found: dict[str, Tensor] = convert_ldm_unet_checkpoint(
            named, config | {"class_embed_type": "projection"}
        )
    except KeyError as error:
        missing = str(error.args[0]).replace("label_emb.0.", "camera_embed.", 1)
        raise ValueError(f"the tensor {missing} is missing") from error
    kept = {id(tensor) for tensor in found.values()}
    if left := [name for name, tensor in tensors.items() if id(tensor) not in kept]:
        raise ValueError(f"{len(left)} tensors are unknown, e.g. {left[0]}")
    return found


def _tensors(part: Path, half: bool) -> dict[str, Tensor]:
    """All tensors of one part: of a whole file, or of its shards."""
    wanted = weight_files.variant(part, half) is not None
    files = [
        file
        for file in entries(part)
        if file.suffix == ".safetensors"
        and bool(weight_files.HALF.search(file.name)) == wanted
        and "non_ema" not in file.name
    ]
    if not files:
        raise UserError(f"{part}: it has no .safetensors file; copy or fetch it again")
    return {name: tensor for file in files for name, tensor in load_file(str(file)).items()}


def _check(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise ValueError(f"{len(missing)} tensors are missing, e.g. {missing[0]}")
    if unknown := sorted(tensors.keys() - wanted.keys()):
        raise ValueError(f"{len(unknown)} tensors are unknown, e.g. {unknown[0]}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{name} is of shape {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}"
            )


def _class_of(folder: Path) -> Any:
    file = folder / "unet" / "config.json"
    if not file.is_file():
        return None
    try:
        content = json_text.parse(file.read_text(encoding="utf-8"))
    except ValueError:
        return None  # what is wrong with it is said where it is read
    return content.get("_class_name") if isinstance(content, dict) else None
