"""The catalogue: every kind of object, told part by part.

A kind is a function that places parts for a colour. Faces look to +y; +x is the object's own right.
Units are free (the result is centred and scaled), parts are at least a tenth of the object across
so that they survive 64 pixels.
"""

from collections.abc import Callable

from gs_ssd.errors import UserError
from gs_ssd.lab.world.colors import (
    BEAK,
    CHERRY,
    CLAY,
    COLORS,
    CREAM,
    DOUGH,
    GLASS,
    GLOW,
    INK,
    LEAF,
    SNOW,
    STEEL,
    WOOD,
    Rgb,
    tint,
)
from gs_ssd.lab.world.sculptor import Part, Sculptor

Kind = Callable[[Sculptor, Rgb], None]
_KINDS: dict[str, Kind] = {}


def kinds() -> list[str]:
    """Names of all kinds, in the order in which they are numbered."""
    return list(_KINDS)


def sculpt(kind: str, color: str | Rgb, seed: int | None = None) -> list[Part]:
    """The parts of one object; its proportions are the kind's mean with `seed=None`, else drawn
    from the seed.

    Raises:
        UserError: the world has no such kind or colour.
    """
    if kind not in _KINDS:
        raise UserError(f"unknown kind {kind!r}; the world has {', '.join(_KINDS)}")
    if isinstance(color, str) and color not in COLORS:
        raise UserError(f"unknown colour {color!r}; the world has {', '.join(COLORS)}")
    sculptor = Sculptor(seed)
    _KINDS[kind](sculptor, COLORS[color] if isinstance(color, str) else color)
    return sculptor.finished()


def _kind(function: Kind) -> Kind:
    _KINDS[function.__name__] = function
    return function


@_kind
def ball(s: Sculptor, c: Rgb) -> None:
    s.ellipsoid((0, 0, 0), 1, c)
    band = s.vary(0.16, 0.2)
    s.frustum((0, 0, -band), (0, 0, band), (1.01, 1.01), SNOW if c != COLORS["white"] else INK)


@_kind
def cube(s: Sculptor, c: Rgb) -> None:
    s.box((0, 0, 0), (1, 1, s.vary(1, 0.08)), c)


@_kind
def mushroom(s: Sculptor, c: Rgb) -> None:
    cap, height = s.vary(0.95), s.vary(0.9)
    s.frustum((0, 0, -height), (0, 0, 0.1), (s.vary(0.36), 0.28), CREAM)
    s.ellipsoid((0, 0, 0.1), (cap, cap, s.vary(0.62)), c)
    s.frustum((0, 0, -0.56), (0, 0, 0.06), (0.3, 0.3), CREAM)
    s.frustum((0, 0, -0.62), (0, 0, -0.1), (0.3, 0.45), CREAM)
    dots = SNOW if c != COLORS["white"] else CHERRY
    with s.named("dots"):
        s.ellipsoid((0, 0, 0.66), (0.24, 0.24, 0.12), dots)
        for x, y in ((0.6, 0.15), (-0.15, 0.6), (-0.6, -0.15), (0.15, -0.6)):
            s.ellipsoid((x * cap / 0.95, y * cap / 0.95, 0.48), (0.21, 0.21, 0.17), dots)


@_kind
def rocket(s: Sculptor, c: Rgb) -> None:
    body, top = s.vary(0.38), s.vary(0.75)
    hull = SNOW if c != COLORS["white"] else STEEL
    s.frustum((0, 0, -0.9), (0, 0, top), (body, body), hull)
    s.frustum((0, 0, top), (0, 0, top + s.vary(0.75)), (body * 1.02, 0.0), c)
    s.frustum((0, 0, -1.15), (0, 0, -0.9), (0.32, 0.22), INK)
    with s.named("window"):
        s.ellipsoid((0, body * 0.92, 0.35), (0.2, 0.1, 0.2), GLASS)
    s.frustum((0, 0, -0.35), (0, 0, -0.12), (body * 1.03, body * 1.03), c)
    with s.named("fins"):
        for angle in (45, 135, 225, 315):
            dx, dy = (1 if angle in (45, 315) else -1), (1 if angle in (45, 135) else -1)
            s.sail((dx * 0.46, dy * 0.46, -0.75), (0.32, 0.09, 0.42), c, (0, 0, angle))


