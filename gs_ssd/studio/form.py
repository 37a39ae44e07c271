"""The settings as a form: names, types, bounds, choices and docs, read from the dataclasses."""

import ast
import functools
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import AfterValidator

from gs_ssd import config as configs
from gs_ssd import refusals
from gs_ssd.bounds import OneOf
from gs_ssd.config import ExperimentConfig


@functools.cache
def fields() -> list[dict[str, Any]]:
    """One entry a setting, in the dataclasses' order.

    `kind` is bool, int, float, choice, text, or list (typed as YAML: tuples and laws of progress).
    """
    docs = dict(_docs(ExperimentConfig))
    return [
        {"key": key, "about": docs.get(key, ""), "default": default, **_type(annotation)}
        for key, (annotation, default) in configs.known_keys().items()
    ]


def _type(annotation: Any) -> dict[str, Any]:
    bare, bounds = refusals.bare(annotation), refusals.bounds_of(annotation)
    found: dict[str, Any] = {"open": types.NoneType in typing.get_args(annotation)}
    choices = _choices(annotation)
    if bare is bool:
        return {**found, "kind": "bool"}
    if choices:
        return {**found, "kind": "choice", "choices": choices}
    if bare in (int, float):
        limits = {} if bounds is None else {"bounds": str(bounds)}
        return {**found, "kind": bare.__name__, **limits}
    return {**found, "kind": "text" if bare is str else "list"}


def _choices(annotation: Any) -> list[str]:
    """The words that may stand there: of a Literal, or of a `bounds.choice`."""
    for part in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(part) is Literal:
            return [str(word) for word in typing.get_args(part)]
        if typing.get_origin(part) in (types.UnionType, typing.Union):
            return next(filter(None, map(_choices, typing.get_args(part))), [])
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, AfterValidator) and isinstance(extra.func, OneOf):
                return list(extra.func.names)
    return []


def _docs(owner: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, what the docstring under the field says); of a section, what its class says."""
    hints = typing.get_type_hints(owner)
    for name, text in _docstrings(owner).items():
        yield f"{prefix}{name}", text
    for name, hint in hints.items():
        inner = refusals.bare(hint)
        if isinstance(inner, type) and hasattr(inner, "__dataclass_fields__"):
            first = (inspect.getdoc(inner) or "").split("\n\n")[0]
            yield f"{prefix}{name}", " ".join(first.split())
            yield from _docs(inner, f"{prefix}{name}.")


@functools.cache
def sections() -> dict[str, str]:
    """What each section of the settings is about, by its dotted name."""
    keys = set(configs.known_keys())
    return {key: text for key, text in _docs(ExperimentConfig) if key not in keys}


def _docstrings(owner: type) -> dict[str, str]:
    """The bare strings that follow a class's fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    found = {}
    for field, text in itertools.pairwise(body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                found[name] = " ".join(said.split())
    return found
