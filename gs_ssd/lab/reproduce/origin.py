"""What a result was made with: the prior's weights and recipe, the settings, the code that
measured. Short hashes.

Ledgers carry them with every line, so that no number is ever taken for that of other weights or
other settings.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

import gs_ssd
from gs_ssd import config as configs
from gs_ssd.prior import BUNDLED, PriorConfig, choose_dtype, taught_on_bundled
from gs_ssd.prior.sources import locate

PACKAGE = Path(gs_ssd.__file__).parent
MEASURING = (
    *(
        "lab/evaluate/measure.py",
        "lab/evaluate/parts.py",
        "lab/evaluate/statistics.py",
        "lab/evaluate/judge.py",
        "lab/evaluate/judge/*",
    ),
    "lab/world/*.py",
)
"""What decides a measured number, once the asset is there."""
IRRELEVANT = ("prompt", "seed", "device", "output")
"""Settings that are named elsewhere in a job, or do not touch the asset."""
ADDED: Final[dict[tuple[str, str], Callable[[Any], bool]]] = {
    ("prior", "variety"): lambda amount: amount == 0,
    ("nerf", "finish"): lambda finish: finish["steps"] == 0,
    ("nerf", "last_rate"): lambda factor: factor == 1,
}
"""Settings that came after lines were committed, and whether an asset is what it was without them:
there they do not count.

Not `guidance.average_views`, `viewpoints.num_views_law` and `nerf.warm_start`, `learned_background`
and `background_rate`: lines older than those (docs/measured/quick.jsonl) lack them, but all younger
ones, the comparison's among them, were hashed with them.
"""


def origin_of_prior(prior: PriorConfig, device: str = "cpu") -> dict[str, str]:
    """`weights`: the model's name and a hash of its safetensors; `recipe`: a hash of its
    gs_ssd.json, "" without one.

    Raises:
        UserError: there is no such model.
    """
    if prior.model == "analytic":
        return {"weights": "analytic", "recipe": ""}
    target = torch.device("cpu" if device == "auto" else device)
    half = choose_dtype(prior.dtype, target) != torch.float32
    taught = taught_on_bundled(prior.model)
    folder = taught or (BUNDLED if prior.model == "bundled" else _locate(prior, half))
    name = prior.model if prior.model in ("bundled", folder.name) else folder.name
    return {
        "weights": f"{name} {_hash_of_weights(folder)}",
        "recipe": _hash_of_files([folder / "gs_ssd.json"]),
    }


def origins(config: Path) -> Callable[[Sequence[str]], dict[str, str]]:
    """A function from the overrides of a training to what it is made with: the prior's origin, and
    its `config`.

    The settings are hashed as they are after the YAML file, its parents, the defaults and the
    overrides have met.
    """

    def of(overrides: Sequence[str]) -> dict[str, str]:
        experiment = configs.load(config, overrides)
        settings = {k: v for k, v in configs.to_mapping(experiment).items() if k not in IRRELEVANT}
        for (section, name), without_effect in ADDED.items():
            if without_effect(settings[section][name]):
                del settings[section][name]
        text = json.dumps(settings, sort_keys=True)
        return origin_of_prior(experiment.prior, experiment.device) | {
            "config": short_hash(text.encode())
        }

    return of


@functools.cache
def metrics_version(*options: Hashable) -> str:
    """A hash of the judge, of all code that measures, and of its options (cameras, pixels, a CLIP
    model's name)."""
    return short_hash(f"{code_version(*MEASURING)} {options!r}".encode())


def code_version(*patterns: str) -> str:
    """A hash of the package's files that these patterns name."""
    return _hash_of_files(sorted(path for pattern in patterns for path in PACKAGE.glob(pattern)))


@functools.cache
def _locate(prior: PriorConfig, half: bool) -> Path:
    return locate(prior.model, revision=prior.revision, offline=prior.offline, half=half)


@functools.cache
def _hash_of_weights(folder: Path) -> str:
    return _hash_of_files(sorted(folder.rglob("*.safetensors")) if folder.is_dir() else [folder])


def _hash_of_files(paths: Iterable[Path]) -> str:
    """Of their names and contents; "" where there are none."""
    parts = []
    for path in paths:
        if path.is_file():
            with path.open("rb") as file:
                parts.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return short_hash("\n".join(parts).encode()) if parts else ""


def short_hash(data: bytes) -> str:
    """Twelve hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:12]
