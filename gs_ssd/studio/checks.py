"""From what a form or a client sends to a configuration, and why one cannot run, before it does.

The same code as the command line's: `config.load`, `resolve`, `check_prompt`. A prior is not loaded
for it: what it says of itself (its card) is enough.
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gs_ssd import config as configs
from gs_ssd import layers, resolve
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.guidance import prompts
from gs_ssd.prior.described import OURS, card_of, describe
from gs_ssd.prior.sources import SHORT_NAMES
from gs_ssd.render import device as rendering_device
from gs_ssd.studio import presets
from gs_ssd.studio.runs import UPLOADS

FILE_KEYS = ("initialize.file", "initialize.text_model", "prior.model", "prior.base")
FILE_KEYS += ("prior.tiny_vae", "prior.controlnet", "prior.lora", "prior.textual_inversion")
"""Settings that may name files on the server."""
MOST_TEXT = 2000  #: letters of a prompt


def compose(
    prompt: str, preset: str | None, settings: Mapping[str, Any], base: Mapping[str, Any] | None
) -> ExperimentConfig:
    """The configuration of a request.

    Args:
        preset: a name of `presets`; None: the defaults, or `base`.
        settings: by dotted name. Text is taken as the command line takes it, everything else as it
            is.
        base: the whole settings of another run, in place of a preset.

    Raises:
        UserError: names the setting that does not fit.
    """
    if len(prompt) > MOST_TEXT:
        raise UserError(f"the prompt has {len(prompt)} letters; {MOST_TEXT} are taken")
    words = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.items()
    ]
    if base is not None:
        return configs.from_mapping(base, "the other run", [*words, f"prompt={prompt}"])
    path = None if preset is None else presets.path_of(preset)
    return configs.load(path, [*words, f"prompt={prompt}"])


def refuse_paths(config: ExperimentConfig, root: Path) -> None:
    """For a server that others reach: settings may name no file outside the runs' folder.

    Raises:
        UserError: names the setting.
    """
    values = dict(layers.leaves(configs.to_mapping(config)))
    for key in FILE_KEYS:
        named = values[key]
        for text in named if isinstance(named, list) else [named]:
            if not isinstance(text, str) or text in (*OURS, "analytic", *SHORT_NAMES):
                continue
            inside = Path(text).resolve().is_relative_to(root.resolve())
            if not inside and (Path(text).exists() or text.startswith(("/", ".", "~"))):
                raise UserError(
                    f"{key}: this server reads files of its runs' folder alone; upload the file"
                )


def warnings_of(config: ExperimentConfig, *, anyway: bool = False) -> list[str]:
    """What would be ignored or changed, in sentences.

    Raises:
        UserError: it cannot run; says why.
    """
    rendering_device.choose(config.device)
    prior = describe(config.prior)
    with _heard() as said:
        if prior is not None:
            resolve.resolve(config, prior)
            prompts.check_prompt(prior, config.prompt, anyway=anyway)
        elif not config.prompt.strip():
            raise UserError("the prompt is empty")
    file = config.initialize.file
    if config.initialize.shape in ("points", "mesh", "splat") and file and not Path(file).is_file():
        raise UserError(f"initialize.file: there is no file {file}")
    model = config.prior.model
    if model in SHORT_NAMES and not torch.cuda.is_available():
        said.append(
            f"{model} without a graphics card takes many hours; it may have to be downloaded first"
        )
    return said


def vocabulary(model: str) -> dict[str, list[str]]:
    """The kinds and colours that the prior knows, for completion; empty where it knows all words
    there are."""
    card = card_of(model)
    synonyms = card.get("synonyms", {})
    kinds, colors = card.get("kinds", []), card.get("colors", [])
    return {
        "kinds": [*kinds, *(word for kind in kinds for word in synonyms.get(kind, []))],
        "colors": [*colors, *(word for color in colors for word in synonyms.get(color, []))],
        "attributes": list(card.get("attributes", [])),
    }


def upload_path(root: Path, upload: str, inside: str = "") -> Path:
    """The file of an upload.

    Raises:
        UserError: there is none.
    """
    path = root / UPLOADS / inside / upload
    if not upload or "/" in upload or "\0" in upload or upload.startswith("."):
        raise UserError(f"there is no upload {upload!r}")
    if not path.is_file() or path.is_symlink():
        raise UserError(f"there is no upload {upload!r}")
    return path


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the checks log as warnings in this thread: others may check another's wish, or train."""
    said: list[str] = []
    here = threading.get_ident()

    class Hear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here:
                said.append(record.getMessage())

    handler, logger = Hear(logging.WARNING), logging.getLogger("gs_ssd.guidance")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
