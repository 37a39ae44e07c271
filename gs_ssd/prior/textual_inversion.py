"""Learned tokens (textual inversion): diffusers' layout, and A1111's."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.prior.hub import from_hub

log = logging.getLogger(__name__)

A1111_KEY = "emb_params"
"""The one key of A1111's safetensors files, in which the file's name is the token."""


def learn(pipe: Any, name: str, token: str | None, *, offline: bool) -> None:
    """Add the file's token to the pipeline's tokenizer and text encoder; without `token`, the
    file's own.

    Raises:
        UserError: a file that does not name its token and whose name cannot be taken.
    """
    before = set(learned_tokens(pipe.tokenizer))
    path = Path(name).expanduser()
    if token is None and path.suffix == ".safetensors" and path.is_file():
        from safetensors import safe_open

        with safe_open(str(path), framework="pt") as file:
            token = path.stem if list(file.keys()) == [A1111_KEY] else None
    from_hub(partial(_load, pipe, name, token), name, offline=offline)
    made = [word for word in learned_tokens(pipe.tokenizer) if word not in before]
    if A1111_KEY in made and token is None:
        raise UserError(
            f"prior.textual_inversion={name} does not name its token; add it: {name}=TOKEN"
        )
    log.info(
        "prior.textual_inversion=%s: write %s in the prompt", name, " or ".join(map(repr, made))
    )


def learned_tokens(tokenizer: Any) -> list[str]:
    """Words that were added to a tokenizer, without the further vectors (`word_1`, ...) of the same
    word.

    None for a pipeline that is made without text, as the tools that count a step's cost make one.
    """
    if tokenizer is None:
        return []
    words = [
        word for word in tokenizer.get_added_vocab() if word not in tokenizer.all_special_tokens
    ]
    return [word for word in words if not (_is_number(word) and word.rpartition("_")[0] in words)]


def _is_number(word: str) -> bool:
    return word.rpartition("_")[2].isdecimal()


def _load(pipe: Any, name: str, token: str | None, local: bool) -> None:
    path = Path(name).expanduser()
    where = str(path) if path.exists() else name
    pipe.load_textual_inversion(where, token=token, local_files_only=local)
