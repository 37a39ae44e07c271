"""Why a setting is refused, in one sentence: pydantic's errors in the words of a config."""

import contextlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from gs_ssd import yaml_files
from gs_ssd.bounds import Bounds
from gs_ssd.errors import UserError

WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (in a file: in quotes)",
    "tuple_type": "a list",
    "too_short": "a list that is not empty",
}
"""What must stand there, by the type of pydantic's error."""


def complaint(key: str, annotation: Any, value: Any, error: Mapping[str, Any]) -> str:
    """What is wrong with `value` under `key`, from one entry of pydantic's `errors()`."""
    kind, found = error["type"], error["input"]
    if kind == "value_error":
        return f"{key} is {shown(value)}; {error['ctx']['error']}"
    inside = [place for place in error["loc"] if isinstance(place, int)]
    if kind in ("missing", "too_long"):
        inside = inside[:-1] if kind == "missing" else inside
        wanted = f"a list of {len(typing.get_args(bare(annotation_at(annotation, inside))))}"
    elif kind == "literal_error":
        wanted = f"one of {error['ctx']['expected'].replace(' or ', ', ')}"
    else:
        bounds = bounds_of(annotation_at(annotation, inside))
        wanted = WANTED.get(kind) or str(bounds or error["msg"])
    if inside:
        return f"{key} is {shown(value)}; {shown(found)} must be {wanted}"
    is_open = types.NoneType in typing.get_args(annotation)
    return f"{key} is {shown(value)}; it must be {wanted}{' or null' if is_open else ''}"


def as_lists(annotation: Any, value: Any) -> Iterator[list[Any]]:
    """Lists that somebody may have meant who wrote `value` where `annotation` wants a list; not all
    need fit."""
    if isinstance(value, str) and "," in value:
        with contextlib.suppress(UserError):
            parsed = yaml_files.parse(f"[{value}]", value).value
            if isinstance(parsed, list):
                yield parsed
    yield [value]
    items = typing.get_args(bare(annotation))
    if items[-1] is not Ellipsis:
        yield [value] * len(items)
    yield [[0, value]]  # a law of progress that is constant


def annotation_at(annotation: Any, inside: Sequence[int]) -> Any:
    """The annotation of what lies at these places in the lists that `annotation` describes."""
    for place in inside:
        items = typing.get_args(bare(annotation))
        annotation = items[0] if items[-1] is Ellipsis else items[place]
    return annotation


def bare(annotation: Any) -> Any:
    """The type itself, without `| None` and without what is annotated."""
    while typing.get_origin(annotation) in (types.UnionType, typing.Union, Annotated):
        annotation = typing.get_args(annotation)[0]
    return annotation


def bounds_of(annotation: Any) -> Bounds | None:
    """The bounds of a number, from its annotation."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return bounds_of(typing.get_args(annotation)[0])
    return next(
        (extra for extra in typing.get_args(annotation)[1:] if isinstance(extra, Bounds)), None
    )


def shown(value: Any) -> str:
    """A value as a message shows it: in YAML's words, without characters that cannot be printed,
    not too long."""
    words = {"None": "null", "True": "true", "False": "false"}
    text = words.get(repr(value), repr(value)).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 100 else f"{text[:60]} ... {text[-20:]}"
