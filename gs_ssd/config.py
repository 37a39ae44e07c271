"""One experiment, composed of the components' own settings; checked here and nowhere else.

Precedence: the defaults, then the YAML file (after the one that it `extends`), then `key.sub=value`
from the command line. Whatever does not fit is refused by its full key and the file that holds it;
an unknown key with the nearest known one. `layers` reads and merges; pydantic checks types, bounds
and choices, as `gs_ssd.bounds` has them written beside each setting.
"""

import dataclasses
import difflib
import functools
import json
import logging
import operator
import os
import typing
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from gs_ssd import lucid_yaml, refusals, threestudio_yaml, yaml_files
from gs_ssd.assets.avatar.config import AvatarConfig
from gs_ssd.assets.nerf.config import NerfConfig
from gs_ssd.assets.splat.densify.choice import DensifyConfig
from gs_ssd.assets.splat.finish import FinishConfig
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.bounds import Bounds, FovDeg, Line, Often, PolarDeg, Positive, Size, settings
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.layers import Layer, leaves, merge, read_layers
from gs_ssd.prior import PriorConfig
from gs_ssd.render.augment import AugmentConfig
from gs_ssd.render.regularizers import RegularizeConfig
from gs_ssd.scene.initialize import InitializeConfig
from gs_ssd.scene.viewpoints import ViewpointConfig

log = logging.getLogger(__name__)

PROMPT, ESTIMATOR = "prompt", "guidance.estimator"
SWITCHES = frozenset({"no", "off", "none", "false", "yes", "on", "true"})

HOSTS = {"LucidDreamer": lucid_yaml, "threestudio": threestudio_yaml}
"""Programs whose YAML files load as they are, and who translates them. Overrides that begin with
one of a program's own sections are in its words."""


@settings
class OutputConfig:
    """What a run writes while it runs and when it ends. 0 steps means never."""

    preview_every: Often = 100
    checkpoint_every: Often = 500
    keep_checkpoints: Annotated[int, Bounds(1, 1_000_000)] = 2
    log_every: Annotated[int, Bounds(1, 1_000_000_000)] = 1
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    wandb: str | None = None
    """A Weights & Biases project to log to; needs the wandb package."""
    turntable_frames: Annotated[int, Bounds(0, 10_000)] = 120
    """A ring; 0: no video."""
    turntable_size: Size = 512
    """Pixels of the video's square frames."""
    polar_deg: (
        Annotated[tuple[PolarDeg, ...], pydantic.Field(min_length=1, max_length=64)] | None
    ) = None
    """Rings of the video and the test views, one after the other; `None`: the middle of the
    training cameras' range."""
    radius: Positive | None = None
    fov_y_deg: FovDeg | None = None
    """Where the showing cameras stand; `None`: in the middle of the first step's ranges."""
    depth: bool = False
    """Put the disparity beside the colours in the videos and test views."""
    test_views: Annotated[int, Bounds(0, 1000)] = 0
    """Single pictures a ring, in test_views/; 0: none."""
    process_frames: Annotated[int, Bounds(0, 100_000)] = 0
    """Frames of a video of the making (process.mp4), spread over the run; 0: none."""

    def __post_init__(self) -> None:
        if self.wandb is not None and self.wandb.lower() in SWITCHES:
            raise UserError(
                f"output.wandb is {self.wandb!r}; it names a project to log to, and null turns"
                " it off"
            )


