"""What a sentence says that a person wears, and of what colour skin and hair are: words to colours.

A colour word belongs to the next garment, hair or skin after it. A part that no word paints has a
colour of its own.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

Rgb = tuple[float, float, float]

REGIONS: Final = ("skin", "hair", "shirt", "trousers", "shoes")
"""What a sentence paints; every point of a body's surface belongs to one (`gs_ssd.body.surface`).
"""
WORDS: Final[dict[str, str]] = {
    **dict.fromkeys(("skin", "face"), "skin"),
    **dict.fromkeys(("hair", "haired"), "hair"),
    **dict.fromkeys(
        ("shirt", "t-shirt", "tshirt", "sweater", "jumper", "pullover", "top", "jacket"), "shirt"
    ),
    **dict.fromkeys(("trousers", "pants", "jeans", "leggings"), "trousers"),
    **dict.fromkeys(("shoes", "boots", "trainers", "sneakers"), "shoes"),
}
PERSONS: Final = ("person", "human", "man", "woman", "boy", "girl", "someone")
SKIN: Final[dict[str, Rgb]] = {
    "light": (0.95, 0.78, 0.66),
    "fair": (0.95, 0.78, 0.66),
    "tan": (0.80, 0.58, 0.42),
    "brown": (0.55, 0.36, 0.24),
    "dark": (0.36, 0.23, 0.16),
    "black": (0.30, 0.19, 0.13),
}
HAIR: Final[dict[str, Rgb]] = {
    "blond": (0.88, 0.72, 0.40),
    "blonde": (0.88, 0.72, 0.40),
    "fair": (0.88, 0.72, 0.40),
    "ginger": (0.72, 0.34, 0.12),
    "brown": (0.30, 0.18, 0.10),
    "dark": (0.16, 0.10, 0.07),
    "black": (0.07, 0.07, 0.08),
    "gray": (0.55, 0.55, 0.57),
    "grey": (0.55, 0.55, 0.57),
    "white": (0.93, 0.93, 0.93),
}
PLAIN: Final[dict[str, Rgb]] = {
    "skin": (0.87, 0.66, 0.52),
    "hair": (0.30, 0.18, 0.10),
    "shirt": (0.94, 0.94, 0.94),
    "trousers": (0.50, 0.50, 0.52),
    "shoes": (0.15, 0.13, 0.13),
}
"""Of what the sentence does not paint."""


class Read(NamedTuple):
    """What was found: a colour for each of `REGIONS`, and words that changed nothing."""

    colors: tuple[Rgb, ...]
    unread: tuple[str, ...]


def read(sentence: str, paints: Mapping[str, Rgb]) -> Read:
    """The outfit of a sentence.

    Args:
        paints: colour words of clothes (and of skin and hair, where those have none of their own).
    """
    own: dict[str, Mapping[str, Rgb]] = {"skin": SKIN, "hair": HAIR}
    found: dict[str, Rgb] = {}
    waiting, unread = [], []
    words = re.findall(r"[a-z][a-z-]*", sentence.lower())
    for word in words:
        region = WORDS.get(word)
        if region is None:
            if word in paints or word in SKIN or word in HAIR:
                waiting.append(word)
            elif word not in PERSONS:
                unread.append(word)
            continue
        table = {**paints, **own.get(region, {})}
        if waiting and waiting[-1] in table:
            found[region] = table[waiting.pop()]
        unread += waiting
        waiting = []
    return Read(tuple(found.get(region, PLAIN[region]) for region in REGIONS), (*unread, *waiting))
