"""Fig. 3 of the SSD paper: mode-seeking, mode-disengaging and SSD on a 2D mixture whose scores are exact.

The paper's own parameters are lost with its formulas. OWN is a setting in which all of its claims hold, RECALLED an
unverified recollection of the paper's, in which the literal Algorithm 1 does not converge; `map_of_claims` shows why.
"""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd.guidance.estimators import ESTIMATORS, variance_reduced
from gs_ssd.maths.diffusion import WEIGHTINGS, add_noise, linear_schedule, scaled_linear_schedule
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.reproduce.report import Claim, Context, Report, SizeName, new_figure, save_figure, write_table

TITLE = "Illustrative example: where SSD finds the mode, and where it does not (Fig. 3)"
SCHEDULES = {"linear": linear_schedule, "scaled_linear": scaled_linear_schedule}
TERMS = ("seek", "csd", "ssd")
LABELS = {"seek": "mode-seeking", "csd": "mode-disengaging", "ssd": "SSD", "ssd_unmatched": "SSD, no norm match"}
COLORS = {"seek": "tab:blue", "csd": "tab:red", "ssd": "tab:green", "ssd_unmatched": "tab:green"}


@dataclasses.dataclass(frozen=True)
class Mixture:
    """P(x) = w_0 N(singular) + the two conditional components; P(x;y) = the latter alone, half each."""

    singular: tuple[float, float]
    left: tuple[float, float]
    right: tuple[float, float]
    variances: tuple[float, float]  # of the singular, of each conditional component
    weight: float  # of the singular component
    start: tuple[float, float]

    @property
    def trap(self) -> tuple[float, float]:
        """Between the conditional modes: where mode-seeking ends, P_t(x_t;y) having one mode at large t."""
        return ((self.left[0] + self.right[0]) / 2, (self.left[1] + self.right[1]) / 2)

    def prior(self, schedule: str) -> AnalyticPrior:
        means = torch.tensor([self.singular, self.left, self.right], dtype=torch.float64).reshape(3, 2, 1, 1)
        single, pair = self.variances
        half = (1 - self.weight) / 2
        return AnalyticPrior(
            means,
            torch.tensor([single, pair, pair], dtype=torch.float64),
            ["singular", "left", "right"],
            torch.tensor([self.weight, half, half], dtype=torch.float64),
            alphas_cumprod=SCHEDULES[schedule](),
        )


@dataclasses.dataclass(frozen=True)
class Descent:
    """How theta = x is optimized: Adam on the gradient averaged over `draws` of (t, eps)."""

    weighting: str = "uniform"
    schedule: str = "linear"
    M: int = 200
    lr: float = 0.012
    steps: int = 600
    draws: int = 128
    t_range: tuple[int, int] = (20, 980)
    t_end: int = 980  # the upper bound of t falls linearly to this over the first 80 % of the steps


OWN = Mixture((0.0, -0.1), (-0.75, 0.0), (0.75, 0.0), (0.2, 0.1), 0.3, (-0.3, -1.0))
RECALLED = Mixture((0.0, 0.0), (1.0, 1.0), (2.0, 1.0), (0.1, 0.05), 0.2, (0.0, 0.0))
SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {
        "draws": 48,
        "steps": 300,
        "ring": 1,
        "map_M": (300,),
        "map_offsets": (-0.1,),
        "map_starts": 1,
        "map_draws": 32,
        "map_steps": 150,
    },
    "small": {
        "draws": 128,
        "steps": 600,
        "ring": 12,
        "map_M": (0, 50, 100, 200, 300, 400, 600, 1000),
        "map_offsets": (0.0, -0.1, -0.2, -0.4),
        "map_starts": 6,
        "map_draws": 48,
        "map_steps": 500,
    },
}
SIZES["full"] = SIZES["small"] | {"draws": 512, "map_starts": 12, "map_draws": 128}


