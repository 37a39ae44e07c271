"""Floor 4: one experiment, composed of the components' own frozen dataclasses.

Precedence: the dataclasses' defaults, then the YAML file (after the one that it `extends`), then `key.sub=value` from
the command line. An unknown key is refused with the nearest known one. OmegaConf stays inside this file.
"""

import dataclasses
import difflib
import functools
import logging
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import omegaconf
import yaml
from omegaconf import OmegaConf

from gs_ssd import bounds, lucid_yaml
from gs_ssd.bounds import POSITIVE, Bounds, bounded
from gs_ssd.densify.choice import DensifyConfig
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.finish import FinishConfig
from gs_ssd.guidance.distill import DistillConfig
from gs_ssd.prior import PriorConfig
from gs_ssd.render.augment import AugmentConfig
from gs_ssd.render.regularizers import RegularizeConfig
from gs_ssd.scene.initialize import InitializeConfig
from gs_ssd.scene.optimizers import OptimizerConfig
from gs_ssd.scene.viewpoints import ViewpointConfig

log = logging.getLogger(__name__)

EXTENDS, PROMPT = "extends", "prompt"
MAX_DEPTH = 8
OR_NEVER = Bounds(0)


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """What a run writes while it runs and when it ends. 0 steps means never."""

    preview_every: int = bounded(100, OR_NEVER)
    checkpoint_every: int = bounded(500, OR_NEVER)
    keep_checkpoints: int = bounded(2, Bounds(1))
    log_every: int = bounded(1, Bounds(1))
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    wandb: str | None = None
    """A Weights & Biases project to log to; needs the wandb package."""
    turntable_frames: int = bounded(120, OR_NEVER)
    """A ring; 0: no video."""
    turntable_size: int = bounded(512, Bounds(16, 4096))
    """Pixels of the video's square frames."""
    polar_deg: tuple[float, ...] | None = bounded(None, Bounds(0, 180))
    """Rings of the video and the test views, one after the other; `None`: the middle of the training cameras' range."""
    radius: float | None = bounded(None, POSITIVE)
    fov_y_deg: float | None = bounded(None, Bounds(0, 170, above=True, below=True))
    """Where the showing cameras stand; `None`: in the middle of the first step's ranges."""
    depth: bool = False
    """Put the disparity beside the colours in the videos and test views."""
    test_views: int = bounded(0, OR_NEVER)
    """Single pictures a ring, in test_views/; 0: none."""
    process_frames: int = bounded(0, OR_NEVER)
    """Frames of a video of the making (process.mp4), spread over the run; 0: none."""


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides the result of `train.py`; saved with the run as config.yaml."""

    prompt: str = ""
    seed: int = 0
    num_steps: int = bounded(5000, Bounds(1))
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""
    max_bad_steps: int = bounded(20, Bounds(1))
    """Steps in a row whose gradient is not finite before the run gives up; each one is skipped and counted."""
    prior: PriorConfig = dataclasses.field(default_factory=PriorConfig)
    guidance: DistillConfig = dataclasses.field(default_factory=DistillConfig)
    initialize: InitializeConfig = dataclasses.field(default_factory=InitializeConfig)
    viewpoints: ViewpointConfig = dataclasses.field(default_factory=ViewpointConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    regularize: RegularizeConfig = dataclasses.field(default_factory=RegularizeConfig)
    densify: DensifyConfig = dataclasses.field(default_factory=DensifyConfig)
    finish: FinishConfig = dataclasses.field(default_factory=FinishConfig)
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)


def load(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment of a YAML file (`None`: the defaults) with `key.sub=value` overrides.

    Raises:
        UserError: a file that is missing or no YAML, an unknown key, a value of the wrong type or out of range.
    """
    values = {} if path is None else read_yaml(Path(path))
    if lucid_yaml.recognises(values):
        values = _translated(values, str(path), overrides)
    merged = _merge(_empty(), values, str(path))
    return _finished(_override(merged, [(text, _parse_override(text)) for text in overrides]))