@_kind
def donut(s: Sculptor, c: Rgb) -> None:
    minor = s.vary(0.42, 0.08)
    s.torus((0, 0, 0), (0.72, 0.72, 0.72), minor, DOUGH)
    s.torus((0, 0, 0.09), (0.72, 0.72, 0.68), minor * 0.99, c)


@_kind
def snowman(s: Sculptor, c: Rgb) -> None:
    base, chest, head = s.vary(0.62, 0.06), s.vary(0.46, 0.06), s.vary(0.36, 0.06)
    s.ellipsoid((0, 0, -0.75), base, SNOW)
    s.ellipsoid((0, 0, 0.02), chest, SNOW)
    s.ellipsoid((0, 0, 0.6), head, SNOW)
    s.torus((0, 0, 0.34), (0.34, 0.34, 0.42), 0.34, c)
    s.frustum((0, 0, 0.82), (0, 0, 0.92), (0.48, 0.48), c)
    s.frustum((0, 0, 0.9), (0, 0, s.vary(1.38, 0.06)), (0.32, 0.32), c)
    with s.named("nose"):
        s.frustum((0, head * 0.8, 0.58), (0, head + 0.34, 0.54), (0.12, 0.02), BEAK)
    for x in (-0.15, 0.15):
        s.ellipsoid((x, head * 0.86, 0.73), 0.08, INK)
    for z in (0.12, -0.12):
        s.ellipsoid((0, chest * 0.95, z), 0.08, INK)


@_kind
def mug(s: Sculptor, c: Rgb) -> None:
    radius, half = s.vary(0.62, 0.08), s.vary(0.72, 0.08)
    s.frustum((0, 0, -half), (0, 0, half), (radius * 0.94, radius), c, hollow=True)
    s.torus((0, 0, half), (radius, radius, 0.5), 0.09, c)
    with s.named("handle"):
        s.torus((radius + 0.08, 0, 0), (0.4, 0.42, 0.42), 0.28, c, (90, 0, 0))
    s.frustum((0, 0, -half + 0.1), (0, 0, -half + 0.2), (radius * 0.9, radius * 0.9), c)


@_kind
def tree(s: Sculptor, c: Rgb) -> None:
    r = s.vary(0.62, 0.08)
    s.frustum((0, 0, -1.2), (0, 0, 0.1), (s.vary(0.22), 0.16), WOOD)
    s.ellipsoid((0, 0, 0.55), (r, r, r * 0.95), c)
    for x, y, z in ((0.42, 0.1, 0.28), (-0.42, 0.12, 0.28), (0.02, -0.42, 0.3), (0.0, 0.4, 0.3)):
        s.ellipsoid((x, y, z), r * 0.68, c)


@_kind
def pine(s: Sculptor, c: Rgb) -> None:
    w = s.vary(0.75, 0.08)
    s.frustum((0, 0, -1.2), (0, 0, -0.7), (0.2, 0.2), WOOD)
    s.frustum((0, 0, -0.8), (0, 0, 0.05), (w, 0.25), c)
    s.frustum((0, 0, -0.2), (0, 0, 0.6), (w * 0.78, 0.18), c)
    s.frustum((0, 0, 0.35), (0, 0, 1.25), (w * 0.56, 0.0), c)


@_kind
def duck(s: Sculptor, c: Rgb) -> None:
    head = s.vary(0.4, 0.07)
    s.ellipsoid((0, -0.1, -0.3), (0.58, 0.82, s.vary(0.5, 0.07)), c)
    s.ellipsoid((0, 0.5, 0.42), head, c)
    s.frustum((0, 0.35, -0.2), (0, 0.48, 0.4), (0.36, 0.26), c)
    with s.named("tail"):
        s.frustum((0, -0.7, -0.25), (0, -1.15, 0.2), (0.34, 0.05), c)
    with s.named("beak"):
        s.ellipsoid(
            (0, 0.5 + head, 0.36), (0.22, 0.3, 0.1), BEAK if c != COLORS["orange"] else CHERRY
        )
    for x in (-1, 1):
        with s.named("eyes"):
            s.ellipsoid(
                (x * head * 0.72, 0.5 + head * 0.62, 0.55),
                0.1,
                INK if c != COLORS["black"] else SNOW,
            )
        s.ellipsoid((x * 0.52, -0.2, -0.22), (0.14, 0.46, 0.26), c, (12, 0, 0))


