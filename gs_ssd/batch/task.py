"""One asset to make."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

from gs_ssd import config as configs
from gs_ssd.config import ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Task:
    """One asset to make; `name` is its folder in the batch's."""

    name: str
    config: ExperimentConfig
    line: int = 0
    tags: tuple[str, ...] = ()
    anyway: bool = False

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with every setting."""
        texts = (
            f"{json.dumps(field.name)}: {_json(getattr(self.config, field.name))}"
            for field in sorted(dataclasses.fields(self.config), key=lambda field: field.name)
        )
        return hashlib.sha256(f"{{{', '.join(texts)}}}".encode()).hexdigest()[:12]


def _json(value: Any) -> str:
    """As `json.dumps` of the whole would write it; sections that many tasks share are written
    once."""
    if not dataclasses.is_dataclass(value):
        return json.dumps(value, sort_keys=True)
    known = _written.get(id(value))
    if known is None:
        if len(_written) >= MOST_WRITTEN:
            _written.clear()
        known = _written[id(value)] = value, json.dumps(configs.plain(value), sort_keys=True)
    return known[1]


_written: dict[int, tuple[Any, str]] = {}
"""By identity, which cannot be another's while the section is kept here. Equality would not do: 1,
1.0 and True are equal and are written differently."""
MOST_WRITTEN = 1000
