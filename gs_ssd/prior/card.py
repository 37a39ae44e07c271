"""What a model's `gs_ssd.json` may say; checked as it is read, as a wrong type would surface in the
middle of a run."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from gs_ssd.errors import UserError

Pair = tuple[FiniteFloat, FiniteFloat]


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Closeup(_Section):
    template: str = ""
    fov_y_deg: Pair = (0, 0)
    look_at_jitter: FiniteFloat = 0


class _Camera(_Section):
    radius: Pair = (0, 0)
    fov_y_deg: Pair = (0, 0)
    elevation_deg: Pair = (0, 0)
    closeup: _Closeup | None = None


class _Views(_Section):
    azimuth_words: list[tuple[FiniteFloat, str]]
    elevation_words: list[tuple[FiniteFloat, str]]
    template: str


class _Recipe(_Section):
    M: int | None = None
    t_schedule: list[tuple[FiniteFloat, FiniteFloat, FiniteFloat]] | None = None


class _Card(_Section):
    """Every section may be left out; what is not known here is kept as it is."""

    kinds: list[str] = []
    colors: list[str] = []
    synonyms: dict[str, list[str]] = {}
    camera: _Camera | None = None
    views: _Views = _Views(azimuth_words=[], elevation_words=[], template="")
    recipe: _Recipe = _Recipe()
    negative: str = ""
    encoder: str = ""
    volume: dict[str, Any] = {}


def check_card(metadata: Any, file: Path) -> None:
    """Refuse a model's card whose entries have types that the program cannot use.

    Raises:
        UserError: names the file, the entry and what is wrong with it.
    """
    try:
        _Card.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise UserError(
            f"{file}: {where or 'the file'}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        ) from error
