"""Figs. 4, 10 and 17 of the SSD paper: pictures optimized directly, without 3D, by SDS, CSD and SSD over M.

The unknown is a latent (or the pixels behind the encoder); the estimators are those of the 3D pipeline. Also the
disengaging term alone, with t drawn from one band only, to see what it contributes where.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.guidance.estimators import ESTIMATORS
from gs_ssd.guidance.prompts import PromptConfig, ViewPrompts
from gs_ssd.maths.diffusion import WEIGHTINGS, add_noise
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.reproduce.report import Claim, Context, Report, SizeName, new_figure, save_figure, write_table
from gs_ssd.reproduce.truth import true_views

TITLE = "2D generation: what each term does to a picture (Figs. 4, 10, 17)"


@dataclasses.dataclass(frozen=True)
class Method:
    """An estimator with its knobs and the band of t that it draws from."""

    label: str
    estimator: str
    M: int = 0
    cfg_scale: float = 7.5
    t_range: tuple[int, int] = (20, 980)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Numbers of the pictures that one method made."""

    method: str
    space: str
    saturation: float
    """Mean HSV saturation where the true object stands."""
    tint: float
    """Mean chroma (max - min) around it: a plain background has no reason to be coloured against the object."""
    mottle: float
    """Mean difference of neighbouring pixels around it: local features where there should be none."""
    prior_loss: float
    """Mean ||eps(x_t,t,y) - eps||^2 per entry at t = 200: how plausible the prior finds it (low is plausible)."""


SEEKING = (80, 200, 300, 400, 500, 700)
METHODS = (
    Method("SDS, g = 101", "sds", cfg_scale=101.0),
    Method("SDS, g = 7.5", "sds"),
    Method("SDS, g = 1", "seek_minus_eps"),
    Method("CSD", "csd"),
    *(Method(f"SSD, M = {M}", "ssd", M) for M in SEEKING),
    Method("reduced seeking", "seek_reduced"),
)
BANDS = tuple(
    Method(f"h, t in {low}..{high}", "csd", t_range=(low, high)) for low, high in ((20, 200), (200, 500), (500, 980))
)
REMARKS = """\
CSD and SDS at a large scale are nearly the same picture on the bundled prior, because h is what is left of SDS there:
blotches, and around the object a colour that opposes it. At the paper's M SSD looks like them, and a little cleaner at
M = 300, which is best in 3D; from M = 400 on, the blotches are gone, at the price of small parts (beak, dots) and of
some colour. SDS at a scale of 7.5 is as clean. h alone at small t finds edges and parts but no whole: its object is not
more saturated, because it hardly forms. The paper speaks of pictures that have their shape already."""
SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {"prompts": ("a red mushroom",), "copies": 1, "steps": 12, "spaces": ("latent",)},
    "small": {"prompts": ("a red mushroom", "a yellow duck"), "copies": 1, "steps": 150, "spaces": ("latent",)},
    "full": {
        "prompts": ("a red mushroom", "a yellow duck", "a red chair", "a blue mug"),
        "copies": 4,
        "steps": 1000,
        "spaces": ("latent", "pixels"),
    },
}


def optimize(
    prior: DiffusionPrior,
    methods: tuple[Method, ...],
    embeddings: Float[Tensor, "2 l d"],
    space: str,
    *,
    copies: int,
    steps: int,
    lr: float = 0.04,
    seed: int = 0,
) -> Float[Tensor, "r b 3 H W"]:
    """Pictures [R methods, B copies] after `steps` of Adam; every method sees the same start and the same noises."""
    generator = torch.Generator().manual_seed(seed)
    size = prior.image_size
    template = prior.encode(torch.full((1, 3, size, size), 0.5, device=prior.device)).detach().float()
    if space == "pixels":
        start = 0.5 + 0.1 * torch.randn((copies, 3, size, size), generator=generator)
    else:
        start = template.cpu() + 0.3 * torch.randn((copies, *template.shape[1:]), generator=generator)
    theta = start.to(prior.device).repeat(len(methods), 1, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=lr if space == "latent" else lr / 4, betas=(0.9, 0.99))
    positive, null = (e.expand(len(theta), *e.shape) for e in embeddings)
    for _ in range(steps):
        optimizer.param_groups[0]["lr"] *= 0.1 ** (1 / steps)
        share = torch.rand(copies, generator=generator)
        noise = torch.randn((copies, *template.shape[1:]), generator=generator).to(prior.device)
        t = torch.cat([(low + share * (high - low)).long() for low, high in (m.t_range for m in methods)])
        t = t.to(prior.device)
        eps = noise.repeat(len(methods), 1, 1, 1)
        latents = prior.encode(theta.clamp(0, 1)) if space == "pixels" else theta
        abar = prior.alphas_cumprod[t]
        with torch.no_grad():
            x_t = add_noise(latents, eps, abar)
            both = prior.predict_noise(torch.cat([x_t, x_t]), t.repeat(2), torch.cat([positive, null]))
            eps_pos, eps_null = both.chunk(2)
            direction = _directions(methods, eps_pos, eps_null, eps, t)
            weight = WEIGHTINGS["sigma2"](abar).reshape(-1, 1, 1, 1).to(direction)
        optimizer.zero_grad()
        latents.backward(weight * direction)
        optimizer.step()
    with torch.no_grad():
        pictures = theta.clamp(0, 1) if space == "pixels" else prior.decode(theta)
    return pictures.detach().cpu().unflatten(0, (len(methods), copies))


