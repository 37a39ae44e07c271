"""Figs. 5 and 19-22 of the SSD paper: what the terms of the score weigh over t, at fixed renderings
and many noises.

For one rendering x and one t, N noises eps give N predictions eps(x_t, t, y); everything below is a
moment of these pairs. In the affine case (data N(mu, v I)) all of them have closed forms, which the
tests use.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.guidance.estimators import optimal_coefficient, variance_reduced
from gs_ssd.guidance.prompts import PromptConfig, ViewPrompts
from gs_ssd.lab.evaluate import sheet
from gs_ssd.lab.reproduce.grid import TINY
from gs_ssd.lab.reproduce.report import (
    Claim,
    Context,
    Report,
    SizeName,
    new_figure,
    save_figure,
    write_table,
)
from gs_ssd.lab.reproduce.sds_made import sds_views
from gs_ssd.lab.reproduce.truth import cameras_around, true_views
from gs_ssd.maths.color import to_uint8
from gs_ssd.maths.diffusion import add_noise
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.prior.condition import Condition

TITLE = "Numerical study: norms, correlation, projection ratio, variances over t (Figs. 5, 19-22)"


@dataclasses.dataclass(frozen=True)
class Moments:
    """One rendering at one t.

    Norms are means over the noises; variances are total (traces), all per latent entry."""

    t: int
    norm_seek: float
    """||eps(x_t,t,y)|| / sqrt(d)"""
    norm_h: float
    """||h|| / sqrt(d)"""
    pearson: float
    """tr Cov(eps_pos, eps) / sqrt(tr Cov eps_pos tr Cov eps): at most the next one, and sound for
    few noises."""
    puccetti: float
    """tr Cov(X, eps) / tr (Sx^1/2 Se Sx^1/2)^1/2; nan for fewer noises than entries, which always
    reach about 1."""
    c: float
    """Monte-Carlo c of eq. (7)."""
    r_mean: float
    r_std: float
    """Mean and standard deviation over noises of r, eq. (8)."""
    variance_raw: float
    """of eps(x_t,t,y)"""
    variance_minus_eps: float
    variance_c: float
    variance_r: float
    drift_r: float
    """||mean(eps_pos - r eps)|| / ||mean(eps_pos)||: how much of the signal r's projection
    keeps."""


SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {
        "prompts": ("a red mushroom",),
        "overrides": ("num_steps=4", *TINY),
        "views": 1,
        "noises": 24,
        "ts": (100, 500, 900),
    },
    "small": {
        "prompts": ("a red mushroom", "a yellow duck"),
        "overrides": ("num_steps=100",),
        "views": 2,
        "noises": 72,
        "ts": (20, 60, 100, 200, 300, 400, 500, 600, 700, 800, 900, 980),
    },
    "full": {
        "prompts": ("a red mushroom", "a yellow duck"),
        "overrides": ("num_steps=200",),
        "views": 1,
        "noises": (
            2048
        ),  # Puccetti's correlation would take several times the 3072 entries of the bundled latent
        "ts": (100, 300, 600, 900),
    },
}


def moments(
    prior: DiffusionPrior,
    latent: Float[Tensor, "c h w"],
    positive: Float[Tensor, "l d"],
    null: Float[Tensor, "l d"],
    t: int,
    noises: int,
    generator: torch.Generator,
    batch: int = 64,
) -> Moments:
    """The moments over `noises` draws of eps at one latent picture and one t."""
    eps = torch.randn((noises, *latent.shape), generator=generator, dtype=torch.float32).to(latent)
    abar = prior.alphas_cumprod[t]
    seek, norm_h = [], []
    for part in eps.split(batch):
        x_t = add_noise(latent.expand_as(part), part, abar)
        both = prior.predict_noise(
            torch.cat([x_t, x_t]),
            torch.full((2 * len(part),), t, device=latent.device),
            Condition(torch.stack([positive, null]).repeat_interleave(len(part), dim=0)),
        )
        eps_pos, eps_null = both.chunk(2)
        seek.append(eps_pos)
        norm_h.append((eps_pos - eps_null).flatten(1).norm(dim=1))
    return _moments(t, torch.cat(seek), eps, torch.cat(norm_h))


def run(context: Context) -> Report:
    """All moments at the size's prompts, views and ts, of SDS-made assets and of true objects."""
    size = SIZES[context.size]
    prior = load(PriorConfig(model=context.prior), context.device)
    sources = _sources(context, prior.image_size)
    generator = torch.Generator().manual_seed(context.seed)
    rows = []
    with torch.no_grad():
        for source, by_prompt in sources.items():
            for prompt, view, latent, positive, null in _renderings(prior, by_prompt):
                for t in size["ts"]:
                    found = moments(prior, latent, positive, null, t, size["noises"], generator)
                    rows.append((source, prompt, view, found))
                    print(f"  {source}: {prompt}, view {view}, t = {t}", flush=True)
    fields = [field.name for field in dataclasses.fields(Moments)]
    write_table(
        context.folder / "moments.csv",
        ("source", "prompt", "view", *fields),
        [(*where, *dataclasses.astuple(m)) for *where, m in rows],
    )
    results = {source: [m for s, *_, m in rows if s == source] for source in sources}
    _draw(context.folder / "moments.png", results, size["ts"])
    strips = [
        [sheet.Strip(p, to_uint8(rgb)) for p, rgb in by_prompt.items()]
        for by_prompt in sources.values()
    ]
    sheet.contact_sheet(strips, context.folder / "renderings.png")
    first, *others = sources
    return Report(
        TITLE,
        f"{len(size['prompts'])} prompts x {size['views']} views of {' and of '.join(sources)},"
        f" {size['noises']} noises for each of {len(size['ts'])} timesteps, prior"
        f" `{context.prior}`.",
        (
            *claims(results[first]),
            *(
                c._replace(text=f"On {other}: {c.text}")
                for other in others
                for c in claims(results[other])
            ),
        ),
        (
            (
                "moments.png",
                (
                    "Lines: mean over renderings; bands: their range. Norms and variances are per"
                    " latent entry."
                ),
            ),
            ("renderings.png", f"What was looked at, a row each: {', '.join(sources)}."),
        ),
    )


