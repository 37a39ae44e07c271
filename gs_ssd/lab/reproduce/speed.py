"""Section 5.1 of the SSD paper: what DDIM inversion costs, in noise predictions and in seconds."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from gs_ssd.guidance.config import DistillConfig
from gs_ssd.guidance.distill import Distillation
from gs_ssd.lab.reproduce.report import (
    Claim,
    Context,
    Report,
    SizeName,
    new_figure,
    save_figure,
    write_table,
)
from gs_ssd.lab.reproduce.truth import cameras_around
from gs_ssd.prior import DiffusionPrior, PriorConfig, load

TITLE = "Speed: what DDIM inversion costs (section 5.1)"
ESTIMATORS = ("ssd", "csd", "sds", "nfsd", "ism", "sdi")
VIEWS = 4
SIZES: dict[SizeName, dict[str, Any]] = {
    "tiny": {"draws": 6, "repeats": 1},
    "small": {"draws": 12, "repeats": 2},
    "full": {"draws": 50, "repeats": 3},
}


@dataclasses.dataclass(frozen=True)
class Timing:
    """Means over a run's timesteps, for one step with `VIEWS` views."""

    estimator: str
    unet_images: float
    seconds: float


def time_estimator(
    prior: DiffusionPrior, name: str, prompt: str, draws: int, repeats: int, seed: int
) -> Timing:
    """Guidance steps (encode, trajectory, noise predictions, estimator; no rendering) spread over a
    whole run."""
    distillation = Distillation(DistillConfig(estimator=name), prior, prompt, num_steps=draws)
    size = prior.image_size
    pictures = torch.rand(VIEWS, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(
        prior.device
    )
    cameras = cameras_around(VIEWS, prior.image_size)
    # CPU seconds of this process where they are all that counts: other processes do not disturb
    # them.
    clock = time.process_time if prior.device.type == "cpu" else time.perf_counter
    images, best = 0, math.inf
    for _ in range(repeats):
        images, spent = 0, 0.0
        for draw in range(draws):
            rgb = pictures.clone().requires_grad_()
            generator = torch.Generator().manual_seed(seed + draw)
            started = clock()
            result = distillation.step(rgb, cameras, draw, generator)
            result.loss.backward()
            spent += clock() - started
            images += result.unet_images
        best = min(best, spent / draws)
    return Timing(name, images / draws, best)


def run(context: Context) -> Report:
    """Every estimator's images and seconds per step, and the ratio of ISM to SSD."""
    size = SIZES[context.size]
    prior = load(PriorConfig(model=context.prior), context.device)
    prompt = "a red disc" if context.prior == "analytic" else "a red mushroom"
    timings = {
        name: time_estimator(prior, name, prompt, seed=context.seed, **size) for name in ESTIMATORS
    }
    write_table(
        context.folder / "speed.csv",
        [field.name for field in dataclasses.fields(Timing)],
        [dataclasses.astuple(timing) for timing in timings.values()],
    )
    _draw(context.folder / "speed.png", timings)
    ssd, ism = timings["ssd"], timings["ism"]
    return Report(
        TITLE,
        f"One guidance step (encoder, noise predictions, estimator) with {VIEWS} views and no"
        f" rendering, mean over {size['draws']} steps of a run's t law, best of {size['repeats']},"
        f" prior `{context.prior}` on {context.device} (on a CPU: seconds of processor time).",
        (
            Claim(
                "SSD needs fewer noise predictions than ISM",
                ssd.unet_images < ism.unet_images,
                f"{ssd.unet_images:.1f} images per step against {ism.unet_images:.1f}:"
                f" {ism.unet_images / ssd.unet_images:.2f} times as many",
            ),
            Claim(
                "Dropping the inversion makes a guidance step 75 % faster",
                ism.seconds / ssd.seconds >= 1.75,
                f"{ssd.seconds:.3f} s per step against {ism.seconds:.3f} s:"
                f" {ism.seconds / ssd.seconds:.2f} times as long (guidance alone; the comparison"
                " has whole trainings)",
            ),
        ),
        (("speed.png", "Noise predictions (left) and seconds (right) a guidance step."),),
    )


def _draw(path: Path, timings: dict[str, Timing]) -> None:
    figure, axes = new_figure(1, 2)
    for axis, name in zip(axes[0], ("unet_images", "seconds"), strict=True):
        axis.bar(list(timings), [getattr(timing, name) for timing in timings.values()])
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
    save_figure(figure, path)