def descend(mixture: Mixture, starts: Tensor, how: list[Descent], term: str, seed: int = 0) -> Tensor:
    """Paths [R, steps+1, S, 2] of theta from `starts` [S, 2] under R descents that differ in M only."""
    first = how[0]
    prior = mixture.prior(first.schedule)
    conditional, unconditional = prior.embed(["left right", ""])
    generator = torch.Generator().manual_seed(seed)
    theta = starts.to(torch.float64).repeat(len(how), 1, 1).requires_grad_()
    shape = (*theta.shape[:2], first.draws)
    optimizer = torch.optim.Adam([theta], lr=first.lr)
    path = [theta.detach().clone()]
    for step in range(first.steps):
        optimizer.param_groups[0]["lr"] = first.lr * (1 - 0.9 * step / first.steps)
        low, high = first.t_range
        high = round(high + (first.t_end - high) * min(1.0, step / (0.8 * first.steps)))
        t = torch.randint(low, high + 1, shape[1:], generator=generator).expand(shape).reshape(-1)
        eps = torch.randn((*shape[1:], 2), generator=generator, dtype=torch.float64).expand(*shape, 2)
        eps = eps.reshape(-1, 2, 1, 1)
        x = theta.detach()[:, :, None].expand(*shape, 2).reshape(-1, 2, 1, 1)
        abar = prior.alphas_cumprod[t]
        x_t = add_noise(x, eps, abar)
        eps_pos = prior.predict_noise(x_t, t, conditional.expand(len(t), 1, 3))
        h = eps_pos - prior.predict_noise(x_t, t, unconditional.expand(len(t), 1, 3))
        direction = torch.cat(
            [
                _direction(term, M=descent.M, **dict(zip(("eps_pos", "h", "eps_ref", "t"), part, strict=True)))
                for descent, part in zip(
                    how, zip(*(v.chunk(len(how)) for v in (eps_pos, h, eps, t)), strict=True), strict=True
                )
            ]
        )
        weight = WEIGHTINGS[first.weighting](abar)
        theta.grad = (weight[:, None] * direction[:, :, 0, 0]).reshape(*shape, 2).mean(dim=2)
        optimizer.step()
        path.append(theta.detach().clone())
    return torch.stack(path, dim=1)


def relative_density(mixture: Mixture, points: Tensor, *, conditional: bool = True) -> Tensor:
    """P(x;y) or P(x) at `points` [..., 2], divided by its value at the conditional modes' best."""
    peak = torch.tensor([mixture.left, mixture.right], dtype=torch.float64)
    return _density(mixture, points, 1.0, conditional) / _density(mixture, peak, 1.0, conditional).max()


def transient_mode(mixture: Mixture, schedule: str, t: int = 350) -> tuple[float, int]:
    """P_t(x_t;y) at alpha times the trap over that at alpha times a mode, and the first t with a single mode.

    Two equal Gaussians at distance L are one mode iff sigma^2 / alpha^2 >= L^2 / 4 - v.
    """
    abar = SCHEDULES[schedule]()
    points = torch.tensor([mixture.trap, mixture.left], dtype=torch.float64) * abar[t].sqrt()
    at_trap, at_mode = _density(mixture, points, float(abar[t]), True)
    reach = sum((a - b) ** 2 for a, b in zip(mixture.left, mixture.right, strict=True)) / 4 - mixture.variances[1]
    return float(at_trap / at_mode), int((((1 - abar) / abar) >= reach).nonzero()[0])


def rule_starts(mixture: Mixture, ring: int) -> Tensor:
    """theta_0, the trapping point (a hair off, to break the symmetry), and `ring` points on a unit circle around it."""
    angles = torch.arange(ring, dtype=torch.float64) * (2 * math.pi / max(ring, 1)) + 0.13
    trap = torch.tensor(mixture.trap, dtype=torch.float64)
    circle = trap + torch.stack([angles.cos(), angles.sin()], dim=1)
    return torch.cat([torch.tensor([mixture.start], dtype=torch.float64), trap[None] + 0.01, circle])


