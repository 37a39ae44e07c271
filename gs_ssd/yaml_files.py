"""YAML 1.2 in and out: the core schema's scalars, within bounded time and memory.

PyYAML reads YAML 1.1, in which 1:30 is 90, 010 is 8 and `on` is true. The resolvers here are those
of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), with 1.1's underscores
between digits, which LucidDreamer's files have. Keys are text, whatever they look like.
"""

import dataclasses
import re
import unicodedata
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from gs_ssd.digits import whole_number
from gs_ssd.errors import UserError

MAX_BYTES, MAX_DEPTH, MAX_VALUES = 256 * 1024, 32, 10_000

SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
)
"""Type, what a plain scalar of it looks like, and the characters that it begins with (\\0: it is
empty)."""

ONCE_BOOLEAN = frozenset({"yes", "no", "on", "off", "y", "n"})
"""Words that YAML 1.1 took for true and false."""


@dataclasses.dataclass(frozen=True)
class Document:
    """What a file holds, and what its author may have meant otherwise, one sentence each."""

    value: Any
    notes: tuple[str, ...]


def parse(text: str, name: str) -> Document:
    """The one document of a YAML text; `name` (a file, an override) begins the message.

    Raises:
        UserError: no YAML; a key twice; a tag; a value inside itself; too long, too deep, or too
            many values.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{name} is longer than {MAX_BYTES // 1024} KiB; a config is a page or two")
    try:
        loader = _Loader(text)
        return Document(loader.get_single_data(), tuple(loader.notes))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name} is not readable YAML: {_reason(error)}") from error


def dump(value: Any) -> str:
    """YAML that readers of 1.1 and of 1.2 take alike, lists of numbers on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own way to start over

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.notes: list[str] = []
        self.depth = self.values = 0
        self.sizes: dict[int, int] = {}
        """By the id of a finished node: how many values it and everything inside it are."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        mark, tag = event.start_mark, getattr(event, "tag", None)
        if tag is not None:
            raise ComposerError(
                None, None, f"the tag {tag!r} means nothing here; quotes make anything text", mark
            )
        is_alias, before = self.check_event(yaml.AliasEvent), self.values
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ComposerError(
                None, None, f"more than {MAX_DEPTH} lists and mappings inside one another", mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_alias and id(node) not in self.sizes:
            raise ComposerError(None, None, "a value is inside itself", mark)
        self.values += self.sizes[id(node)] if is_alias else 1
        if self.values > MAX_VALUES:
            raise ComposerError(
                None, None, f"more than {MAX_VALUES} values, with its aliases written out", mark
            )
        self.sizes[id(node)] = self.values - before
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        if (
            isinstance(node, yaml.ScalarNode)
            and not (is_key or node.style)
            and node.value.lower() in ONCE_BOOLEAN
        ):
            self.notes.append(
                f"line {mark.line + 1}: {node.value} is a word; what is on or off is true or false"
            )
        return node

    def scan_plain(self) -> yaml.ScalarToken:
        token = super().scan_plain()
        if self.peek() == "#" and self.line == token.end_mark.line and _is_text(token.value):
            comment = self.prefix(1000).rstrip("\0").splitlines()[0]
            gap = self.column - token.end_mark.column
            if (
                gap == 1 or comment[1:2].strip()
            ):  # else it looks like a comment that is meant as one
                self.notes.append(
                    f"line {self.line + 1}: {token.value!r} ends where YAML sees a comment,"
                    f" {comment!r}; if that belongs to the text, put quotes around all of it"
                )
        return token

    def construct_document(self, node: yaml.Node) -> Any:
        self.deep_construct = True  # at once, not later
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(
                    None, None, "a key is a list or a mapping, not a word", key.start_mark
                )
            if key.value in seen:
                raise ConstructorError(
                    None, None, f"the key {key.value!r} stands there twice", key.start_mark
                )
            seen.add(key.value)
        self.flatten_mapping(node)  # <<: *alias
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        digits = self.construct_scalar(node)
        base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
        try:
            return whole_number(digits if base != 10 else digits.replace("_", ""), base)
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_number(self, node: yaml.ScalarNode) -> float:
        digits = self.construct_scalar(node).replace("_", "").lower()
        return float(digits.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes every word that a reader of YAML 1.1 or 1.2 would take for something else."""


def _is_text(plain: str) -> bool:
    return not any(re.fullmatch(pattern, plain) for _, pattern, _ in SCALARS)


def _reason(error: Exception) -> str:
    mark, problem = (
        getattr(error, "problem_mark", None),
        getattr(error, "problem", None) or str(error),
    )
    first = str(problem).splitlines()[0]
    return first if mark is None else f"line {mark.line + 1}: {first}"


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
for kind, pattern, first in SCALARS:
    starts = ["" if character == "\0" else character for character in first]
    for side in (_Loader, _Dumper):
        side.add_implicit_resolver(
            f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{pattern})$"), starts
        )
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # A line break that is no "\n" (NEL, U+2028, ...) is folded into a space where the text stands
    # without quotes.
    odd = any(
        unicodedata.category(letter) in ("Cc", "Zl", "Zp")
        for letter in text
        if letter not in "\n\t"
    )
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True),
)
