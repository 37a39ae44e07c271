"""Settings in layers, before anything is known of what they mean: a YAML file over the file that it
`extends`, overrides over files. OmegaConf merges them."""

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gs_ssd import yaml_files
from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

log = logging.getLogger(__name__)

EXTENDS = "extends"
MAX_EXTENDS = 8

Layer = tuple[str, Mapping[str, Any]]
"""Where values come from (a file, an override), and the values as nested mappings."""


def read_layers(path: Path, depth: int = 0) -> list[Layer]:
    """A YAML file's mapping, after those of the file that it `extends` (a path relative to it); its
    notes are logged.

    Raises:
        UserError: a file that is missing or holds no YAML mapping, or extends itself.
    """
    if not path.exists():
        raise UserError(f"there is no config file {path}{_nearest_file(path)}")
    require_plain_file(path)
    if depth > MAX_EXTENDS:
        raise UserError(f"{path}: `extends` goes round in a circle")
    try:
        document = yaml_files.parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not readable YAML: {error}") from error
    for note in document.notes:
        log.warning("%s, %s", path, note)
    values = {} if document.value is None else document.value
    if not isinstance(values, dict):
        raise UserError(
            f"{path} holds a {type(values).__name__}; a config is a mapping of keys to values"
        )
    parent = values.pop(EXTENDS, None)
    if parent is None:
        return [(str(path), values)]
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends must name one file, got {parent!r}")
    file = path.parent / (parent if parent.endswith(".yaml") else f"{parent}.yaml")
    if not file.is_file():
        raise UserError(
            f"{path} extends {file}, which is not there; give a path relative to {path.name}, or an"
            " absolute one"
        )
    return [*read_layers(file, depth + 1), (str(path), values)]


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """The layers as one mapping: keys of the later ones win, sections are merged."""
    boxed = [
        OmegaConf.create(_boxed(values), flags={"allow_objects": True}) for _, values in layers
    ]
    merged = OmegaConf.merge(OmegaConf.create({}, flags={"allow_objects": True}), *boxed)
    return _unboxed(OmegaConf.to_container(merged))


def leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not itself a mapping."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class _Value:
    """A value in a box that OmegaConf does not look into: it would take `${...}` and `???` in a
    prompt for its own."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _boxed(value: Any) -> Any:
    return (
        {key: _boxed(held) for key, held in value.items()}
        if isinstance(value, Mapping)
        else _Value(value)
    )


def _unboxed(value: Any) -> Any:
    return (
        {key: _unboxed(held) for key, held in value.items()}
        if isinstance(value, dict)
        else value.value
    )


def _nearest_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("configs")
    names = [str(other) for other in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []
    near = difflib.get_close_matches(str(path), names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
