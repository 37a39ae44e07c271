"""`gs-ssd check-model`: whether a diffusion model is fit for score distillation, before a long run.

It asks the model about its own samples, so it needs no pictures: a model that was loaded wrongly
(another prediction type, a shifted timestep, a VAE that overflows in half precision, an untrained
part) cannot agree with itself.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd import config as configs
from gs_ssd.assets.splat.densify.choice import DensifyConfig
from gs_ssd.bounds import Bounds
from gs_ssd.commands.check import Check, within
from gs_ssd.commands.check_conditions import condition_for, prompt_for
from gs_ssd.commands.check_views import belong_together, see_one_another
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, require_text
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.job import Job
from gs_ssd.maths.diffusion import add_noise, ddim_step, v_from_eps
from gs_ssd.memory import MIB, Gauge
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.prior.base import views_per_group
from gs_ssd.render import device as rendering_device
from gs_ssd.run import environment
from gs_ssd.run.folder import refuse_to_replace
from gs_ssd.scene.initialize import InitializeConfig
from gs_ssd.scene.viewpoints import ViewpointConfig

TIMESTEPS = (20, 100, 300, 500, 700, 900)
TELLING = (100, 300, 500)  # where the two readings of a prediction differ most
MAX_ERROR = {300: 0.6, 500: 0.35, 700: 0.2, 900: 0.1}
"""Mean squared error of the noise prediction; answering 0 scores 1. Wide bounds: they catch a
wrongly read model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, how it is to run, and where the report goes."""
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="prior.key=value",
        help="e.g. 'prior.lora=[FILE]', as in train",
    )
    parser.add_argument(
        "--model", default="bundled", help="short name, hub id, folder or .safetensors file"
    )
    parser.add_argument("--base", help="configs for a single file")
    parser.add_argument(
        "--prediction", choices=("epsilon", "v_prediction"), help="overrule the model's own config"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), help="default: float16 on a GPU"
    )
    parser.add_argument("--vae-dtype", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--prompt", type=require_text, help="default: a red mug, or a person for a prior of persons"
    )
    parser.add_argument("--offline", action="store_true", help="ask the cache only")
    parser.add_argument(
        "--out", type=Path, default=Path("check-model.json"), help="the report, to keep or to send"
    )
    parser.epilog = (
        "Exit code 0: every check passed. 2: at least one failed; the report says which."
    )


def run(args: argparse.Namespace) -> int:
    """Load, ask, print a line a check and write the report.

    Raises:
        UserError: the model cannot be loaded, or the report not written.
    """
    config = _prior_config(args)
    refuse_to_replace(args.out)
    device = rendering_device.choose(args.device)
    memory, started = Gauge(device), time.perf_counter()
    prior = load(config, device)
    measured: dict[str, Any] = {"seconds_to_load": round(time.perf_counter() - started, 2)}
    checks = []
    prompt = prompt_for(prior) if args.prompt is None else args.prompt
    for check in _until_memory_ends(examine(prior, prompt, measured)):
        checks.append(check)
        print(
            f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.found} (wanted:"
            f" {check.wanted})",
            flush=True,
        )
    measured["peak_memory_mib"] = round((memory.floor + memory.peak) / MIB)
    print(f"     peak memory: {measured['peak_memory_mib']} MiB")
    passed = all(check.passed for check in checks)
    report = {
        "passed": passed,
        "model": asdict(config),
        "checks": [asdict(check) for check in checks],
        "measured": measured,
        "environment": environment.describe(device) | {"prior": getattr(prior, "source", "")},
    }
    with atomic_path(args.out) as temporary:
        temporary.write_text(json.dumps(_finite(report), indent=1) + "\n", encoding="utf-8")
    print(f"{'passed' if passed else 'FAILED'}; report in {args.out}")
    return 0 if passed else 2


def _prior_config(args: argparse.Namespace) -> PriorConfig:
    for setting in args.settings:
        if not setting.startswith("prior."):
            raise UserError(
                f"{setting}: only settings of the prior can be given here, e.g."
                " prior.tiny_vae=FOLDER"
            )
    flags = ("base", "prediction", "dtype", "vae_dtype", "image_size")
    given = [
        f"prior.{name}={getattr(args, name)}" for name in flags if getattr(args, name) is not None
    ]
    given += ["prior.offline=true"] if args.offline else []
    return configs.load(None, [f"prior.model={args.model}", *args.settings, *given]).prior


def _until_memory_ends(checks: Iterator[Check]) -> Iterator[Check]:
    """The checks, and one that failed in place of the first that does not fit into the GPU's
    memory."""
    try:
        yield from checks
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        yield Check(
            "memory",
            False,
            reason,
            "room for a step: try --dtype float16 or a smaller --image-size",
        )


def examine(prior: DiffusionPrior, prompt: str, measured: dict[str, Any]) -> Iterator[Check]:
    """All checks in turn, cheapest first; raw numbers are left in `measured`."""
    text, null = prior.embed([prompt, ""])
    group = views_per_group(prior)
    yield _embeddings(text, null)
    yield from _round_trip(prior, measured)
    if group > 1:
        yield from see_one_another(prior, text, group, measured)
    sample = _sample(prior, text, null)
    latents = prior.encode(prior.decode(sample))
    errors, other = _errors(prior, latents, text)
    measured["noise_error"] = errors
    found = ", ".join(f"t={t}: {errors[t]:.3f}" for t in TIMESTEPS)
    wanted = ", ".join(f"t={t}: < {limit}" for t, limit in MAX_ERROR.items())
    trained = all(errors[t] < limit for t, limit in MAX_ERROR.items())
    yield Check("noise prediction error", trained, found, wanted)
    measured["noise_error_if_read_as_the_other_type"] = other
    ratio = sum(errors[t] for t in TELLING) / sum(other[t] for t in TELLING)
    found = f"{ratio:.2f} x the error of the other reading (epsilon or v)"
    yield within("prediction type", ratio, Bounds(high=0.8, below=True), found)
    yield _offset(prior, latents, text, measured)
    if group > 1 and trained:  # else there is nothing that could belong together
        yield belong_together(prior, text, null, group, measured)
    yield from _short_run(prior, prompt, measured)


def _embeddings(text: Tensor, null: Tensor) -> Check:
    difference = ((text - null).norm() / null.norm()).item()
    return within(
        "text encoder", difference, Bounds(0.01, 100), f"prompt and null differ by {difference:.3f}"
    )


def _picture(size: int) -> Tensor:
    """A disc with a soft shadow on a gradient: smooth areas, one edge, saturated and grey
    colours."""
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = torch.sigmoid((0.5 - torch.hypot(x, y)) * size / 4)
    background = torch.stack([0.7 + 0.2 * y, 0.7 + 0.1 * x, 0.75 - 0.1 * y])
    disc = torch.stack([0.8 - 0.2 * x, 0.2 + 0.1 * y, 0.2 + 0 * x])
    return (inside * disc + (1 - inside) * background)[None]


def _round_trip(prior: DiffusionPrior, measured: dict[str, Any]) -> Iterator[Check]:
    picture = _picture(prior.image_size).to(prior.device).requires_grad_()
    latents = prior.encode(picture)
    error = (prior.decode(latents.detach()) - picture.detach()).square().mean()
    measured["vae_psnr_db"] = round(-10 * error.log10().item(), 2)
    yield within(
        "VAE round trip", measured["vae_psnr_db"], Bounds(18), f"{measured['vae_psnr_db']} dB"
    )
    latents.square().sum().backward()
    finite = (
        picture.grad is not None
        and bool(picture.grad.isfinite().all())
        and bool(latents.isfinite().all())
    )
    yield Check(
        "VAE gradient",
        finite,
        "finite" if finite else "not finite: set vae_dtype to float32",
        "finite",
    )
    measured["latent_std"] = round(latents.std().item(), 3)
    yield within(
        "latent scale", measured["latent_std"], Bounds(0.2, 5), str(measured["latent_std"])
    )


@torch.no_grad()
def _sample(
    prior: DiffusionPrior, text: Tensor, null: Tensor, steps: int = 25, cfg_scale: float = 5.0
) -> Tensor:
    """Two DDIM samples with guidance: pictures of the model's own kind."""
    shape = prior.encode(
        torch.zeros(1, 3, prior.image_size, prior.image_size, device=prior.device)
    ).shape[1:]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(prior.device)
    condition = condition_for(prior, torch.stack([text, text, null, null]))
    ts = torch.linspace(980, 0, steps + 1).long().tolist()
    for u, v in pairwise(ts):
        t = torch.full((4,), u, device=prior.device)
        positive, negative = prior.predict_noise(torch.cat([x, x]), t, condition).chunk(2)
        x = ddim_step(
            x,
            negative + cfg_scale * (positive - negative),
            prior.alphas_cumprod[u],
            prior.alphas_cumprod[v],
        )
    return x