@settings
class ExperimentConfig:
    """Everything that decides the result of `train.py`; saved with the run as config.yaml."""

    prompt: Line = ""
    seed: Annotated[int, Bounds(-(2**63), 2**63 - 1)] = 0
    num_steps: Annotated[int, Bounds(1, 10_000_000)] = 5000
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""
    max_bad_steps: Annotated[int, Bounds(1, 1_000_000)] = 20
    """Steps in a row whose gradient is not finite before the run gives up; each one is skipped and
    counted."""
    asset: Literal["splat", "nerf", "avatar"] = "splat"
    """What is optimized: a 3D Gaussian splat, a radiance field on a hash grid, or a splat on a
    body that moves."""
    prior: PriorConfig = dataclasses.field(default_factory=PriorConfig)
    guidance: DistillConfig = dataclasses.field(default_factory=DistillConfig)
    initialize: InitializeConfig = dataclasses.field(default_factory=InitializeConfig)
    viewpoints: ViewpointConfig = dataclasses.field(default_factory=ViewpointConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    regularize: RegularizeConfig = dataclasses.field(default_factory=RegularizeConfig)
    densify: DensifyConfig = dataclasses.field(default_factory=DensifyConfig)
    finish: FinishConfig = dataclasses.field(default_factory=FinishConfig)
    avatar: AvatarConfig = dataclasses.field(default_factory=AvatarConfig)
    nerf: NerfConfig = dataclasses.field(default_factory=NerfConfig)
    output: OutputConfig = dataclasses.field(default_factory=OutputConfig)


SCHEMA = pydantic.TypeAdapter(ExperimentConfig)


def load(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The experiment of a YAML file (`None`: the defaults) with `key.sub=value` overrides.

    Raises:
        UserError: a file that is missing or no YAML, an unknown key, a value of the wrong type or
            out of range.
    """
    layers = [] if path is None else read_layers(Path(path))
    merged = merge(layers)
    for program, host in HOSTS.items():
        if host.recognises(merged):
            theirs = [text for text in overrides if text.split(".")[0] in host.SECTIONS]
            overrides = [text for text in overrides if text not in theirs]
            merged = merge([*layers, *((text, _parse_override(text)) for text in theirs)])
            layers = [(str(path), _translated(program, merged, str(path), overrides))]
            break
    return _checked([*layers, *((text, _parse_override(text)) for text in overrides)])


def is_own(override: str) -> bool:
    """Whether another program's file comes to the same without this override, but for its key."""
    key = override.partition("=")[0].strip()
    theirs = any(key.split(".")[0] in host.SECTIONS for host in HOSTS.values())
    return key != ESTIMATOR and not theirs


def varied(config: ExperimentConfig, overrides: Sequence[str]) -> ExperimentConfig:
    """A loaded experiment with more `key.sub=value` overrides that are `is_own`, with the same
    checks; twenty times as fast as `load`, for thousands of them.

    Raises:
        UserError: see `load`.
    """
    values, layers = to_mapping(config), [(text, _parse_override(text)) for text in overrides]
    for source, layer in layers:
        _check_keys(layer, source)
        for key, value in leaves(layer):
            *sections, last = key.split(".")
            owner = values
            for section in sections:
                owner = owner[section]
            if value != {}:  # an empty section changes nothing
                owner[last] = value
    return _validated(values, layers)


def for_prompt(config: ExperimentConfig, prompt: str, seed: int) -> ExperimentConfig:
    """A loaded experiment for another prompt and seed, with the same checks; it shares all else,
    for thousands of them.

    Raises:
        UserError: see `load`.
    """
    _refuse_unprintable(PROMPT, prompt, "")
    try:
        return dataclasses.replace(config, prompt=prompt, seed=seed)
    except pydantic.ValidationError as error:
        raise _refusal(error, {PROMPT: prompt, "seed": seed}, []) from error


def from_mapping(
    values: Mapping[str, Any], source: str, overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """The experiment of a nested mapping with `key.sub=value` overrides, with the same checks;
    `source` is named in messages."""
    return _checked([(source, values), *((text, _parse_override(text)) for text in overrides)])


def _translated(
    program: str, values: Mapping[str, Any], path: str, overrides: Sequence[str]
) -> dict[str, Any]:
    """Another program's file in our schema, for the estimator that the command line asks for; its
    notes are logged."""
    prefix = f"{ESTIMATOR}="
    asked = [text.removeprefix(prefix).strip() for text in overrides if text.startswith(prefix)]
    translation = HOSTS[program].translate(values, path, estimator=asked[-1] if asked else None)
    for note in translation.notes:
        log.warning("%s (a %s file): %s", path, program, note)
    return translation.config


def to_mapping(config: ExperimentConfig) -> dict[str, Any]:
    """Plain dicts, lists and numbers."""
    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def plain(value: Any) -> Any:
    """Settings, or one of their values, as `to_mapping` has them."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def to_yaml(config: ExperimentConfig) -> str:
    """The whole experiment as YAML, in the order of the dataclasses; `load` reads it back to an
    equal config."""
    return yaml_files.dump(to_mapping(config))


def save(config: ExperimentConfig, path: Path) -> None:
    """Write `to_yaml` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


def differences(old: ExperimentConfig, new: ExperimentConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    before, after = dict(leaves(to_mapping(old))), dict(leaves(to_mapping(new)))
    return {key: (before[key], after[key]) for key in after if before[key] != after[key]}


@functools.cache
def known_keys() -> dict[str, tuple[Any, Any]]:
    """Every key that there is, dotted: its annotation and its default."""
    defaults = dict(leaves(to_mapping(ExperimentConfig())))
    return {key: (_annotation(key.split(".")), default) for key, default in defaults.items()}


def _annotation(names: Sequence[str], owner: type = ExperimentConfig) -> Any:
    hint = typing.get_type_hints(owner, include_extras=True)[names[0]]
    return _annotation(names[1:], hint) if len(names) > 1 else hint


def _parse_override(text: str) -> dict[str, Any]:
    """`key.sub=value` as a nested mapping.

    A prompt is taken word for word, other text too unless it is in quotes."""
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not key:
        raise UserError(
            f"{text!r} is no override; write key.sub=value, e.g. seed=1 or guidance.M=300"
        )
    hint = known_keys().get(key, (None, None))[0]
    is_word = (
        refusals.bare(hint) is str
        and value.strip() not in ("", "~", "null")
        and value.strip()[0] not in "'\""
    )
    words = (PROMPT, threestudio_yaml.PROMPT)
    if key in words or is_word:
        parsed: Any = value if key in words else value.strip()
    else:
        parsed = yaml_files.parse(value, f"the value of {text!r}").value
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    return parsed


def _checked(layers: Sequence[Layer]) -> ExperimentConfig:
    """The experiment that the layers make, the last one winning; the first thing that does not fit
    is refused."""
    for source, values in layers:
        _check_keys(values, source)
    return _validated(merge(layers), layers)


def _validated(values: Mapping[str, Any], layers: Sequence[Layer]) -> ExperimentConfig:
    """The experiment of merged values; `layers` are named where one does not fit."""
    try:
        return SCHEMA.validate_json(json.dumps(values))
    except pydantic.ValidationError as error:
        raise _refusal(error, values, layers) from error
    except UserError as error:  # from a __post_init__, which knows the keys but not the file
        key = next(
            (word for word in str(error).replace("=", " ").split() if word in known_keys()), ""
        )
        raise UserError(f"{_whose(key, layers)}{error}") from error


def _refusal(
    error: pydantic.ValidationError, values: Mapping[str, Any], layers: Sequence[Layer]
) -> UserError:
    """What pydantic found first, in the words of a config."""
    first = error.errors(include_url=False)[0]
    key = ".".join(part for part in first["loc"] if isinstance(part, str))
    annotation, value = known_keys()[key][0], dict(leaves(values))[key]
    whose = _whose(key, layers)
    text = f"{whose}{refusals.complaint(key, annotation, value, first)}"
    if first["type"] == "tuple_type" and (fits := _fitting_list(key, annotation, value)):
        text += f"; write {fits if whose else f'{key}={fits}'}"
    return UserError(text)


def _fitting_list(key: str, annotation: Any, value: Any) -> str:
    """The list that is taken where `value` is not, as YAML; "" where there is none."""
    for meant in refusals.as_lists(annotation, value):
        values = to_mapping(ExperimentConfig())
        *sections, last = key.split(".")
        functools.reduce(operator.getitem, sections, values)[last] = meant
        try:
            SCHEMA.validate_json(json.dumps(values))
        except (pydantic.ValidationError, UserError):
            continue
        return " ".join(yaml_files.dump(meant).split("\n")).strip()
    return ""


def _whose(key: str, layers: Sequence[Layer]) -> str:
    """The file that has the last word on a key, as the beginning of a message; an override names
    its key itself."""
    holders = [source for source, values in layers if key in dict(leaves(values))]
    return f"{holders[-1]}: " if holders and not holders[-1].startswith(f"{key}=") else ""


def _check_keys(values: Mapping[str, Any], source: str) -> None:
    known = known_keys()
    sections = {
        key.rsplit(".", depth)[0] for key in known for depth in range(1, key.count(".") + 1)
    }
    for key, value in leaves(values):
        if key in sections:
            if value != {}:
                raise UserError(
                    f"{source}: {key} is a section; give it keys, e.g. {_member(key, known)}: ..."
                )
        elif key not in known:
            raise UserError(f"{source}: there is no key {key!r}{_nearest_key(key, known)}")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                _refuse_unprintable(key, text, _whose(key, [(source, values)]))


def _refuse_unprintable(key: str, text: str, whose: str) -> None:
    if any(map(_unprintable, text)):
        raise UserError(f"{whose}{key} is {refusals.shown(text)}; it holds bytes that are no text")


def _unprintable(character: str) -> bool:
    """A control character, or half of a surrogate pair (how Python shows bytes that are no
    UTF-8)."""
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r"


def _member(section: str, known: Mapping[str, Any]) -> str:
    return next(key for key in known if key.startswith(f"{section}."))


def _nearest_key(key: str, known: Mapping[str, Any]) -> str:
    if "." not in key:  # `steps` is num_steps before it is a field's nerf.steps
        plain = [candidate for candidate in known if "." not in candidate]
        if near := difflib.get_close_matches(key, plain, n=1, cutoff=0.7):
            return f"; did you mean {near[0]}?"
    last = key.rsplit(".", 1)[-1]
    same = [candidate for candidate in known if candidate.rsplit(".", 1)[-1] == last]
    near = difflib.get_close_matches(key, same or known, n=1, cutoff=0.0 if same else 0.6)
    if not near:
        words = {candidate.rsplit(".", 1)[-1]: candidate for candidate in known}
        near = [words[word] for word in difflib.get_close_matches(last, words, n=1, cutoff=0.6)]
    return f"; did you mean {near[0]}?" if near else "; `--dry-run` lists all keys"
