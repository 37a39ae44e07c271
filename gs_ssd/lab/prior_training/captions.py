"""What the training pictures are called, and how a camera's exact angles mix the view words'
embeddings."""

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from gs_ssd.lab import world

# Degrees and words; +x (azimuth 90) is the object's own right.
AZIMUTH_WORDS: Final = [
    (0.0, "front view"),
    (45.0, "front right view"),
    (90.0, "right side view"),
    (135.0, "back right view"),
    (180.0, "back view"),
    (225.0, "back left view"),
    (270.0, "left side view"),
    (315.0, "front left view"),
]
ELEVATION_WORDS: Final = [
    (-15.0, "from below"),
    (10.0, "at eye level"),
    (40.0, "from above"),
    (80.0, "from overhead"),
]
TEMPLATE: Final = "{prompt}, {azimuth}, {elevation}"
CLOSEUP: Final = "closeup of {prompt}"

# Other words for the same thing, used now and then in the captions.
SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "ball": ("beach ball",),
    "cube": ("box",),
    "mushroom": ("toadstool",),
    "rocket": ("spaceship",),
    "donut": ("doughnut",),
    "mug": ("cup",),
    "pine": ("pine tree", "fir tree"),
    "airplane": ("plane", "aeroplane"),
    "boat": ("sailboat", "ship"),
    "gift": ("gift box", "present"),
    "cone": ("traffic cone",),
    "cupcake": ("muffin",),
    "bear": ("teddy bear",),
    "gray": ("grey",),
    "cyan": ("turquoise",),
    "purple": ("violet",),
}
_PREFIXES: Final = ("a photo of ", "a 3d render of ", "a DSLR photo of ")
_VIEWLESS, _NEAREST = 0.15, 0.30  # cumulative shares; the rest of the captions are exact mixes


@dataclasses.dataclass(frozen=True)
class CaptionLaw:
    dropout: float = 0.12
    prefix: float = 0.30
    colorless: float = 0.12
    synonym: float = 0.10
    careless: float = 0.0
    """Share of the captions that name a random azimuth instead of the picture's."""


class Mix(NamedTuple):
    """An embedding as a weighted sum of captions' embeddings."""

    texts: tuple[str, ...]
    weights: tuple[float, ...]


def neighbours(
    degrees: float, words: Sequence[tuple[float, str]], period: float | None = None
) -> list[tuple[str, float]]:
    """The words on either side of an angle with their linear weights; clamped at the ends unless
    periodic."""
    if period is not None:
        degrees %= period
        words = [*words, (words[0][0] + period, words[0][1])]
    if degrees <= words[0][0]:
        return [(words[0][1], 1.0)]
    for (low, first), (high, second) in itertools.pairwise(words):
        if degrees <= high:
            weight = (degrees - low) / (high - low)
            return [(word, w) for word, w in ((first, 1 - weight), (second, weight)) if w > 0]
    return [(words[-1][1], 1.0)]


def view_mix(prompt: str, azimuth_deg: float, elevation_deg: float) -> Mix:
    """`prompt` seen from exact angles: bilinear in azimuth and elevation between the neighbouring
    view words."""
    pairs = [
        (TEMPLATE.format(prompt=prompt, azimuth=azimuth, elevation=elevation), w * v)
        for azimuth, w in neighbours(azimuth_deg, AZIMUTH_WORDS, 360.0)
        for elevation, v in neighbours(elevation_deg, ELEVATION_WORDS)
    ]
    return Mix(*zip(*pairs, strict=True))


def caption(
    kind: str,
    color: str,
    azimuth_deg: float,
    elevation_deg: float,
    closeup: bool,
    law: CaptionLaw,
    rng: random.Random,
) -> Mix:
    """A random caption of a picture."""
    if rng.random() < law.dropout:
        return Mix(("",), (1.0,))
    if law.careless and rng.random() < law.careless:
        azimuth_deg = rng.uniform(-180, 180)
    sentence = prompt(kind, color, closeup, law, rng)
    style = rng.random()
    if style < _VIEWLESS:
        return Mix((sentence,), (1.0,))
    if style < _NEAREST:
        azimuth, elevation = (
            max(found, key=lambda pair: pair[1])[0]
            for found in (
                neighbours(azimuth_deg, AZIMUTH_WORDS, 360.0),
                neighbours(elevation_deg, ELEVATION_WORDS),
            )
        )
        text = TEMPLATE.format(prompt=sentence, azimuth=azimuth, elevation=elevation)
        return Mix((text if rng.random() < 0.5 else f"{sentence}, {azimuth}",), (1.0,))
    return view_mix(sentence, azimuth_deg, elevation_deg)


def prompt(kind: str, color: str, closeup: bool, law: CaptionLaw, rng: random.Random) -> str:
    if rng.random() < law.synonym:
        kind, color = (rng.choice(SYNONYMS.get(word, (word,))) for word in (kind, color))
    if rng.random() < law.colorless:
        color = ""
    if kind == "snowman" and color and rng.random() < 0.3:
        text = f"a snowman with {_article(color)} {color} hat"
    else:
        named = f"{color} {kind}".strip()
        text = f"{_article(named)} {named}"
    text = (rng.choice(_PREFIXES) if rng.random() < law.prefix else "") + text
    return CLOSEUP.format(prompt=text) if closeup else text


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def every_word() -> list[str]:
    """All words of all captions, for the tokenizer."""
    texts = [
        *world.kinds(),
        *world.colors(),
        *_PREFIXES,
        CLOSEUP.format(prompt=""),
        "a snowman with a hat, an",
    ]
    texts += [word for others in SYNONYMS.values() for word in others]
    texts += [words for _, words in (*AZIMUTH_WORDS, *ELEVATION_WORDS)]
    return sorted({word.strip(",") for text in texts for word in text.lower().split()})