def map_of_claims(sizes: dict[str, Any]) -> list[tuple[str, str, float, int, float]]:
    """Rows (schedule, weighting, singular mode's y, M, share of starts that SSD brings to rel P(x;y) > 0.5)."""
    rows = []
    for schedule, weighting, offset in itertools.product(
        SCHEDULES, ("uniform", "sigma", "sigma2"), sizes["map_offsets"]
    ):
        mixture = dataclasses.replace(OWN, singular=(0.0, offset))
        how = [
            Descent(
                weighting, schedule, M, steps=sizes["map_steps"], lr=7.5 / sizes["map_steps"], draws=sizes["map_draws"]
            )
            for M in sizes["map_M"]
        ]
        ends = descend(mixture, rule_starts(mixture, sizes["map_starts"]), how, "ssd")[:, -1]
        shares = (relative_density(mixture, ends) > 0.5).double().mean(dim=1)
        rows += [(schedule, weighting, offset, M, float(s)) for M, s in zip(sizes["map_M"], shares, strict=True)]
    return rows


def run(context: Context) -> Report:
    """Trajectories in both settings, their ends, the noised density and the map."""
    sizes, folder = SIZES[context.size], context.folder
    base = Descent(draws=sizes["draws"], steps=sizes["steps"], lr=7.2 / sizes["steps"], M=300)
    recalled = dataclasses.replace(base, weighting="sigma2", schedule="scaled_linear", M=200)
    annealed = dataclasses.replace(recalled, t_end=100)
    own = {term: descend(OWN, rule_starts(OWN, sizes["ring"]), [base], term)[0] for term in TERMS}
    literal = {term: descend(RECALLED, rule_starts(RECALLED, sizes["ring"]), [recalled], term)[0] for term in TERMS}
    terms = ("seek", "csd", "ssd_unmatched")
    mended = {term: descend(RECALLED, rule_starts(RECALLED, sizes["ring"]), [annealed], term)[0] for term in terms}
    rows = map_of_claims(sizes)
    settings = (("own", OWN, own), ("recalled", RECALLED, literal), ("recalled, mended", RECALLED, mended))
    _write_ends(folder / "ends.csv", settings)
    write_table(folder / "map.csv", ("schedule", "weighting", "singular_y", "M", "share_at_a_mode"), rows)
    _draw_paths(folder / "trajectories.png", settings)
    if len(sizes["map_M"]) > 1:
        _draw_map(folder / "map.png", rows, sizes)
    figures = [
        (
            "trajectories.png",
            "Rows: our setting; the recalled one; the recalled one without norm matching and with"
            " the upper bound of t annealed. Contours of P(x;y); last column: the noised density at t = 350.",
        )
    ]
    if len(sizes["map_M"]) > 1:
        figures.append(("map.png", "Share of starts that the literal SSD brings to a conditional mode."))
    return Report(
        TITLE,
        "A Gaussian mixture in the plane: two conditional components and a singular one that only the unconditional"
        " density has. theta = x; Adam on exact scores, gradients averaged over"
        f" {base.draws} draws of (t, eps), t in 20..980. Our setting: linear schedule, w = 1, M = 300. Recalled"
        " setting (from memory, unverified): Stable Diffusion's schedule, w = sigma^2, M = 200.",
        _claims(own, literal, mended, rows),
        tuple(figures),
        "Why the literal algorithm can fail: norm matching caps the pull of the t <= M branch at ||h||, and near a"
        " conditional mode the exact h at small t is tiny, while h at t > M still pushes outwards with most of the"
        " draws and, under w = sigma^2, with the larger weight. In our setting the singular mode lies almost on the"
        " mean of the pair, so that the outward push at large t cancels; the map shows how far that carries: M must be"
        " 300 or so, more where w grows with t, and then no M is enough once the singular mode lies far off the axis of"
        " the pair. It is a regression test of the algorithm, not evidence about pictures.",
    )


