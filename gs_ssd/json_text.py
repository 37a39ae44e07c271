"""JSON that somebody else wrote: one kind of error, whose words are for who wrote it."""

import json
from collections.abc import Callable
from typing import Any

from gs_ssd.digits import whole_number


def parse(
    text: str | bytes, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """The value that a JSON text holds; bytes are UTF-8.

    Args:
        object_pairs_hook: makes an object of its members; by default a dict.

    Raises:
        ValueError: no JSON, nested too deep, or a whole number of more than
            `gs_ssd.digits.MOST_DIGITS` digits.
    """
    try:
        return json.loads(text, parse_int=whole_number, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