def _override(base: omegaconf.DictConfig, parsed: Sequence[tuple[str, Mapping[str, Any]]]) -> omegaconf.DictConfig:
    """Merge all overrides at once, which is what takes time; if they do not fit, one by one, to name the culprit."""
    together: Mapping[str, Any] = {}
    for text, values in parsed:
        _check_keys(values, text)
        together = deep_merge(together, values)
    try:
        return _merge(base, together, "the overrides")
    except UserError:
        for text, values in parsed:
            base = _merge(base, values, text)
        return base


def _translated(values: Mapping[str, Any], path: str, overrides: Sequence[str]) -> dict[str, Any]:
    """A LucidDreamer file in our schema, for the estimator that the command line asks for; its notes are logged."""
    prefix = "guidance.estimator="
    asked = [text.removeprefix(prefix).strip() for text in overrides if text.startswith(prefix)]
    translation = lucid_yaml.translate(values, path, estimator=asked[-1] if asked else None)
    for note in translation.notes:
        log.warning("%s (a LucidDreamer file): %s", path, note)
    return translation.config


def from_mapping(values: Mapping[str, Any], source: str) -> ExperimentConfig:
    """The experiment of a nested mapping, with the same checks; `source` is named in messages."""
    return _finished(_merge(_empty(), values, source))


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
    """Plain dicts, lists and numbers."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def to_yaml(config: ExperimentConfig) -> str:
    """The whole experiment as YAML, in the order of the dataclasses; `load` reads it back to an equal config."""
    return yaml.dump(to_mapping(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def save(config: ExperimentConfig, path: Path) -> None:
    """Write `to_yaml` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


def differences(old: ExperimentConfig, new: ExperimentConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    before, after = dict(leaves(to_mapping(old))), dict(leaves(to_mapping(new)))
    return {key: (before[key], after[key]) for key in after if before[key] != after[key]}


def leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not itself a mapping."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_yaml(path: Path, depth: int = 0) -> dict[str, Any]:
    """A YAML file's mapping, merged over the file that it `extends` (a path relative to it)."""
    if not path.is_file():
        raise UserError(f"there is no config file {path}{_nearest_file(path)}")
    if depth > MAX_DEPTH:
        raise UserError(f"{path}: `extends` goes round in a circle")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not readable YAML: {str(error).splitlines()[0]} ({_position(error)})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}; a config is a mapping of keys to values")
    parent = values.pop(EXTENDS, None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise UserError(f"{path}: extends must name one file, got {parent!r}")
    file = path.parent / (parent if parent.endswith(".yaml") else f"{parent}.yaml")
    if not file.is_file():
        raise UserError(
            f"{path} extends {file}, which is not there; give a path relative to {path.name}, or an absolute one"
        )
    return deep_merge(read_yaml(file, depth + 1), values)


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings: keys of `over` win, sections are merged."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = deep_merge(merged[key], value) if both else value
    return merged


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a word; here it is a number. Refused: a key twice, a value inside itself."""

    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # at once, not later: an alias of what is not finished is then an error
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                problem = "a key is a list or a mapping, where a word is due"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Short sequences on one line, as one would write them; a word that `_Loader` would read as a number is quoted."""


for side in (_Loader, _Dumper):
    side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )
_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


@functools.cache
def _empty() -> omegaconf.DictConfig:
    return OmegaConf.structured(ExperimentConfig)


@functools.cache
def _defaults() -> dict[str, Any]:
    """Every key that there is, dotted, with its default."""
    return dict(leaves(to_mapping(ExperimentConfig())))