def _direction(term: str, *, eps_pos: Tensor, h: Tensor, eps_ref: Tensor, t: Tensor, M: int) -> Tensor:
    if term == "ssd_unmatched":
        return torch.where((t > M).reshape(-1, 1, 1, 1), h, variance_reduced(eps_pos, eps_ref))
    return ESTIMATORS[term](eps_pos=eps_pos, h=h, eps_ref=eps_ref, t=t, M=M)


def _density(mixture: Mixture, points: Tensor, abar: float, conditional: bool) -> Tensor:
    """P_t at `points` [..., 2], up to 1 / 2 pi."""
    prior = mixture.prior("linear")
    weights = prior.embed(["left right" if conditional else ""])[0, 0]
    variance = abar * prior.variances + 1 - abar
    gap = (points[..., None, :] - math.sqrt(abar) * prior.means[:, :, 0, 0]).square().sum(dim=-1)
    return (weights / variance * (-0.5 * gap / variance).exp()).sum(dim=-1)


def _claims(
    own: dict[str, Tensor], literal: dict[str, Tensor], mended: dict[str, Tensor], rows: list
) -> tuple[Claim, ...]:
    claims = []
    for place, mixture, paths, ssd in (
        ("Our setting", OWN, own, "ssd"),
        ("Recalled setting", RECALLED, literal, "ssd"),
        ("Recalled setting, no norm match, annealed t", RECALLED, mended, "ssd_unmatched"),
    ):
        rel = {term: relative_density(mixture, path[-1]) for term, path in paths.items()}
        modes = torch.tensor([mixture.left, mixture.right], dtype=torch.float64)
        schedule = "linear" if mixture is OWN else "scaled_linear"
        ratio, single_from = transient_mode(mixture, schedule)
        trap_distance = (paths["seek"][-1] - torch.tensor(mixture.trap, dtype=torch.float64)).norm(dim=1)
        passing = torch.cdist(paths["csd"][:, :2], modes.expand(len(paths["csd"]), 2, 2)).amin(dim=(0, 2))
        moved = (paths["csd"][-1, 1] - paths["csd"][0, 1]).norm()
        good = rel[ssd] > 0.5
        claims += [
            Claim(
                f"{place}: mode-seeking is trapped between the modes",
                bool((trap_distance < 0.25).all()),
                f"distance from the trap: median {trap_distance.median():.3f}, largest {trap_distance.max():.3f};"
                f" relative P(x;y) there {rel['seek'].median():.2f}",
            ),
            Claim(
                f"{place}: at t = 350 a transient mode between the induced ones is the densest",
                ratio > 1,
                f"{ratio:.2f} times as dense as where the modes lie; the two are one mode from t = {single_from} on",
            ),
            Claim(
                f"{place}: mode-disengaging leaves the trap, passes a mode, ends in low density",
                bool(moved > 0.5 and (rel["csd"] < 0.1).all() and passing.min() < 0.6),
                f"from the trap it goes {moved:.2f} far; passes a mode at {passing.min():.2f}; relative P(x;y) at the"
                f" end {rel['csd'].max():.3f} at most",
            ),
            Claim(
                f"{place}: SSD ends at a conditional mode",
                bool(good[:2].all() and good.double().mean() > 0.9),
                f"relative P(x;y) from the start {rel[ssd][0]:.2f}, from the trap {rel[ssd][1]:.2f};"
                f" {int(good.sum())} of {len(good)} starts above 0.5",
            ),
        ]
    share = {(s, w): [row[4] for row in rows if row[:2] == (s, w)] for s, w, *_ in rows}
    best = ", ".join(f"{s}/{w} {sum(x > 0.9 for x in v)}/{len(v)}" for (s, w), v in share.items())
    claims.append(
        Claim(
            "For every weighting and schedule there is an M with which the literal SSD converges",
            all(max(values) > 0.9 for values in share.values()),
            f"cells of the map (M x place of the singular mode) with more than 90 % of the starts at a mode: {best}",
        )
    )
    return tuple(claims)