def run(context: Context) -> Report:
    """All methods on all prompts; a sheet for each space, a table, and the verdicts."""
    size = SIZES[context.size]
    prior = load(PriorConfig(model=context.prior), context.device)
    methods = METHODS + BANDS
    rows: list[tuple[Any, ...]] = []
    outcomes: dict[str, list[Outcome]] = {}
    truths: list[Outcome] = []
    sheets: dict[str, list[Float[Tensor, "r 3 H W"]]] = {space: [] for space in size["spaces"]}
    for prompt in size["prompts"]:
        *_, color, kind = prompt.split()
        views = ViewPrompts(prior, prompt, PromptConfig())
        batch = views.at([0.0], [math.radians(75)])
        embeddings = torch.stack([batch.main[0], views.null])
        truth, alpha = true_views(kind, color, 1, prior.image_size)
        look = functools.partial(measure, prior, positive=embeddings[0], inside=alpha[0, 0] > 0.5, seed=context.seed)
        truths.append(look(truth, label="true rendering", space="pixels"))
        rows.append((prompt, *dataclasses.astuple(truths[-1])))
        for space in size["spaces"]:
            made = optimize(
                prior, methods, embeddings, space, copies=size["copies"], steps=size["steps"], seed=context.seed
            )
            sheets[space].append(torch.cat([truth, made[:, 0]]))
            for method, pictures in zip(methods, made, strict=True):
                outcome = look(pictures, label=method.label, space=space)
                outcomes.setdefault(method.label, []).append(outcome)
                rows.append((prompt, *dataclasses.astuple(outcome)))
    fields = [field.name for field in dataclasses.fields(Outcome)]
    write_table(context.folder / "pictures.csv", ("prompt", *fields), rows)
    labels = ["true rendering", *(method.label for method in methods)]
    for space, sheet in sheets.items():
        _draw(context.folder / f"{space}.png", sheet, labels)
    return Report(
        TITLE,
        f"{len(size['prompts'])} prompts (front view), {size['copies']} random starts, {size['steps']} Adam steps, w ="
        f" sigma^2, t uniform in 20..980 unless said, prior `{context.prior}`; same noises for every method.",
        claims(outcomes, truths, prior.metadata.get("recipe", {}).get("M", 200)),
        tuple((f"{space}.png", f"Optimized {space}; one row a prompt, first the true rendering.") for space in sheets),
        REMARKS if context.prior == "bundled" else "",
    )


def measure(
    prior: DiffusionPrior,
    pictures: Float[Tensor, "b 3 H W"],
    *,
    positive: Float[Tensor, "l d"],
    inside: Bool[Tensor, "H W"],
    label: str,
    space: str,
    seed: int,
) -> Outcome:
    """The numbers of some pictures of one prompt; `inside` is the true object's silhouette."""
    high, low = pictures.amax(dim=1), pictures.amin(dim=1)
    outside = ~F.max_pool2d(inside[None].float(), 9, stride=1, padding=4)[0].bool()
    steps = (pictures[..., 1:] - pictures[..., :-1]).abs().mean(dim=1)
    latents = prior.encode(pictures.to(prior.device)).detach().float()
    generator = torch.Generator().manual_seed(seed + 1)
    noise = torch.randn((16, *latents.shape[1:]), generator=generator).to(latents)
    t = torch.full((16,), 200, device=latents.device)
    losses = []
    for latent in latents:
        x_t = add_noise(latent.expand_as(noise), noise, prior.alphas_cumprod[t])
        predicted = prior.predict_noise(x_t, t, positive.expand(16, *positive.shape))
        losses.append(float((predicted - noise).square().mean()))
    return Outcome(
        label,
        space,
        saturation=float(((high - low) / high.clamp_min(1e-6))[:, inside].mean()),
        tint=float((high - low)[:, outside].mean()),
        mottle=float(steps[:, outside[:, 1:] & outside[:, :-1]].mean()),
        prior_loss=float(np.mean(losses)),
    )