def _sources(context: Context, image_size: int) -> dict[str, dict[str, Float[Tensor, "v 3 h w"]]]:
    """Pictures by prompt, by where they come from.

    The exact mixture cannot make assets of these prompts."""
    size = SIZES[context.size]
    prompts, views = size["prompts"], size["views"]
    made = {}
    if context.prior != "analytic":
        made = {
            "SDS-made assets": sds_views(context, prompts, size["overrides"], views, image_size)
        }
    kinds = {prompt: prompt.split()[-1] for prompt in prompts}
    colors = {prompt: prompt.split()[-2] for prompt in prompts}
    return made | {
        "true objects": {p: true_views(kinds[p], colors[p], views, image_size)[0] for p in prompts}
    }


def claims(results: list[Moments]) -> tuple[Claim, ...]:
    """The paper's sentences about these curves, against means over renderings."""
    ts = sorted({m.t for m in results})
    mean = {t: _average([m for m in results if m.t == t]) for t in ts}
    first, early, late = (
        ts[0],
        min(ts, key=lambda t: abs(t - 100)),
        min(ts, key=lambda t: abs(t - 900)),
    )
    ratio = {t: max(mean[t].norm_h, 1e-9) / mean[t].norm_seek for t in ts}
    return (
        Claim(
            "The prediction's linear correlation with the noise rises to 1",
            mean[late].pearson > 0.95 and mean[late].pearson > mean[early].pearson,
            f"Pearson {mean[early].pearson:.3f} at t={early}, {mean[late].pearson:.4f} at t={late}",
        ),
        Claim(
            "The norm of the mode-seeking term rises with t",
            mean[late].norm_seek > mean[early].norm_seek > 0,
            f"{mean[early].norm_seek:.3f} at t={early}, {mean[late].norm_seek:.3f} at t={late} (1"
            " is the noise's own)",
        ),
        Claim(
            "The mode-disengaging term is far smaller, so that SDS needs a large omega",
            max(ratio.values()) < 0.25,
            f"||h|| / ||eps_pos|| between {min(ratio.values()):.4f} and {max(ratio.values()):.4f};"
            f" equal at omega {1 / max(ratio.values()):.0f} to {1 / min(ratio.values()):.0f}",
        ),
        Claim(
            "The projection ratio r of one noise brackets the Monte-Carlo c tightly",
            all(abs(m.r_mean - m.c) < 0.05 and m.r_std < 0.05 for m in mean.values()),
            f"|mean r - c| at most {max(abs(m.r_mean - m.c) for m in mean.values()):.4f}, standard"
            f" deviation of r at most {max(m.r_std for m in mean.values()):.4f}",
        ),
        Claim(
            "Reduction by r lowers the total variance below the raw prediction's at every t",
            all(m.variance_r < m.variance_raw for m in results),
            "share of the raw variance that is left:"
            f" {mean[early].variance_r / mean[early].variance_raw:.3f} at t={early},"
            f" {mean[late].variance_r / mean[late].variance_raw:.4f} at t={late}",
        ),
        Claim(
            "At small t reduction by r beats SDS's fixed - eps",
            mean[first].variance_r < mean[first].variance_minus_eps,
            f"t={first}: raw {mean[first].variance_raw:.3f}, - eps"
            f" {mean[first].variance_minus_eps:.3f}, c {mean[first].variance_c:.3f}, r"
            f" {mean[first].variance_r:.3f} per entry",
        ),
    )


