"""Is a checkpoint what was written, and can a run continue from it? Asked before anything is made
of it.

`torch.load` does not look at the checksums that `torch.save` writes: a flipped bit in a tensor is
loaded and trained on.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


def is_intact(path: Path) -> bool:
    """Whether every record of the archive has the checksum that it was written with.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch gives no bytes for a record that is marked as a folder, and does not say so.
            plain = all(record.external_attr == 0 for record in archive.infolist())
            return plain and archive.testzip() is None
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        NotImplementedError,
        EOFError,
        RuntimeError,
        IndexError,
    ):
        return False  # its directory is damaged: sizes, names, methods that no archive of torch has


def fault_of(state: Any, num_steps: Any) -> str | None:
    """What is wrong with the state of a run of `num_steps` steps; None: nothing that can be seen
    without its asset.

    The state is that of `Job.state_dict`: step, kind, asset, guidance, bad_steps.
    """
    if not isinstance(state, Mapping):
        return "it holds no state"
    for name, kind in (
        ("step", int),
        ("kind", str),
        ("asset", Mapping),
        ("guidance", Mapping),
        ("bad_steps", int),
    ):
        if name not in state:
            return f"it lacks {name}"
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            return f"its {name} is {type(state[name]).__name__}"
    most = num_steps if isinstance(num_steps, int) else state["step"]
    if not 0 <= state["step"] <= most:
        return f"its step is {state['step']}, of {num_steps}"
    if not 0 <= state["bad_steps"] <= state["step"]:
        return f"its count of bad steps is {state['bad_steps']}, of {state['step']}"
    for name, tensor in tensors_in(state):
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            return f"{name} holds NaN"
    return None


def tensors_in(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings and sequences, by dotted name."""
    if isinstance(tree, Tensor):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from tensors_in(value, f"{prefix}.{key}".lstrip("."))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from tensors_in(value, f"{prefix}.{index}")