def claims(outcomes: dict[str, list[Outcome]], truths: list[Outcome], M: int) -> tuple[Claim, ...]:
    """What the paper shows in these figures; `M` is the prior's own.

    A claim holds where it does for every prompt in every space, does not hold where it does for none of them, and
    cannot be told where they disagree: these are too few for an interval. The evidence gives means.
    """

    def mean(label: str, name: str) -> float:
        return float(np.mean([getattr(o, name) for o in outcomes[label]]))

    def lower(label: str, others: Iterable[str], *names: str) -> bool | None:
        cases = [
            all(getattr(ours, name) < min(getattr(o, name) for o in theirs) for name in names)
            for ours, *theirs in zip(outcomes[label], *(outcomes[other] for other in others), strict=True)
        ]
        return True if all(cases) else None if any(cases) else False

    def list_of(name: str, labels: Iterable[str]) -> str:
        return ", ".join(f"{label} {mean(label, name):.4f}" for label in labels)

    ssd = f"SSD, M = {min(SEEKING, key=lambda other: abs(other - M))}"
    series = [f"SSD, M = {threshold}" for threshold in SEEKING]
    little, much = series[0], series[-1]
    low, high = BANDS[0].label, BANDS[-1].label
    rivals = ("SDS, g = 101", "SDS, g = 7.5", "CSD")
    return (
        Claim(
            "SSD colours what surrounds the object less than CSD and SDS do",
            lower(ssd, rivals, "tint"),
            f"chroma around the object: {list_of('tint', (ssd, *rivals))}",
        ),
        Claim(
            "SSD leaves fewer implausible local features than CSD and SDS at a large scale",
            lower(ssd, ("CSD", "SDS, g = 101"), "mottle"),
            f"differences of neighbouring pixels around the object: {list_of('mottle', (ssd, *rivals))}",
        ),
        Claim(
            "The disengaging term brings implausible local features at small t rather than at large t",
            lower(high, (low,), "mottle"),
            f"the same for h alone: {list_of('mottle', (band.label for band in BANDS))}",
        ),
        Claim(
            "The disengaging term saturates at small t rather than at large t",
            lower(high, (low,), "saturation"),
            f"saturation of the object, h alone: {list_of('saturation', (band.label for band in BANDS))}; true"
            f" rendering {float(np.mean([o.saturation for o in truths])):.4f}",
        ),
        Claim(
            "More seeking (larger M) is smoother and paler",
            lower(much, (little,), "mottle", "saturation"),
            f"{list_of('mottle', series)}; saturation of the object {list_of('saturation', series)}; chroma around it"
            f" {list_of('tint', series)}",
        ),
        Claim(
            "SSD's picture is more plausible to the prior than CSD's",
            lower(ssd, ("CSD",), "prior_loss"),
            f"denoising loss at t = 200: {list_of('prior_loss', (ssd, *rivals))}, true rendering"
            f" {float(np.mean([o.prior_loss for o in truths])):.4f}",
        ),
    )


def _directions(methods: tuple[Method, ...], eps_pos: Tensor, eps_null: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    parts = zip(*(x.chunk(len(methods)) for x in (eps_pos, eps_null, eps, t)), strict=True)
    return torch.cat(
        [
            ESTIMATORS[m.estimator](
                eps_pos=pos, eps_uncond=null, h=pos - null, eps_ref=ref, t=times, M=m.M, cfg_scale=m.cfg_scale
            )
            for m, (pos, null, ref, times) in zip(methods, parts, strict=True)
        ]
    )


def _draw(path: Path, sheet: list[Float[Tensor, "r 3 H W"]], labels: list[str]) -> None:
    figure, axes = new_figure(len(sheet), len(labels), width=0.95, height=1.15)
    for row, pictures in zip(axes, sheet, strict=True):
        for axis, picture, label in zip(row, pictures, labels, strict=True):
            axis.imshow(picture.permute(1, 2, 0).numpy())
            axis.set_title(label.replace(", ", "\n"), fontsize=6)
            axis.axis("off")
    save_figure(figure, path)
