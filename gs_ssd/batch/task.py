"""One asset to make."""

import dataclasses
import hashlib
import json

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

    @property
    def fingerprint(self) -> str:
        """Changes with every setting."""
        content = json.dumps(configs.to_mapping(self.config), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]
