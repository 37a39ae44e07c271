"""The weight files of one part of a model: whole or in shards, in full or in half precision.

diffusers and transformers call them `NAME.safetensors`, in half precision `NAME.fp16.safetensors`;
in shards `NAME-00001-of-00002.safetensors` and `NAME.fp16-00001-of-00002.safetensors` (before 2024
`NAME-00001-of-00002.fp16.safetensors`), with an index beside them.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gs_ssd.files import entries

HALF = re.compile(r"\.fp16[.-]")
SHARD = re.compile(r"(?P<before>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<after>.*)\.safetensors")
UNWANTED = {False: ("*.fp16.*", "*.fp16-*", "*.non_ema*"), True: ("*.non_ema*",)}
"""By half precision: files that the wanted patterns would take too."""


def wanted(parts: Sequence[str], half: bool) -> list[str]:
    """Patterns of a repository's files with the weights of these parts."""
    ends = ("fp16.safetensors", "fp16-*.safetensors") if half else ("safetensors",)
    index = "*.index.fp16.json" if half else "*.index.json"
    return [f"{part}/{name}" for part in parts for name in (*(f"*.{end}" for end in ends), index)]


def complete(folder: Path, half: bool | None = None) -> bool:
    """Whether all weights are there, in half or full precision, or in either (`None`)."""
    names = [file.name for file in entries(folder) if file.suffix == ".safetensors"]
    if half is None:
        return complete(folder, False) or complete(folder, True)
    return _complete(name for name in names if bool(HALF.search(name)) == half)


def _complete(names: Iterable[str]) -> bool:
    """One whole file, or all shards of a set."""
    shards: dict[tuple[str, str, int], set[int]] = {}
    for name in names:
        found = SHARD.fullmatch(name)
        if found is None:
            return True
        key = found["before"], found["after"], int(found["total"])
        shards.setdefault(key, set()).add(int(found["number"]))
    return any(len(numbers) == total for (_, _, total), numbers in shards.items())


def variant(folder: Path, half: bool) -> str | None:
    """ "fp16" where the folder's half precision files are the wanted or the only ones."""
    return "fp16" if complete(folder, True) and (half or not complete(folder, False)) else None
