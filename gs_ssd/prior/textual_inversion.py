"""Learned tokens (textual inversion): diffusers' layout, and A1111's."""

import itertools
import logging
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.prior.hub import from_hub

log = logging.getLogger(__name__)

A1111_KEY = "emb_params"
"""The one key of A1111's safetensors files, in which the file's name is the token."""
SDXL_KEYS = {"clip_g", "clip_l"}


def learn(pipe: Any, name: str, token: str | None, *, offline: bool) -> None:
    """Add the file's token to the pipeline's tokenizer and text encoder; without `token`, the
    file's own.

    Raises:
        UserError: a file that names no token and whose name cannot be taken, a token that the
            tokenizer has already, or vectors that do not fit the text encoder.
        OSError, SafetensorError: an absent or damaged file.
    """
    tensors = from_hub(partial(_read, name), name, offline=offline)
    word, vectors = _word_and_vectors(name, tensors, token)
    width = pipe.text_encoder.get_input_embeddings().weight.shape[1]
    _check_vectors(name, vectors, width)
    taken = {known.lower() for known in pipe.tokenizer.get_vocab()}
    if not word.strip() or not taken.isdisjoint({word.lower(), f"{word.lower()}_1"}):
        raise UserError(
            f"prior.textual_inversion={name}: the token {word!r} is"
            f" {'one of the tokenizer already' if word.strip() else 'empty'}; name another one:"
            f" {name}=TOKEN"
        )
    _add(pipe, word, vectors.detach().float().reshape(-1, width))
    log.info("prior.textual_inversion=%s: write %r in the prompt", name, word)


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


def expanded(prompt: str, tokenizer: Any) -> str:
    """The prompt with all vectors of each learned word: "a duck" becomes "a duck duck_1 duck_2".

    Words count in any case, as they do for CLIP's tokenizer; diffusers' own conversion looks for
    them in lower case only, and of a word with capitals uses the first vector alone.
    """
    words = learned_tokens(tokenizer)
    if not words:
        return prompt
    spelled = {word.lower(): " ".join(_spellings(tokenizer, word)) for word in words}
    return occurrences(words).sub(lambda found: spelled.get(found[0].lower(), found[0]), prompt)


def _spellings(tokenizer: Any, word: str) -> list[str]:
    """The word, and the names of its further vectors."""
    further = (f"{word}_{i}" for i in itertools.count(1))
    return [word, *itertools.takewhile(tokenizer.get_added_vocab().__contains__, further)]


def occurrences(words: Iterable[str]) -> re.Pattern[str]:
    """Matches each of the words in a text, in any case; letters and digits only as a whole word."""
    parts = [
        ("(?<!\\w)" if _is_letter(word[0]) else "")
        + re.escape(word)
        + ("(?!\\w)" if _is_letter(word[-1]) else "")
        for word in sorted(words, key=len, reverse=True)
    ]
    return re.compile("|".join(parts), re.IGNORECASE)


def _is_letter(character: str) -> bool:
    return re.fullmatch(r"\w", character) is not None


def _is_number(word: str) -> bool:
    return word.rpartition("_")[2].isdecimal()


def _read(name: str, local: bool) -> Any:
    """What a file, folder or hub id holds: for a well-formed one, tensors by name."""
    from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts

    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(str(path))
    where = str(path) if path.exists() else name
    (tensors,) = load_textual_inversion_state_dicts([where], local_files_only=local)
    return tensors


def _word_and_vectors(name: str, tensors: Any, token: str | None) -> tuple[str, Tensor]:
    """The token and its vectors [N, D], whichever program wrote them."""
    stem = Path(name).stem
    if isinstance(tensors, Tensor):
        return token or stem, tensors
    if not isinstance(tensors, Mapping) or SDXL_KEYS & set(tensors):
        kind = "vectors for SDXL" if isinstance(tensors, Mapping) else type(tensors).__name__
        raise UserError(
            f"prior.textual_inversion={name} holds {kind}; learned tokens of Stable Diffusion 1 and"
            " 2 are read"
        )
    if "string_to_param" in tensors:  # A1111's .pt
        vectors = next(iter(dict(tensors["string_to_param"]).values()))
        return token or str(tensors.get("name") or stem), vectors
    if len(tensors) != 1 or not all(isinstance(found, Tensor) for found in tensors.values()):
        few = ", ".join(map(str, list(tensors)[:3])) or "nothing"
        raise UserError(
            f"prior.textual_inversion={name} holds {few}; a learned token is one tensor (a LoRA"
            " belongs into prior.lora)"
        )
    ((key, vectors),) = tensors.items()
    return token or (stem if key == A1111_KEY else str(key)), vectors


def _check_vectors(name: str, vectors: Tensor, width: int) -> None:
    fits = vectors.ndim in (1, 2) and vectors.shape[-1] == width and vectors.numel() > 0
    if not fits:
        raise UserError(
            f"prior.textual_inversion={name}: its vectors are {tuple(vectors.shape)}, the text"
            f" encoder's are {width} wide; it is for another model (768: SD 1, 1024: SD 2)"
        )
    if not vectors.float().isfinite().all():
        raise UserError(f"prior.textual_inversion={name}: it is not finite; the file is damaged")


def _add(pipe: Any, word: str, vectors: Float[Tensor, "n d"]) -> None:
    """One token for each vector. Those of letters count as whole words only: "art" would otherwise
    be found inside every other word ("start")."""
    from tokenizers import AddedToken

    whole = _is_letter(word[0]) and _is_letter(word[-1])
    names = [word, *(f"{word}_{i}" for i in range(1, len(vectors)))]
    pipe.tokenizer.add_tokens([AddedToken(x, single_word=whole, normalized=True) for x in names])
    encoder = pipe.text_encoder
    size = max(len(pipe.tokenizer), len(encoder.get_input_embeddings().weight))
    encoder.resize_token_embeddings(size, mean_resizing=False)
    table = encoder.get_input_embeddings().weight.data
    table[pipe.tokenizer.convert_tokens_to_ids(names)] = vectors.to(table)