@_kind
def car(s: Sculptor, c: Rgb) -> None:
    length, roof = s.vary(1.2, 0.06), s.vary(0.3, 0.1)
    s.box((0, 0, -0.1), (0.56, length, 0.24), c)
    s.box((0, -0.2, 0.12 + roof), (0.5, 0.62, roof), c)
    with s.named("windows"):
        s.box((0, -0.2, 0.14 + roof), (0.44, 0.66, roof * 0.66), GLASS)
        s.box((0, -0.2, 0.14 + roof), (0.53, 0.5, roof * 0.62), GLASS)
    s.box((0, -0.2, 0.14 + roof), (0.54, 0.07, roof), c)
    s.box((0, length, -0.22), (0.5, 0.05, 0.1), STEEL)
    for x in (-1, 1):
        for y in (-0.68, 0.68):
            with s.named("wheels"):
                s.frustum((x * 0.36, y, -0.36), (x * 0.62, y, -0.36), (0.3, 0.3), INK)
                s.frustum((x * 0.6, y, -0.36), (x * 0.65, y, -0.36), (0.15, 0.15), STEEL)
        with s.named("lights"):
            s.ellipsoid((x * 0.36, length, 0.0), (0.14, 0.08, 0.12), GLOW)
            s.box((x * 0.38, -length, -0.02), (0.14, 0.04, 0.1), CHERRY)


@_kind
def house(s: Sculptor, c: Rgb) -> None:
    w, d = s.vary(0.8, 0.06), s.vary(0.7, 0.06)
    s.box((0, 0, -0.35), (w, d, 0.5), CREAM)
    s.gable((0, 0, 0.5), (d + 0.2, w + 0.15, 0.38), c, (0, 0, 90))
    with s.named("door"):
        s.box((-0.12, d, -0.53), (0.2, 0.04, 0.32), WOOD)
    with s.named("windows"):
        s.box((0.48, d, -0.25), (0.2, 0.04, 0.18), GLASS)
        s.box((-0.55, d, -0.25), (0.14, 0.04, 0.18), GLASS)
        for x in (-1, 1):
            s.box((x * w, 0, -0.3), (0.04, 0.22, 0.2), GLASS)
    with s.named("chimney"):
        s.box((-0.45, -0.3, 0.75), (0.14, 0.14, 0.32), CLAY)


@_kind
def chair(s: Sculptor, c: Rgb) -> None:
    w, back = s.vary(0.55, 0.07), s.vary(0.55, 0.08)
    s.box((0, 0, -0.1), (w, w, 0.11), c)
    with s.named("back"):
        s.box((0, -w + 0.1, back), (w, 0.1, back), c)
    with s.named("legs"):
        for x in (-1, 1):
            for y in (-1, 1):
                s.box((x * (w - 0.11), y * (w - 0.11), -0.6), (0.11, 0.11, 0.45), c)


@_kind
def table(s: Sculptor, c: Rgb) -> None:
    w, d, h = s.vary(1.0, 0.06), s.vary(0.72, 0.08), s.vary(0.42, 0.08)
    s.box((0, 0, h), (w, d, 0.11), c)
    with s.named("legs"):
        for x in (-1, 1):
            for y in (-1, 1):
                s.box((x * (w - 0.16), y * (d - 0.16), -0.1), (0.12, 0.12, h + 0.1), c)


