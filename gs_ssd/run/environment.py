"""What a result was made with, beside the settings given: versions, machine, device, and what a run
adds."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import gs_ssd
from gs_ssd import json_text
from gs_ssd.files import atomic_path

UNTIL = "until_step_"
PACKAGES = ("torch", "diffusers", "transformers", "peft")


def describe(device: torch.device) -> dict[str, str]:
    """Names and versions, as text; a package that is not installed is "absent".

    A CPU's threads count, too."""
    found = {
        "gs-ssd": gs_ssd.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    found |= {name: _version(name) for name in PACKAGES}
    if device.type == "cuda":
        return found | {"device": torch.cuda.get_device_name(device)}
    # The order of a CPU's sums depends on the number of threads, and with it the last bits of every
    # result.
    return found | {"device": device.type, "threads": str(torch.get_num_threads())}


def write(
    path: Path, found: Mapping[str, Any], *, completed: int = 0
) -> dict[str, tuple[Any, Any]]:
    """Write `found` as JSON, a line each; returns what differs from what stood there, as (old,
    new).

    What is unreadable differs not.

    Args:
        completed: steps that were made with what stood there: what differs of it stays, under
            `until_step_N`. 0: what stood there is of no interest.

    Raises:
        UserError: the file cannot be written.
    """
    before = recall(path) if completed else {}
    changed = {
        key: (before[key], new)
        for key, new in found.items()
        if key in before and before[key] != new
    }
    kept = {key: value for key, value in before.items() if key.startswith(UNTIL)}
    if changed:  # where it stands already, no step was made since
        old = {key: was for key, (was, _) in changed.items()}
        kept.setdefault(f"{UNTIL}{completed}", old)
    with atomic_path(path) as temporary:
        both = {**found, **kept}.items()
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in both)
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return changed


def recall(path: Path) -> dict[str, Any]:
    """What `write` wrote; nothing where the file is missing or damaged."""
    try:
        found = json_text.parse(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
