"""Figs. 4, 10 and 17 of the SSD paper: pictures optimized directly, without 3D, by SDS, CSD and SSD
over M.

The unknown is a latent (or the pixels behind the encoder); the estimators are those of the 3D
pipeline. Also the disengaging term alone, with t drawn from one band only, to see what it
contributes where.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gs_ssd.files import atomic_path
from gs_ssd.guidance.estimators import ESTIMATORS
from gs_ssd.guidance.prompts import PromptConfig, ViewPrompts
from gs_ssd.lab.evaluate.suite import Entry
from gs_ssd.lab.reproduce.grid import working_folder
from gs_ssd.lab.reproduce.origin import code_version, origin_of_prior, short_hash
from gs_ssd.lab.reproduce.processes import in_order
from gs_ssd.lab.reproduce.report import (
    Claim,
    Context,
    Report,
    SizeName,
    new_figure,
    save_figure,
    write_table,
)
from gs_ssd.lab.reproduce.truth import cameras_around, true_views
from gs_ssd.maths.diffusion import WEIGHTINGS, add_noise
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.prior.condition import Condition

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
    """Mean chroma (max - min) around it: a plain background has no reason to be coloured against
    the object."""
    mottle: float
    """Mean difference of neighbouring pixels around it: local features where there should be
    none."""
    prior_loss: float
    """Mean ||eps(x_t,t,y) - eps||^2 per entry at t = 200: how plausible the prior finds it (low is
    plausible)."""


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
    Method(f"h, t in {low}..{high}", "csd", t_range=(low, high))
    for low, high in ((20, 200), (200, 500), (500, 980))
)
MAKING = ("lab/reproduce/pictures.py", "guidance/*.py", "maths/*.py", "prior/*.py")
"""The code that decides a picture: one that other code began is not gone on with."""
REMARKS = """\
Twelve pictures on the bundled prior, at size `full`; it is told the sentence and no camera. CSD and
SDS at a large scale make nearly the same picture, because h is what is left of SDS there: blotches,
and around the object a colour that opposes it; with the pixels as the unknown CSD fills the picture
with a pattern that the encoder takes for something. At the paper's M = 200 SSD is two to three
times as smooth as CSD, no better than SDS; at M = 300, which is best in 3D, nearly twice as smooth
as SDS and four to five times as smooth as CSD; at 400 or 500 the object stands alone with its
parts; at 700 parts go (beak, arms, spout) and it is paler, and with reduced seeking alone a blob is
left. So the balance of which the paper speaks is there, further up than its M = 200. But SDS at a
scale of 7.5 is as clean as any of them.