@_kind
def robot(s: Sculptor, c: Rgb) -> None:
    w = s.vary(0.48, 0.07)
    s.box((0, 0, -0.1), (w, 0.32, 0.46), c)
    s.box((0, 0.31, -0.02), (w * 0.62, 0.04, 0.2), SNOW if c != COLORS["white"] else STEEL)
    s.box((0, 0, 0.74), (s.vary(0.4, 0.07), 0.32, 0.3), c)
    s.frustum((0, 0, 0.3), (0, 0, 0.5), (0.16, 0.16), STEEL)
    s.box((0, 0.31, 0.6), (0.22, 0.04, 0.07), INK if c != COLORS["black"] else SNOW)
    with s.named("antenna"):
        s.frustum((0, 0, 1.0), (0, 0, 1.2), (0.08, 0.08), STEEL)
        s.ellipsoid((0, 0, 1.28), 0.14, CHERRY)
    for x in (-1, 1):
        with s.named("eyes"):
            s.ellipsoid((x * 0.19, 0.31, 0.85), (0.12, 0.08, 0.12), GLOW)
        with s.named("arms"):
            s.box((x * (w + 0.15), 0, -0.08), (0.12, 0.16, 0.42), STEEL)
            s.ellipsoid((x * (w + 0.15), 0, -0.56), 0.17, c)
        with s.named("legs"):
            s.box((x * 0.24, 0, -0.78), (0.15, 0.2, 0.3), STEEL)
            s.box((x * 0.24, 0.08, -1.05), (0.19, 0.32, 0.1), c)


@_kind
def airplane(s: Sculptor, c: Rgb) -> None:
    span, length = s.vary(1.15, 0.06), s.vary(1.1, 0.06)
    s.ellipsoid((0, 0, 0), (0.27, length, 0.28), c)
    s.ellipsoid((0, 0.5, 0.17), (0.19, 0.34, 0.2), GLASS)
    with s.named("wings"):
        s.box((0, 0.15, -0.03), (span, 0.26, 0.08), c)
    with s.named("tail"):
        s.box((0, -0.9, 0.08), (0.5, 0.18, 0.07), c)
        s.sail((0, -0.92, 0.38), (0.3, 0.07, 0.36), c, (0, 0, 90))
    s.ellipsoid((0, length * 0.97, 0), 0.16, INK if c != COLORS["black"] else STEEL)
    for x in (-1, 1):
        s.ellipsoid((x * 0.55, 0.3, -0.12), (0.14, 0.32, 0.14), STEEL)


@_kind
def teapot(s: Sculptor, c: Rgb) -> None:
    r = s.vary(0.7, 0.06)
    s.ellipsoid((0, 0, 0), (r, r, s.vary(0.58, 0.06)), c)
    s.frustum((0, 0, -0.58), (0, 0, -0.4), (0.4, 0.46), c)
    s.ellipsoid((0, 0, 0.5), (0.36, 0.36, 0.14), c)
    with s.named("knob"):
        s.ellipsoid((0, 0, 0.7), 0.15, INK if c != COLORS["black"] else SNOW)
    with s.named("spout"):
        s.frustum((-r * 0.75, 0, -0.12), (-r - 0.48, 0, 0.42), (0.25, 0.11), c)
    with s.named("handle"):
        s.torus((r + 0.1, 0, 0.05), (0.38, 0.38, 0.38), 0.27, c, (90, 0, 0))


@_kind
def fish(s: Sculptor, c: Rgb) -> None:
    length = s.vary(0.9, 0.06)
    s.ellipsoid((0, 0.15, 0), (0.34, length, s.vary(0.56, 0.07)), c)
    fin = tint(c, 0.72)
    with s.named("fins"):
        s.sail((0, -0.92, 0.24), (0.38, 0.1, 0.36), fin, (0, 0, 90))
        s.sail((0, -0.92, -0.24), (0.38, 0.1, 0.36), fin, (180, 0, 90))
        s.sail((0, 0.05, 0.62), (0.42, 0.09, 0.26), fin, (0, 0, 90))
    s.ellipsoid((0, 0.99, -0.13), (0.16, 0.12, 0.09), CHERRY if c != COLORS["red"] else CREAM)
    for x in (-1, 1):
        with s.named("eyes"):
            s.ellipsoid((x * 0.21, 0.72, 0.16), (0.09, 0.15, 0.15), SNOW)
            s.ellipsoid((x * 0.27, 0.75, 0.16), (0.07, 0.09, 0.09), INK)
        s.ellipsoid((x * 0.36, 0.1, -0.16), (0.1, 0.28, 0.16), fin, (25, 0, 0))


