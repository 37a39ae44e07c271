"""Whole numbers out of text that somebody else wrote."""

from typing import Final

MOST_DIGITS: Final = 400
"""Python refuses more than 4300 with advice for who runs Python, not for who wrote the number."""


def whole_number(text: str, base: int = 10) -> int:
    """The whole number that `text` says.

    Raises:
        ValueError: it says none, or one of more than `MOST_DIGITS` digits.
    """
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")
    return int(text, base)