Not there is a disengaging term that saturates and clutters at small t above all: h alone at small t
draws edges and parts but no whole, and it is h at large t that makes the fuller colours, in all
twelve pictures. The paper speaks of pictures that have their shape already."""
SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {"prompts": ("a red mushroom",), "copies": 1, "steps": 12, "spaces": ("latent",)},
    "small": {
        "prompts": ("a red mushroom", "a yellow duck"),
        "copies": 1,
        "steps": 150,
        "spaces": ("latent",),
    },
    "full": {
        "prompts": (
            "a red mushroom",
            "a yellow duck",
            "a red chair",
            "a blue mug",
            "a green cactus",
            "an orange teapot",
        ),
        "copies": 1,
        "steps": 400,
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
    """Pictures [R methods, B copies] after `steps` of Adam; every method sees the same start and
    the same noises."""
    generator = torch.Generator().manual_seed(seed)
    size = prior.image_size
    template = (
        prior.encode(torch.full((1, 3, size, size), 0.5, device=prior.device)).detach().float()
    )
    if space == "pixels":
        # Coarse, since an encoder hardly sees single pixels: their noise would stay to the end, as
        # if a method's own.
        coarse = torch.randn((copies, 3, size // 8, size // 8), generator=generator)
        start = 0.5 + 0.1 * F.interpolate(coarse, size=(size, size), mode="bilinear")
    else:
        start = template.cpu() + 0.3 * torch.randn(
            (copies, *template.shape[1:]), generator=generator
        )
    theta = start.to(prior.device).repeat(len(methods), 1, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=lr if space == "latent" else lr / 4, betas=(0.9, 0.99))
    positive, null = (e.expand(len(theta), *e.shape) for e in embeddings)
    for _ in range(steps):
        optimizer.param_groups[0]["lr"] *= 0.1 ** (1 / steps)
        share = torch.rand(copies, generator=generator)
        noise = torch.randn((copies, *template.shape[1:]), generator=generator).to(prior.device)
        t = torch.cat(
            [(low + share * (high - low)).long() for low, high in (m.t_range for m in methods)]
        )
        t = t.to(prior.device)
        eps = noise.repeat(len(methods), 1, 1, 1)
        latents = prior.encode(theta.clamp(0, 1)) if space == "pixels" else theta
        abar = prior.alphas_cumprod[t]
        with torch.no_grad():
            x_t = add_noise(latents, eps, abar)
            told = Condition(torch.cat([positive, null]))
            both = prior.predict_noise(torch.cat([x_t, x_t]), t.repeat(2), told)
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
    """All methods on all prompts; a sheet for each space, a table, and the verdicts.

    Pictures are kept in `out/reproduce` until all are there, so that an interrupted call can be
    gone on with.
    """
    size, methods = SIZES[context.size], METHODS + BANDS
    cases = list(itertools.product(size["prompts"], size["spaces"]))
    files = []
    for (prompt, space), file in zip(
        cases,
        in_order(functools.partial(_pictures_file, context), cases, context.workers),
        strict=True,
    ):
        files.append(file)
        print(f"  {len(files)} of {len(cases)}: {prompt}, {space}", flush=True)
    prior = _prior(context.prior, context.device)
    rows: list[tuple[Any, ...]] = []
    outcomes: dict[str, list[Outcome]] = {}
    truths: list[Outcome] = []
    sheets: dict[str, list[Float[Tensor, "r 3 H W"]]] = {space: [] for space in size["spaces"]}
    made = {case: torch.from_numpy(np.load(file)) for case, file in zip(cases, files, strict=True)}
    for prompt in size["prompts"]:
        *_, color, kind = prompt.split()
        truth, alpha = true_views(kind, color, 1, prior.image_size)
        positive = _embeddings(prior, prompt)[0]
        look = functools.partial(
            measure, prior, positive=positive, inside=alpha[0, 0] > 0.5, seed=context.seed
        )
        truths.append(look(truth, label="true rendering", space="pixels"))
        rows.append((prompt, *dataclasses.astuple(truths[-1])))
        for space in size["spaces"]:
            sheets[space].append(torch.cat([truth, made[prompt, space][:, 0]]))
            for method, pictures in zip(methods, made[prompt, space], strict=True):
                outcome = look(pictures, label=method.label, space=space)
                outcomes.setdefault(method.label, []).append(outcome)
                rows.append((prompt, *dataclasses.astuple(outcome)))
    fields = [field.name for field in dataclasses.fields(Outcome)]
    write_table(context.folder / "pictures.csv", ("prompt", *fields), rows)
    labels = ["true rendering", *(method.label for method in methods)]
    for space, sheet in sheets.items():
        _draw(context.folder / f"{space}.png", sheet, labels)
    for file in files:
        file.unlink()
    return Report(
        TITLE,
        f"{len(size['prompts'])} prompts (front view), random starts: {size['copies']},"
        f" {size['steps']} Adam steps, w = sigma^2, t uniform in 20..980 unless said, prior"
        f" `{context.prior}`; same noises for every method.",
        claims(outcomes, truths, prior.metadata.get("recipe", {}).get("M", 200)),
        tuple(
            (f"{space}.png", f"Optimized {space}; one row a prompt, first the true rendering.")
            for space in sheets
        ),
        REMARKS if context.prior == "bundled" else "",
        timed=False,
    )


def _pictures_file(context: Context, case: tuple[str, str]) -> Path:
    """A .npy with `optimize`'s pictures of one prompt in one space; one that an interrupted call
    left counts."""
    size, methods, (prompt, space) = SIZES[context.size], METHODS + BANDS, case
    origin = origin_of_prior(PriorConfig(model=context.prior), context.device)
    settings = (
        methods,
        size["copies"],
        size["steps"],
        context.seed,
        context.device,
        origin,
        code_version(*MAKING),
    )
    name = f"{Entry(prompt).slug}-{space}-{short_hash(repr(settings).encode())}.npy"
    file = working_folder(context, "pictures", origin["weights"]) / name
    if not file.exists():
        prior = _prior(context.prior, context.device)
        made = optimize(
            prior,
            methods,
            _embeddings(prior, prompt),
            space,
            copies=size["copies"],
            steps=size["steps"],
            seed=context.seed,
        )
        with atomic_path(file) as temporary:
            np.save(temporary, made.numpy())
    return file


@functools.cache
def _prior(model: str, device: str) -> DiffusionPrior:
    return load(PriorConfig(model=model), device)


def _embeddings(prior: DiffusionPrior, prompt: str) -> Float[Tensor, "2 l d"]:
    """Of the prompt seen from the front, and of nothing."""
    sentences = ViewPrompts(prior, prompt, PromptConfig())
    return torch.stack(
        [sentences.at(cameras_around(1, prior.image_size)).main.text[0], sentences.null]
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
        predicted = prior.predict_noise(x_t, t, Condition(positive.expand(16, *positive.shape)))
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

    A claim holds where it does for every prompt in every space, does not hold where it does for
    none of them, and cannot be told where they disagree: these are too few for an interval. The
    evidence gives means, space by space.
    """
    spaces = list(dict.fromkeys(outcome.space for outcome in next(iter(outcomes.values()))))

    def mean(label: str, name: str, space: str) -> float:
        return float(np.mean([getattr(o, name) for o in outcomes[label] if o.space == space]))

    def list_of(name: str, labels: Iterable[str]) -> str:
        means = (
            ", ".join(f"{label} {mean(label, name, space):.4f}" for label in labels)
            for space in spaces
        )
        return "; ".join(f"{space}: {text}" for space, text in zip(spaces, means, strict=True))

    def claim(
        text: str, label: str, others: Iterable[str], names: tuple[str, ...], evidence: str
    ) -> Claim:
        """Whether the label's outcome is below that of all others, by each of these names."""
        cases = [
            all(getattr(ours, name) < min(getattr(o, name) for o in theirs) for name in names)
            for ours, *theirs in zip(
                outcomes[label], *(outcomes[other] for other in others), strict=True
            )
        ]
        holds = True if all(cases) else None if any(cases) else False
        return Claim(text, holds, f"in {sum(cases)} of {len(cases)} pictures; {evidence}")

    ssd = f"SSD, M = {min(SEEKING, key=lambda other: abs(other - M))}"
    series = [f"SSD, M = {threshold}" for threshold in SEEKING]
    little, much = series[0], series[-1]
    bands = [band.label for band in BANDS]
    low, high = bands[0], bands[-1]
    large, small = ("SDS, g = 101", "CSD"), ("SDS, g = 7.5",)
    rivals = (*large, *small)

    def true(name: str) -> str:
        return f"true rendering {float(np.mean([getattr(o, name) for o in truths])):.4f}"

    return (
        claim(
            "SSD colours what surrounds the object less than CSD and SDS at a large scale",
            ssd,
            large,
            ("tint",),
            f"chroma around the object: {list_of('tint', (ssd, *large))}",
        ),
        claim(
            "SSD colours what surrounds the object less than SDS at a small scale",
            ssd,
            small,
            ("tint",),
            f"the same: {list_of('tint', (ssd, *small))}",
        ),
        claim(
            "SSD leaves fewer implausible local features than CSD and SDS at a large scale",
            ssd,
            large,
            ("mottle",),
            "differences of neighbouring pixels around the object:"
            f" {list_of('mottle', (ssd, *rivals))}",
        ),
        claim(
            "The disengaging term brings implausible local features at small t rather than at"
            " large t",
            high,
            (low,),
            ("mottle",),
            f"the same for h alone: {list_of('mottle', bands)}",
        ),
        claim(
            "The disengaging term saturates at small t rather than at large t",
            high,
            (low,),
            ("saturation",),
            f"saturation of the object, h alone: {list_of('saturation', bands)};"
            f" {true('saturation')}",
        ),
        claim(
            "More seeking (larger M) is smoother and paler",
            much,
            (little,),
            ("mottle", "saturation"),
            f"differences of neighbours: {list_of('mottle', series)}; saturation of the object:"
            f" {list_of('saturation', series)}",
        ),
        claim(
            "SSD's picture is more plausible to the prior than CSD's",
            ssd,
            ("CSD",),
            ("prior_loss",),
            f"denoising loss at t = 200: {list_of('prior_loss', (ssd, *rivals))};"
            f" {true('prior_loss')}",
        ),
    )


def _directions(
    methods: tuple[Method, ...], eps_pos: Tensor, eps_null: Tensor, eps: Tensor, t: Tensor
) -> Tensor:
    parts = zip(*(x.chunk(len(methods)) for x in (eps_pos, eps_null, eps, t)), strict=True)
    return torch.cat(
        [
            ESTIMATORS[m.estimator](
                eps_pos=pos,
                eps_uncond=null,
                h=pos - null,
                eps_ref=ref,
                t=times,
                M=m.M,
                cfg_scale=m.cfg_scale,
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
