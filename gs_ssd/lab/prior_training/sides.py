"""Does a prior draw the side that it is asked for? One first noise for all sides, so that no luck
of the draw helps.

For every kind the prior draws pictures from 8 azimuths at 3 elevations, all from the same noise,
and each picture's nearest true view (squared error, the picture's own background put behind the
truth) is compared with the one asked for. Azimuths that look alike in truth, but for the lamp,
cannot be told apart and count as one.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gs_ssd.lab import world
from gs_ssd.lab.world.views import Views, orbit

AZIMUTHS = tuple(45.0 * i for i in range(8))
ELEVATIONS = (0.0, 25.0, 50.0)
RADIUS, FOV_Y_DEG = 3.35, 40.0
ALIKE = 0.0065
"""Mean squared difference on white up to which two true views count as one: shading alone makes up
to .0064."""

Draw = Callable[[list[str], Views, int], Float[Tensor, "b 3 s s"]]
"""(a prompt a picture, its camera, seed of the one first noise) to pictures in 0..1."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What one kind's pictures showed; `A` azimuths times `E` elevations, each asked for once a
    seed."""

    kind: str
    color: str
    exact: Bool[Tensor, "s e a"]
    """The nearest true azimuth is the asked one (or looks just like it)."""
    near: Bool[Tensor, "s e a"]
    """It is at most 45 degrees away."""
    elevation: Bool[Tensor, "s e a"]
    """At the asked azimuth the nearest true elevation is the asked one."""
    error: Float[Tensor, "s e a"]
    """Mean squared difference to the asked true view, of the mean shape."""
    turns: bool
    """Whether the kind has sides at all: some two azimuths look different."""

    def shares(self) -> dict[str, float]:
        """Shares of the cases."""
        return {
            name: getattr(self, name).float().mean().item()
            for name in ("exact", "near", "elevation")
        }

    def psnr(self) -> float:
        """Of the pictures to the asked true views, dB, mean: how well each is drawn."""
        return (-10 * self.error.log10()).mean().item()


def palette(kind: str) -> str:
    """The colour in which a kind is asked for: another one for neighbours in the list."""
    return world.colors()[(5 * world.kinds().index(kind) + 2) % len(world.colors())]


def prompt_of(kind: str, color: str) -> str:
    """The sentence that asks for it."""
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {kind}"


def examine(
    draw: Draw, kinds: Sequence[str] | None = None, seeds: Sequence[int] = (0,), size: int = 64
) -> list[Verdict]:
    """Ask a prior for every side of every kind."""
    return [examine_kind(draw, kind, palette(kind), seeds, size) for kind in kinds or world.kinds()]


def asked_views() -> Views:
    """All cameras asked for, elevation by elevation."""
    elevation, azimuth = torch.meshgrid(
        torch.tensor(ELEVATIONS), torch.tensor(AZIMUTHS), indexing="ij"
    )
    return orbit(azimuth.flatten(), elevation.flatten(), RADIUS, FOV_Y_DEG)


def examine_kind(draw: Draw, kind: str, color: str, seeds: Sequence[int], size: int) -> Verdict:
    """Ask for every side of one kind."""
    views, shape = asked_views(), (len(ELEVATIONS), len(AZIMUTHS))
    truth = world.render(
        kind, color, views.w2c, views.tan_half_fov, size, size, background=torch.zeros(1, 3)
    )
    rows = []
    for seed in seeds:
        pictures = draw([prompt_of(kind, color)] * len(views.w2c), views, seed)
        rows.append(nearest(pictures, truth.rgb, truth.alpha).view(*shape, *shape))
    error = torch.stack(rows)  # [s, e, a, E, A]
    same = _alike(truth.rgb, truth.alpha).view(*shape, *shape)
    e, a = (torch.arange(n) for n in shape)
    across, alike_across = (
        torch.diagonal(error, dim1=1, dim2=3).movedim(-1, 1),
        same[e, :, e, :],
    )  # [s, e, a, A]
    found = across.argmin(-1)
    turn = (found - a).remainder(len(AZIMUTHS))
    exact = _pick(alike_across.expand(len(seeds), -1, -1, -1), found)
    beside = alike_across | alike_across.roll(1, 2) | alike_across.roll(-1, 2)
    near = (
        _pick(beside.expand(len(seeds), -1, -1, -1), found)
        | (turn <= 1)
        | (turn == len(AZIMUTHS) - 1)
    )
    elevation = _upward(error).argmin(-1) == e[:, None]
    asked = torch.diagonal(torch.diagonal(error, dim1=1, dim2=3), dim1=1, dim2=2)  # [s, e, a]
    turns = not bool(alike_across.all())
    return Verdict(kind, color, exact, near, elevation, asked, turns)


def _upward(x: Tensor) -> Tensor:
    """`[s, e, a, E, A]` at the asked azimuth, `[s, e, a, E]`."""
    return torch.diagonal(x, dim1=2, dim2=4).movedim(-1, 2)


def _pick(table: Bool[Tensor, "s e a n"], index: Int[Tensor, "s e a"]) -> Bool[Tensor, "s e a"]:
    return table.gather(-1, index[..., None])[..., 0]


def nearest(
    pictures: Float[Tensor, "b 3 h w"],
    rgb: Float[Tensor, "n 3 h w"],
    alpha: Float[Tensor, "n 1 h w"],
) -> Float[Tensor, "b n"]:
    """Mean squared differences to true views (on black, with alpha), each on the picture's own
    background."""
    background = backgrounds(pictures)[:, None, :, None, None]
    return (pictures[:, None] - rgb - (1 - alpha) * background).square().mean((2, 3, 4))


def backgrounds(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3"]:
    """The middle colour of each picture's border, two pixels wide."""
    rim = torch.ones(pictures.shape[-2:], dtype=torch.bool)
    rim[2:-2, 2:-2] = False
    return pictures[:, :, rim].median(-1).values


def _alike(rgb: Tensor, alpha: Tensor) -> Bool[Tensor, "n n"]:
    white = rgb + (1 - alpha)
    return (white[:, None] - white).square().mean((2, 3, 4)) <= ALIKE


def summary(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """PSNR, mean over the kinds; shares over all cases, and over the kinds that turn."""
    out = {"psnr": sum(v.psnr() for v in verdicts) / len(verdicts)}
    for name, chosen in (("all", verdicts), ("turning", [v for v in verdicts if v.turns])):
        for measure in ("exact", "near", "elevation"):
            hits = torch.cat([getattr(v, measure).flatten() for v in chosen]).float()
            out[f"{measure}_{name}"] = hits.mean().item()
    return out