def _write_ends(path: Path, settings: tuple[tuple[str, Mixture, dict[str, Tensor]], ...]) -> None:
    rows = [
        (
            name,
            term,
            start,
            *end.tolist(),
            float(relative_density(mixture, end)),
            float(relative_density(mixture, end, conditional=False)),
        )
        for name, mixture, paths in settings
        for term, runs in paths.items()
        for start, end in enumerate(runs[-1])
    ]
    write_table(path, ("setting", "term", "start", "x", "y", "rel_conditional", "rel_unconditional"), rows)


def _draw_paths(path: Path, settings: tuple[tuple[str, Mixture, dict[str, Tensor]], ...]) -> None:
    figure, axes = new_figure(len(settings), 3)
    for row, (name, mixture, paths) in zip(axes, settings, strict=True):
        cx, cy = mixture.trap
        grid = torch.stack(
            torch.meshgrid(torch.linspace(cx - 2, cx + 2, 160), torch.linspace(cy - 2, cy + 2, 160), indexing="xy"), -1
        ).double()
        schedule = "linear" if name == "own" else "scaled_linear"
        abar = float(SCHEDULES[schedule]()[350])
        for axis, start, title in zip(row[:2], (0, 1), ("from the start", "from the trap"), strict=True):
            axis.contour(
                grid[..., 0], grid[..., 1], relative_density(mixture, grid), levels=8, cmap="Greys", linewidths=0.7
            )
            for term, runs in paths.items():
                x, y = runs[:, start].T
                axis.plot(x, y, color=COLORS[term], label=LABELS[term], lw=1.4)
                axis.plot(x[-1], y[-1], "o", color=COLORS[term], ms=5)
            axis.set_title(f"{name}: {title}", fontsize=9)
        shrunk = math.sqrt(abar)
        row[2].contourf(
            grid[..., 0], grid[..., 1], _density(mixture, grid * shrunk, abar, True), levels=12, cmap="Greys"
        )
        x, y = paths["seek"][:, 0].T
        row[2].plot(x, y, color=COLORS["seek"], lw=1.4)
        modes = torch.tensor([mixture.left, mixture.right])
        row[2].plot(modes[:, 0], modes[:, 1], "rx")
        row[2].set_title("P_350 (axes divided by alpha)", fontsize=9)
        row[0].legend(fontsize=7, loc="upper left")
        for axis in row:
            axis.set(xlim=(cx - 2, cx + 2), ylim=(cy - 2, cy + 2), aspect="equal")
    save_figure(figure, path, dpi=80)


def _draw_map(path: Path, rows: list[tuple[str, str, float, int, float]], sizes: dict[str, Any]) -> None:
    weightings = ("uniform", "sigma", "sigma2")
    figure, axes = new_figure(len(SCHEDULES), len(weightings), width=3.0, height=1.9)
    table = {row[:4]: row[4] for row in rows}
    for (i, schedule), (j, weighting) in itertools.product(enumerate(SCHEDULES), enumerate(weightings)):
        cells = [[table[schedule, weighting, y, M] for M in sizes["map_M"]] for y in sizes["map_offsets"]]
        axis = axes[i, j]
        axis.imshow(cells, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
        axis.set_xticks(range(len(sizes["map_M"])), sizes["map_M"], fontsize=7)
        axis.set_yticks(range(len(sizes["map_offsets"])), sizes["map_offsets"], fontsize=7)
        axis.set_title(f"{schedule}, w = {weighting}", fontsize=8)
        axis.set(xlabel="M", ylabel="singular mode's y")
    save_figure(figure, path, dpi=90)