def _predict(
    prior: DiffusionPrior, latents: Tensor, text: Tensor, t: int, label: int
) -> tuple[Tensor, Tensor, Tensor]:
    eps = torch.randn(latents.shape, generator=torch.Generator().manual_seed(t)).to(latents)
    x_t = add_noise(latents, eps, prior.alphas_cumprod[t])
    labels = torch.full((len(latents),), label, device=prior.device)
    condition = condition_for(prior, text.expand(len(latents), -1, -1))
    return eps, x_t, prior.predict_noise(x_t, labels, condition)


def _errors(
    prior: DiffusionPrior, latents: Tensor, text: Tensor
) -> tuple[dict[int, float], dict[int, float]]:
    """Mean squared error a timestep, as the model is read and as it would be were it read as the
    other type."""
    errors, other = {}, {}
    for t in TIMESTEPS:
        eps, x_t, predicted = _predict(prior, latents, text, t, t)
        errors[t] = (predicted - eps).square().mean().item()
        # What the network itself put out, read the other way: for an epsilon model its eps taken
        # for a v, and so on.
        abar = prior.alphas_cumprod[t]
        if getattr(prior, "prediction", "epsilon") == "v_prediction":
            reread = v_from_eps(x_t, predicted, abar)
        else:
            reread = abar.sqrt() * predicted + (1 - abar).sqrt() * x_t
        other[t] = (reread - eps).square().mean().item()
    return errors, other