@_kind
def lamp(s: Sculptor, c: Rgb) -> None:
    top = s.vary(0.4, 0.07)
    s.frustum((0, 0, -1.1), (0, 0, -0.92), (0.5, 0.46), STEEL)
    with s.named("stem"):
        s.frustum((0, 0, -0.95), (0, 0, 0.3), (0.12, 0.12), STEEL)
    s.frustum((0, 0, 0.95), (0, 0, 0.05), (top, s.vary(0.74, 0.07)), c, hollow=True)
    s.ellipsoid((0, 0, 0.3), 0.26, GLOW)


@_kind
def cactus(s: Sculptor, c: Rgb) -> None:
    r = s.vary(0.27, 0.06)
    s.frustum((0, 0, -1.15), (0, 0, -0.6), (0.38, 0.52), CLAY if c != COLORS["brown"] else SNOW)
    s.frustum((0, 0, -0.6), (0, 0, 0.8), (r, r), c)
    s.ellipsoid((0, 0, 0.8), r, c)
    with s.named("arms"):
        for x, z, top in ((1, -0.05, s.vary(0.55)), (-1, 0.2, s.vary(0.75))):
            s.frustum((0, 0, z), (x * 0.6, 0, z), (0.17, 0.17), c)
            s.ellipsoid((x * 0.6, 0, z), 0.18, c)
            s.frustum((x * 0.6, 0, z), (x * 0.6, 0, top), (0.18, 0.18), c)
            s.ellipsoid((x * 0.6, 0, top), 0.18, c)


@_kind
def boat(s: Sculptor, c: Rgb) -> None:
    length = s.vary(0.85, 0.06)
    s.box((0, -0.15, -0.6), (0.4, length - 0.15, 0.22), c)
    s.gable((0, length - 0.02, -0.6), (0.4, 0.22, 0.34), c, (-90, 0, 0))
    s.box((0, -0.15, -0.36), (0.44, length - 0.12, 0.05), WOOD)
    with s.named("mast"):
        s.frustum((0, 0.12, -0.6), (0, 0.12, 1.05), (0.08, 0.08), WOOD)
    canvas = SNOW if c != COLORS["white"] else GLASS
    with s.named("sails"):
        s.sail((0, -0.42, 0.36), (0.46, 0.05, 0.62), canvas, (0, 0, -90))
        s.sail((0, 0.56, 0.2), (0.36, 0.05, 0.46), c, (0, 0, 90))


@_kind
def tower(s: Sculptor, c: Rgb) -> None:
    r = s.vary(0.46, 0.07)
    s.frustum((0, 0, -1.1), (0, 0, 0.35), (r * 1.08, r), STEEL)
    s.frustum((0, 0, 0.2), (0, 0, 0.45), (r * 1.2, r * 1.2), STEEL)
    s.frustum((0, 0, 0.42), (0, 0, s.vary(1.3, 0.06)), (r * 1.45, 0.0), c)
    with s.named("door"):
        s.box((0, r, -0.8), (0.2, 0.09, 0.3), WOOD)
    with s.named("windows"):
        s.box((0, r * 0.98, -0.05), (0.13, 0.08, 0.17), INK)


@_kind
def gift(s: Sculptor, c: Rgb) -> None:
    h = s.vary(0.65, 0.1)
    ribbon = GLOW if c in (COLORS["white"], COLORS["gray"], COLORS["pink"]) else SNOW
    s.box((0, 0, 0), (0.75, 0.75, h), c)
    s.box((0, 0, h - 0.12), (0.82, 0.82, 0.14), c)
    s.box((0, 0, 0.0), (0.15, 0.84, h + 0.04), ribbon)
    s.box((0, 0, 0.0), (0.84, 0.15, h + 0.04), ribbon)
    with s.named("bow"):
        for x in (-1, 1):
            s.torus((x * 0.26, 0, h + 0.22), (0.25, 0.2, 0.22), 0.42, ribbon, (90, x * 25, 0))