def _parse_override(text: str) -> dict[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError(f"{text!r} is no override; write key.sub=value, e.g. seed=1 or guidance.M=300")
    if key.strip() == PROMPT:  # a sentence, which YAML would cut at a # and split at a colon
        return {PROMPT: value}
    try:
        parsed: Any = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{text!r}: {value!r} is not a YAML value") from error
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def _merge(base: omegaconf.DictConfig, values: Mapping[str, Any], source: str) -> omegaconf.DictConfig:
    """Check every key, then merge at once; if that fails, leaf by leaf, to name by its full key what does not fit."""
    _check_keys(values, source)
    try:
        merged = OmegaConf.merge(base, dict(values))
    except omegaconf.errors.OmegaConfBaseException as error:
        for key, value in leaves(values):
            _merge_leaf(base, key, value, source)
        raise UserError(f"{source} does not fit ({str(error).splitlines()[0]})") from error
    assert isinstance(merged, omegaconf.DictConfig)
    return merged


def _check_keys(values: Mapping[str, Any], source: str) -> None:
    known = _defaults()
    sections = {key.rsplit(".", depth)[0] for key in known for depth in range(1, key.count(".") + 1)}
    for key, value in leaves(values):
        if key in sections:
            raise UserError(f"{source}: {key} is a section; give it keys of its own, e.g. {_member(key, known)}: ...")
        if key not in known:
            raise UserError(f"{source}: there is no key {key!r}{_nearest_key(key, known)}")
        if isinstance(value, str) and (value == "???" or "${" in value):
            raise UserError(f"{source}: {key} holds {value!r}, which a config cannot hold; write the value itself")


def _merge_leaf(base: omegaconf.DictConfig, key: str, value: Any, source: str) -> None:
    update: Any = value
    for part in reversed(key.split(".")):
        update = {part: update}
    try:
        OmegaConf.merge(base, update)
    except omegaconf.errors.OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        where = "" if source.startswith(f"{key}=") else f"{source}: "
        raise UserError(f"{where}{key}={value!r} does not fit ({reason})") from error


def _build(hint: Any, value: Any, key: str) -> Any:
    """The value of a type hint. OmegaConf checked the leaves; what lies inside nested sequences it leaves to us."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        fields = {f.name: _build(hints[f.name], value[f.name], f"{key}.{f.name}") for f in dataclasses.fields(hint)}
        return hint(**fields)
    options = typing.get_args(hint)
    if types.NoneType in options:
        return None if value is None else _build(options[0], value, key)
    if typing.get_origin(hint) is tuple:
        many = options[-1] is Ellipsis
        if not isinstance(value, list | tuple) or (not many and len(value) != len(options)):
            wanted = "a list" if many else f"{len(options)} values"
            raise UserError(f"{key.lstrip('.')} holds {value!r} where {wanted} are due")
        kinds = [options[0]] * len(value) if many else options
        return tuple(_build(kind, item, key) for kind, item in zip(kinds, value, strict=True))
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{key.lstrip('.')} holds {value!r} where a number is due")
        return float(value)
    return value


def _member(section: str, known: Mapping[str, Any]) -> str:
    return next(key for key in known if key.startswith(f"{section}."))


def _nearest_key(key: str, known: Mapping[str, Any]) -> str:
    last = key.rsplit(".", 1)[-1]
    same = [candidate for candidate in known if candidate.rsplit(".", 1)[-1] == last]
    near = difflib.get_close_matches(key, same or known, n=1, cutoff=0.0 if same else 0.6)
    if not near:
        words = {candidate.rsplit(".", 1)[-1]: candidate for candidate in known}
        near = [words[word] for word in difflib.get_close_matches(last, words, n=1, cutoff=0.6)]
    return f"; did you mean {near[0]}?" if near else "; `--dry-run` lists all keys"


def _nearest_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("configs")
    names = [str(other) for other in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []
    near = difflib.get_close_matches(str(path), names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _position(error: Exception) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "")
    return f"line {mark.line + 1}: {problem}" if mark is not None else type(error).__name__


def _finished(merged: omegaconf.DictConfig) -> ExperimentConfig:
    """The dataclass, every number of it within its bounds; what hangs together is checked where it is used."""
    try:
        values = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except omegaconf.errors.OmegaConfBaseException as error:
        raise UserError(f"the config cannot be resolved: {str(error).splitlines()[0]}") from error
    config: ExperimentConfig = _build(ExperimentConfig, values, "")
    bounds.check(config)
    return config