def _offset(
    prior: DiffusionPrior, latents: Tensor, text: Tensor, measured: dict[str, Any]
) -> Check:
    """The error must be least where label and noise level agree (an offset of a few timesteps
    cannot be seen)."""
    errors: dict[int, float] = {}
    for offset in (-150, -75, 0, 75, 150):
        found = [_predict(prior, latents, text, t, t + offset) for t in (250, 400, 550)]
        errors[offset] = sum(
            (predicted - eps).square().mean().item() for eps, _, predicted in found
        ) / len(found)
    measured["noise_error_by_timestep_offset"] = errors
    best = min(errors, key=lambda offset: errors[offset])
    return Check("timestep offset", best == 0, f"least error at {best:+d}", "+0")


def _short_run(prior: DiffusionPrior, prompt: str, measured: dict[str, Any]) -> Iterator[Check]:
    """Three steps of a real training, two views (or a group of them) of a small ball or a body:
    renderer, guidance and Adam."""
    group = views_per_group(prior)
    views = ViewpointConfig(num_views=2)
    if group > 1:
        views = ViewpointConfig(num_views=group, azimuths="orthogonal")
    config = ExperimentConfig(
        prompt=prompt,
        num_steps=3,
        asset="splat" if prior.body_picture is None else "avatar",
        device=str(prior.device),
        initialize=InitializeConfig(shape="ball", num_points=2000),
        viewpoints=views,
        guidance=DistillConfig(t_per_view=group == 1),
        densify=DensifyConfig(policy="none"),
    )
    seconds, norms, bad = [], [], 0
    steps, started = Job(config, prior, anyway=True).steps(), time.perf_counter()
    for done in steps:
        norms.append(float(done.metrics["grad_norm"]))  # makes the host wait for the device
        bad = done.metrics["bad_steps"]
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    measured[f"seconds_per_step_{views.num_views}_views"] = round(min(seconds), 4)
    measured["gradient_norms"] = norms
    found = (
        f"||g|| = {norms[-1]:.3g}, {min(seconds):.3f} s per step, {bad} of {config.num_steps} not"
        " finite"
    )
    yield Check(
        "short run", bad == 0 and min(norms) > 0, found, "finite gradients that are not zero"
    )


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
