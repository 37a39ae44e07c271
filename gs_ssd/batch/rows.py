"""The input of a batch: one prompt a line, CSV with a header, or JSON lines."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gs_ssd import json_text
from gs_ssd.errors import UserError
from gs_ssd.files import require_plain_file

OWN = ("prompt", "name", "seed", "tags")
"""Columns with a meaning of their own; every other one is a setting by dotted name."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one line asks for; `settings` are `key=value`, as on the command line."""

    line: int
    prompt: str
    name: str | None = None
    seed: int | None = None
    tags: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A line that cannot run, and why."""

    line: int
    reason: str


def read_rows(path: Path) -> tuple[list[Row], list[Refusal]]:
    """The rows of a .txt, .csv or .jsonl file, and the lines that are none.

    Empty lines are passed over; in a text file also those that begin with #.

    Raises:
        UserError: no such file, another suffix, not UTF-8, no rows, or a CSV without `prompt`.
    """
    require_plain_file(path)
    readers = {".txt": _text, ".csv": _csv, ".jsonl": _json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: name it .txt (a prompt a line), .csv or .jsonl")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    rows: list[Row] = []
    refusals: list[Refusal] = []
    for line, values in reader(text, path):
        try:
            rows.append(_row(line, values))
        except UserError as error:
            refusals.append(Refusal(line, str(error)))
    if not rows and not refusals:
        raise UserError(f"{path} holds no prompt")
    return rows, refusals


Values = Mapping[str, Any] | str
"""A line's columns; a text says why there are none."""


def _text(text: str, _path: Path) -> Iterator[tuple[int, Values]]:
    for line, prompt in enumerate(text.split("\n"), start=1):
        if prompt.strip() and not prompt.lstrip().startswith("#"):
            yield line, {"prompt": prompt.strip()}


def _csv(text: str, path: Path) -> Iterator[tuple[int, Values]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if "prompt" not in header:
            raise UserError(f"{path}: the first line names the columns, and none is `prompt`")
        if twice := {name for name in header if header.count(name) > 1}:
            raise UserError(f"{path}: the column {min(twice)} stands there twice")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                reason = f"{len(cells)} cells under {len(header)} columns; put text with commas"
                yield reader.line_num, f"{reason} in quotes"
                continue
            named = zip(header, cells, strict=False)
            yield reader.line_num, {name: cell for name, cell in named if cell.strip()}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error


def _json_lines(text: str, _path: Path) -> Iterator[tuple[int, Values]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            values = json_text.parse(content, object_pairs_hook=_once)
        except ValueError as error:
            yield line, f"no JSON: {error}"
            continue
        yield line, values if isinstance(values, dict) else "no JSON object ({...})"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members; JSON itself says nothing about a name that stands there twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r} stands there twice")
    return members


def _row(line: int, values: Values) -> Row:
    if isinstance(values, str):
        raise UserError(values)
    prompt, name = values.get("prompt"), values.get("name")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError("prompt is missing; it is a text")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise UserError(f"name is {name!r}; it is a text")
    settings = tuple(_setting(key, held) for key, held in values.items() if key not in OWN)
    return Row(line, prompt, name, _seed(values.get("seed")), _tags(values.get("tags")), settings)


def _setting(key: str, value: Any) -> str:
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _seed(value: Any) -> int | None:
    try:
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        return int(value) if isinstance(value, str) else int("")
    except ValueError:
        raise UserError(f"seed is {value!r}; it must be a whole number") from None


def _tags(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with semicolons between them."""
    found = value.split(";") if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
        raise UserError(f"tags is {value!r}; it is a list of texts, or a text with ; between them")
    return tuple(tag.strip() for tag in found if tag.strip())