@_kind
def cone(s: Sculptor, c: Rgb) -> None:
    stripe = SNOW if c != COLORS["white"] else BEAK
    top = s.vary(1.0, 0.06)
    s.box((0, 0, -0.92), (0.78, 0.78, 0.1), c)
    s.frustum((0, 0, -0.85), (0, 0, top), (0.58, 0.1), c)
    with s.named("stripe"):
        s.frustum((0, 0, -0.35), (0, 0, 0.05), (0.47, 0.37), stripe)


@_kind
def cupcake(s: Sculptor, c: Rgb) -> None:
    w = s.vary(0.66, 0.06)
    s.frustum((0, 0, -0.85), (0, 0, -0.1), (w * 0.7, w), DOUGH)
    s.ellipsoid((0, 0, -0.02), (w * 1.2, w * 1.2, 0.26), c)
    s.ellipsoid((0, 0, 0.25), (w * 0.92, w * 0.92, 0.25), c)
    s.ellipsoid((0, 0, 0.48), (w * 0.62, w * 0.62, 0.24), c)
    with s.named("cherry"):
        s.ellipsoid((0, 0, 0.8), 0.2, CHERRY if c != COLORS["red"] else SNOW)


@_kind
def bottle(s: Sculptor, c: Rgb) -> None:
    r = s.vary(0.4, 0.07)
    s.frustum((0, 0, -1.15), (0, 0, 0.2), (r, r), c)
    s.frustum((0, 0, 0.2), (0, 0, 0.6), (r, 0.16), c)
    s.frustum((0, 0, 0.6), (0, 0, 1.0), (0.16, 0.16), c)
    with s.named("cork"):
        s.frustum((0, 0, 0.98), (0, 0, 1.2), (0.2, 0.2), WOOD)
    with s.named("label"):
        s.frustum(
            (0, 0, -0.8),
            (0, 0, -0.15),
            (r * 1.03, r * 1.03),
            SNOW if c != COLORS["white"] else GLASS,
        )


@_kind
def apple(s: Sculptor, c: Rgb) -> None:
    r = s.vary(0.8, 0.05)
    s.ellipsoid((0, 0, 0), (r, r, s.vary(0.7, 0.06)), c)
    with s.named("stem"):
        s.frustum((0, 0, 0.55), (0.08, 0, 1.0), (0.09, 0.11), WOOD)
    with s.named("leaf"):
        s.ellipsoid(
            (-0.3, 0, 0.86), (0.3, 0.17, 0.1), LEAF if c != COLORS["green"] else GLOW, (0, 20, 0)
        )


@_kind
def bear(s: Sculptor, c: Rgb) -> None:
    head = s.vary(0.44, 0.06)
    pale = tint(c, 0.45, 0.5)
    dark = INK if c != COLORS["black"] else SNOW
    s.ellipsoid((0, 0, -0.3), (0.5, 0.44, s.vary(0.54, 0.06)), c)
    s.ellipsoid((0, 0.28, -0.32), (0.32, 0.22, 0.36), pale)
    s.ellipsoid((0, 0.05, 0.5), head, c)
    s.ellipsoid((0, 0.4, 0.4), (0.22, 0.18, 0.17), pale)
    with s.named("nose"):
        s.ellipsoid((0, 0.56, 0.45), (0.1, 0.07, 0.08), dark)
    for x in (-1, 1):
        with s.named("ears"):
            s.ellipsoid((x * 0.36, 0, 0.86), (0.19, 0.13, 0.19), c)
        with s.named("eyes"):
            s.ellipsoid((x * 0.18, 0.42, 0.62), 0.08, dark)
        with s.named("arms"):
            s.ellipsoid((x * 0.56, 0.16, -0.08), (0.18, 0.22, 0.3), c, (20, x * -25, 0))
        with s.named("feet"):
            s.ellipsoid((x * 0.36, 0.32, -0.72), (0.22, 0.36, 0.22), c)
            s.ellipsoid((x * 0.36, 0.62, -0.72), (0.15, 0.08, 0.15), pale)
