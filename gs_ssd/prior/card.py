"""What a model's `gs_ssd.json` may say; checked as it is read, as what cannot be would surface in
the middle of a run."""

import string
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, Strict, ValidationError

from gs_ssd.bounds import Bounds, Distance, FovDeg, NonNegative, Range
from gs_ssd.errors import UserError
from gs_ssd.files import as_text


def _text(words: str) -> str:
    if as_text(words) != words:
        raise ValueError("it holds bytes that are no text")
    return words


def _template(*fields: str) -> AfterValidator:
    """The text names the prompt, and nothing else but these, each as a plain {name}."""

    def check(template: str) -> str:
        found = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
        if not all(field in fields and plain == ["", None] for field, *plain in found):
            raise ValueError(f"in braces stand {', '.join(fields)} alone")
        if "prompt" not in {field for field, *_ in found}:
            raise ValueError("it lacks {prompt}")
        return template

    return AfterValidator(check)


def _words(period: float | None = None) -> AfterValidator:
    def check(words: list[tuple[float, str]]) -> list[tuple[float, str]]:
        angles = {angle % period if period else angle for angle, _ in words}
        if not words or len(angles) != len(words):
            raise ValueError("it needs at least one [angle, words], and no angle twice")
        return words

    return AfterValidator(check)


Text = Annotated[str, AfterValidator(_text)]
Word = tuple[FiniteFloat, Text]


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Closeup(_Section):
    template: Annotated[Text, _template("prompt")] = "{prompt}"
    fov_y_deg: Range[FovDeg] | None = None
    look_at_jitter: NonNegative | None = None


class _Camera(_Section):
    """A range that is left out is the recipe's."""

    radius: Range[Distance] = (3, 3)
    fov_y_deg: Range[FovDeg] = (40, 40)
    elevation_deg: Range[Annotated[float, Bounds(-90, 90)]] = (0, 0)
    closeup: _Closeup | None = None


class _Views(_Section):
    azimuth_words: Annotated[list[Word], _words(360.0)]
    elevation_words: Annotated[list[Word], _words()]
    template: Annotated[Text, _template("prompt", "azimuth", "elevation")]


class _Recipe(_Section):
    M: int | None = None
    t_schedule: list[tuple[FiniteFloat, FiniteFloat, FiniteFloat]] | None = None


class _Card(_Section):
    """Every section may be left out; what is not known here is kept as it is."""

    kinds: list[Text] = []
    colors: list[Text] = []
    synonyms: dict[Text, list[Text]] = {}
    image_size: Annotated[int, Strict(), Bounds(8, 4096)] | None = None
    camera: _Camera | None = None
    views: _Views = _Views(azimuth_words=[(0, "")], elevation_words=[(0, "")], template="{prompt}")
    recipe: _Recipe = _Recipe()
    negative: Text = ""
    encoder: str = ""
    volume: dict[str, Any] = {}


def check_card(metadata: Any, file: Path) -> None:
    """Refuse a model's card whose entries the program cannot use.

    Raises:
        UserError: names the file, the entry and what is wrong with it.
    """
    try:
        _Card.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{file}: {where or 'the file'}: {reason[:1].lower()}{reason[1:]}"
        ) from error