def _moments(t: int, seek: Tensor, eps: Tensor, norm_h: Tensor) -> Moments:
    size = eps[0].numel()
    root = math.sqrt(size)
    c = float(optimal_coefficient(seek[:, None], eps[:, None])[0])
    reduced = variance_reduced(seek, eps)
    r = (seek * eps).flatten(1).sum(dim=1) / eps.square().flatten(1).sum(dim=1)
    raw = _variance(seek)
    return Moments(
        t=t,
        norm_seek=float(seek.flatten(1).norm(dim=1).mean()) / root,
        norm_h=float(norm_h.mean()) / root,
        pearson=c / math.sqrt(raw * _variance(eps)),
        puccetti=_puccetti(seek.flatten(1), eps.flatten(1)),
        c=c,
        r_mean=float(r.mean()),
        r_std=float(r.std()),
        variance_raw=raw,
        variance_minus_eps=_variance(seek - eps),
        variance_c=_variance(seek - c * eps),
        variance_r=_variance(reduced),
        drift_r=float(reduced.mean(dim=0).norm() / seek.mean(dim=0).norm()),
    )


def _variance(samples: Tensor) -> float:
    """Trace of the covariance over the first axis, per entry."""
    return float(samples.double().var(dim=0).mean())


def _puccetti(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """Puccetti's linear correlation of two samples: 1 where one is a positive linear map of the
    other.

    tr (Sx^1/2 Sy Sx^1/2)^1/2 is the nuclear norm of Sx^1/2 Sy^1/2.
    """
    if len(x) <= x.shape[1]:
        return math.nan
    x, y = (z.double() - z.double().mean(dim=0) for z in (x, y))
    roots = []
    for z in (x, y):
        values, vectors = torch.linalg.eigh(z.T @ z)
        roots.append((vectors * values.clamp_min(0).sqrt()) @ vectors.T)
    return float((x * y).sum() / torch.linalg.matrix_norm(roots[0] @ roots[1], ord="nuc"))


def _average(rows: list[Moments]) -> Moments:
    """Means over renderings at one t."""
    names = [field.name for field in dataclasses.fields(Moments) if field.name != "t"]
    return Moments(
        t=rows[0].t, **{name: sum(getattr(m, name) for m in rows) / len(rows) for name in names}
    )


def _renderings(
    prior: DiffusionPrior, pictures: Mapping[str, Tensor]
) -> Iterator[tuple[str, int, Tensor, Tensor, Tensor]]:
    """(prompt, view, latent, embedding of the prompt from there, null embedding) of views [V,3,H,W]
    by prompt."""
    for prompt, rgb in pictures.items():
        views = len(rgb)
        sentences = ViewPrompts(prior, prompt, PromptConfig())
        embeddings = sentences.at(cameras_around(views, prior.image_size)).main.text
        for view, latent in enumerate(prior.encode(rgb.to(prior.device)).float()):
            yield prompt, view, latent, embeddings[view], sentences.null


def _draw(path: Path, sources: Mapping[str, list[Moments]], ts: tuple[int, ...]) -> None:
    """A row of four panels for each source."""
    figure, axes = new_figure(len(sources), 4, width=3.1, height=2.8)
    panels = (
        ("norm", {"norm_seek": "mode-seeking", "norm_h": "mode-disengaging"}, "log"),
        (
            "linear correlation with the noise",
            {"puccetti": "Puccetti", "pearson": "Pearson"},
            "linear",
        ),
        ("projection ratio", {"c": "c (Monte Carlo)", "r_mean": "r (mean)"}, "linear"),
        (
            "total variance per entry",
            {
                "variance_raw": "raw",
                "variance_minus_eps": "- eps",
                "variance_c": "- c eps",
                "variance_r": "- r eps",
            },
            "log",
        ),
    )
    for row, (source, results) in zip(axes, sources.items(), strict=True):
        for axis, (title, curves, scale) in zip(row, panels, strict=True):
            for name, label in curves.items():
                values = torch.tensor([[getattr(m, name) for m in results if m.t == t] for t in ts])
                if values.isnan().all():
                    continue
                axis.plot(ts, values.mean(dim=1), label=label, marker=".")
                axis.fill_between(ts, values.amin(dim=1), values.amax(dim=1), alpha=0.2)
            axis.set(xlabel="t", yscale=scale)
            axis.set_title(title, fontsize=9)
            axis.legend(fontsize=7)
        row[0].set_ylabel(source)
    save_figure(figure, path)
