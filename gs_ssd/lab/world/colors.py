"""The twelve colours of the world, and the fixed colours of small parts (eyes, wood, glass)."""

from typing import Final

Rgb = tuple[float, float, float]

COLORS: Final[dict[str, Rgb]] = {
    "red": (0.86, 0.07, 0.07),
    "orange": (0.97, 0.50, 0.06),
    "yellow": (0.97, 0.87, 0.12),
    "green": (0.12, 0.60, 0.17),
    "cyan": (0.14, 0.76, 0.80),
    "blue": (0.10, 0.20, 0.84),
    "purple": (0.50, 0.14, 0.70),
    "pink": (0.97, 0.50, 0.71),
    "brown": (0.44, 0.25, 0.11),
    "black": (0.07, 0.07, 0.08),
    "white": (0.94, 0.94, 0.94),
    "gray": (0.50, 0.50, 0.52),
}

INK: Final[Rgb] = (0.06, 0.06, 0.07)
SNOW: Final[Rgb] = (0.95, 0.95, 0.96)
STEEL: Final[Rgb] = (0.62, 0.64, 0.67)
GLASS: Final[Rgb] = (0.62, 0.84, 0.97)
WOOD: Final[Rgb] = (0.45, 0.28, 0.13)
CREAM: Final[Rgb] = (0.95, 0.88, 0.70)
DOUGH: Final[Rgb] = (0.80, 0.55, 0.27)
BEAK: Final[Rgb] = (0.98, 0.55, 0.05)
LEAF: Final[Rgb] = (0.20, 0.58, 0.15)
CLAY: Final[Rgb] = (0.74, 0.38, 0.20)
GLOW: Final[Rgb] = (1.00, 0.90, 0.45)
CHERRY: Final[Rgb] = (0.85, 0.06, 0.10)


def tint(color: Rgb, scale: float, lift: float = 0.0) -> Rgb:
    """A darker or paler version of a colour."""
    red, green, blue = color
    return (scale * red + lift, scale * green + lift, scale * blue + lift)


def colors() -> list[str]:
    """Names of the colours that every kind comes in."""
    return list(COLORS)
