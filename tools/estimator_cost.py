#!/usr/bin/env python
"""What one step of each estimator costs at the full size of Stable Diffusion 2.1-base (random
weights, no download).

python tools/estimator_cost.py                             counts only (seconds, little memory)
python tools/estimator_cost.py --time --image-size 128     and times them on the CPU, 5 GB
python tools/estimator_cost.py --time --device cuda --dtype float16 --image-size 512
python tools/estimator_cost.py --memory --image-size 128   peak memory of a step, by preset
python tools/estimator_cost.py --train --device cuda --dtype float16 --image-size 512   whole steps

Counted are multiply-adds of the UNet and of the VAE encoder, forward and backward, for four views;
UNet images are averaged over LucidDreamer's schedule of t and over uniform azimuths. ISM is run as
LucidDreamer runs it: inversion in strides of 200, and all negatives evaluated. VSD's critic
predicts one image per view and learns from another, forward and backward (needs peft). The
renderer, the same for all, is left out.

Timed are steps in rounds, every row once a round, so that a machine's moods meet all of them alike.
"share" is how much faster than ISM a row is, over how much faster its counted multiply-adds allow
(same encoder, same Perp-Neg). VSD is timed only where it is named, as its LoRA stays on the UNet of
all.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from gs_ssd import config as configs
from gs_ssd.guidance import trajectory
from gs_ssd.guidance.config import LUCID_T_SCHEDULE, DistillConfig, t_range
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.perp_neg import view_weights
from gs_ssd.guidance.prompts import PromptConfig
from gs_ssd.guidance.vsd import VsdConfig
from gs_ssd.lab.commands import cost
from gs_ssd.prior import DTYPES, PriorConfig
from gs_ssd.prior.multiview_unet import CAMERA_NUMBERS, MultiViewUNet
from gs_ssd.prior.stable_diffusion import StableDiffusionPrior, add_lora, freeze
from gs_ssd.scene.camera import at_angles
from gs_ssd.trainer import Trainer

VIEWS = 4
ESTIMATORS = ("ssd", "csd", "sds", "nfsd", "ism", "sdi", "vsd")
TIMED_T = (
    120,
    300,
    420,
)  # their inversions cost 2, 2 and 3 evaluations: 2.33, below the schedule's average of 2.7
AZIMUTHS = [math.radians(azimuth) for azimuth in (-150.0, -60.0, 30.0, 120.0)]
CAMERAS = at_angles(AZIMUTHS, [1.4] * VIEWS, radius=4.0, fov_y_rad=0.8, size=512)
PRESETS = Path(__file__).parents[1] / "configs" / "presets"
UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 512,
}

TOY = {
    "unet": {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 1024,
    },
    "vae": VAE | {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4},
}

TINY: Any = AutoencoderTiny
PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "unet": (UNet2DConditionModel, UNET),
    "vae": (AutoencoderKL, VAE),
}


def multiply_adds(call: Callable[[], Any]) -> float:
    """Of everything that `call` runs, in units of 1e12."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e12


def count_parts(image_size: int) -> dict[str, float]:
    """Multiply-adds (1e12) of one UNet image (Stable Diffusion's, and MVDream's) and of one view's
    encoding (SD's VAE, and TAESD), on the meta device."""
    with torch.device("meta"):
        unet, vae = (kind(**config).requires_grad_(False) for kind, config in PARTS.values())
        x, text = torch.empty(1, 4, image_size // 8, image_size // 8), torch.empty(1, 77, 1024)
        t = torch.zeros(1, dtype=torch.long)
        with torch.no_grad():
            parts = {"unet": multiply_adds(lambda: unet(x, t, text))}
            parts["multiview_unet"] = _count_multiview(x, t, text)
        parts |= _count_encoder(
            lambda picture: vae.encode(picture).latent_dist.mean, image_size, "encode"
        )
        tiny = TINY().requires_grad_(False)
        return parts | _count_encoder(
            lambda picture: tiny.encode(picture).latents, image_size, "tiny_encode"
        )


def _count_multiview(x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> float:
    """Of one UNet image of MVDream: a quarter of a group, attention across it included."""
    unet = MultiViewUNet.empty(UNET)
    x, t, text = (part.expand(VIEWS, *part.shape[1:]) for part in (x, t, text))
    cameras = torch.empty(VIEWS, CAMERA_NUMBERS)
    told = {"class_labels": cameras, "cross_attention_kwargs": {"views": VIEWS}}
    return multiply_adds(lambda: unet(x, t, text, **told)) / VIEWS


def _count_encoder(
    encode: Callable[[torch.Tensor], torch.Tensor], image_size: int, name: str
) -> dict[str, float]:
    picture = torch.empty(1, 3, image_size, image_size, requires_grad=True)
    forward = multiply_adds(lambda: encode(picture))
    both = multiply_adds(lambda: encode(picture).sum().backward())
    return {name: forward, f"{name}_backward": both - forward}


def count_critic(image_size: int) -> float:
    """Multiply-adds (1e12) of the backward pass of one UNet image to VSD's LoRA, on the meta
    device."""
    kind, config = PARTS["unet"]
    with torch.device("meta"):
        unet = kind(**config).requires_grad_(False)
        add_lora(unet, VsdConfig().rank, "critic")
        x, text = torch.empty(1, 4, image_size // 8, image_size // 8), torch.empty(1, 77, 1024)
        t = torch.zeros(1, dtype=torch.long)
        with torch.no_grad():
            forward = multiply_adds(lambda: unet(x, t, text))
        return multiply_adds(lambda: unet(x, t, text).sample.sum().backward()) - forward


def unet_images(estimator: str, perp_neg: bool, interval: int = 50) -> float:
    """UNet images of a step at four views, averaged over the run's t and over uniform azimuths."""
    options = trajectory.TrajectoryConfig(ism_interval=interval)
    azimuths = [math.pi * (2 * i + 1) / 720 for i in range(720)]
    negatives = sum(sum(w != 0 for w in view_weights(a)) for a in azimuths) / len(azimuths)
    if estimator == "ism":
        negatives = 2.0  # LucidDreamer evaluates both, whatever their weight
    prompts = {"nfsd": 3, "seek": 1}.get(estimator, 2) + (negatives if perp_neg else 0)
    if estimator == "vsd":
        prompts += 1 + VsdConfig().steps  # the critic's prediction, and what it learns from
    inversion = []
    for progress in (i / 100 for i in range(100)):
        low, high = t_range(LUCID_T_SCHEDULE, progress)
        for t in range(int(1000 * low), int(1000 * high), 10):
            if estimator == "ism":
                inversion.append(
                    len(trajectory.ism_path(t, trajectory.ism_interval(options, progress), options))
                    - 1
                )
            elif estimator == "sdi":
                inversion.append(2 * (len(trajectory.sdi_path(t, options.sdi_steps)) - 1))
    return VIEWS * (prompts + (sum(inversion) / len(inversion) if inversion else 0))


def random_pipeline(args: argparse.Namespace) -> argparse.Namespace:
    """The full-size model with random weights, as far as `StableDiffusionPrior` looks at a
    pipeline."""
    torch.manual_seed(0)
    with torch.device(args.device):
        parts = {
            name: kind(**(TOY[name] if args.toy else config))
            for name, (kind, config) in PARTS.items()
        }
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return argparse.Namespace(
        **parts,
        scheduler=scheduler,
        tokenizer=None,
        maybe_convert_prompt=None,
        text_encoder=torch.nn.Identity(),
    )


def behind_the_door(
    pipe: argparse.Namespace, config: PriorConfig, args: argparse.Namespace
) -> StableDiffusionPrior:
    """The program's own prior around it; prompts are random embeddings."""
    config = dataclasses.replace(config, image_size=args.image_size, compile=args.compile)
    prior = StableDiffusionPrior(pipe, config, torch.device(args.device), DTYPES[args.dtype])
    generator = torch.Generator().manual_seed(0)
    prior.embed = lambda prompts: torch.randn(len(prompts), 77, 1024, generator=generator).to(
        prior.device
    )
    prior.overflow = lambda prompt: ""  # noqa: ARG005 -- the name is the protocol's
    return prior


def memory_of_step(
    pipe: argparse.Namespace, preset: str, args: argparse.Namespace
) -> tuple[int, torch.Tensor]:
    """(bytes of tensors beyond the weights at most in use, gradient at the pictures) of one step
    with a preset's own settings, renderer left out.

    The posterior's mean, as passes of few views draw other samples than one pass of all.
    """
    experiment = configs.load(PRESETS / f"{preset}.yaml")
    prior = behind_the_door(pipe, experiment.prior, args)
    certain = {
        "sample_posterior": False,
        "flip": 0.0,
        "depth_as_latents": 0.0,
        "t_schedule": ((0.0, 0.3, 0.3),),
    }
    distillation = Distillation(
        dataclasses.replace(experiment.guidance, **certain), prior, "a mug", num_steps=1
    )
    generator = torch.Generator().manual_seed(0)
    rgb = (
        torch.rand(VIEWS, 3, args.image_size, args.image_size, generator=generator)
        .to(prior.device)
        .requires_grad_()
    )

    def step() -> None:
        distillation.step(rgb, CAMERAS, 0, generator).loss.backward()

    peak = most_in_use(step, prior.device)
    assert rgb.grad is not None
    return peak, rgb.grad.cpu()


def most_in_use(call: Callable[[], None], device: torch.device) -> int:
    """Bytes of tensors that `call` held at most, beyond what was there before it.

    On a CPU from the allocator's own record: what the process occupies depends on the heap's moods.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as record:
        call()
    results = None if record.profiler is None else record.profiler.kineto_results
    assert results is not None
    events: list[Any] = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def report_memory(args: argparse.Namespace) -> None:
    """The presets' peaks, and how far their gradients are apart."""
    pipe = random_pipeline(args)
    reference: torch.Tensor | None = None
    for preset in ("object", "low_vram"):
        peak, gradient = memory_of_step(pipe, preset, args)
        reference = gradient if reference is None else reference
        apart = ((gradient - reference).norm() / reference.norm()).item()
        print(
            f"{preset}: {peak / 2**20:.1f} MiB beyond the weights; gradient {apart:.1e} apart from"
            " the first's"
        )


def with_tiny_vae(prior: StableDiffusionPrior) -> StableDiffusionPrior:
    """The same UNet behind a TAESD-sized encoder (random weights)."""
    other = copy.copy(prior)
    other.config = dataclasses.replace(prior.config, tiny_vae="random")
    other.vae = freeze(TINY(), prior.device, prior.dtype)
    return other


@dataclasses.dataclass
class Row:
    """One estimator with or without Perp-Neg, behind SD's VAE or the tiny one; sums over its timed
    steps."""

    estimator: str
    perp_neg: bool
    tiny_vae: bool
    seconds: float = 0.0
    images: int = 0
    steps: int = 0
    peak: int = 0

    def counted(self, parts: dict[str, float], images: float) -> float:
        """Multiply-adds (1e12) of a step with so many UNet images."""
        name = "tiny_encode" if self.tiny_vae else "encode"
        learning = (
            VIEWS * VsdConfig().steps * parts["critic_backward"] if self.estimator == "vsd" else 0.0
        )
        return images * parts["unet"] + VIEWS * (parts[name] + parts[f"{name}_backward"]) + learning

    def run(self, prior: StableDiffusionPrior, t: int, *, warm_up: bool = False) -> None:
        """One step at `t`; processor seconds on a CPU, as it may be shared."""
        cuda = prior.device.type == "cuda"
        clock = time.perf_counter if cuda else time.process_time
        rgb = torch.rand(
            VIEWS, 3, prior.image_size, prior.image_size, device=prior.device, requires_grad=True
        )
        config = DistillConfig(
            estimator=self.estimator,
            t_schedule=((0.0, t / 1000, t / 1000),),
            prompts=PromptConfig(perp_neg=self.perp_neg),
        )
        distillation = Distillation(config, prior, "a mug", num_steps=1)
        if cuda:
            torch.cuda.reset_peak_memory_stats(prior.device)
            torch.cuda.synchronize(prior.device)
        started = clock()
        result = distillation.step(rgb, CAMERAS, 0, torch.Generator().manual_seed(t))
        result.loss.backward()
        if cuda:
            torch.cuda.synchronize(prior.device)
            self.peak = max(self.peak, torch.cuda.max_memory_allocated(prior.device))
        if not warm_up:
            self.seconds += clock() - started
            self.images += result.unet_images
            self.steps += 1

    def report(self, parts: dict[str, float]) -> dict[str, Any]:
        """What was counted, and timed where it was."""
        images = unet_images(self.estimator, self.perp_neg)
        row: dict[str, Any] = {
            "estimator": self.estimator,
            "perp_neg": self.perp_neg,
            "tiny_vae": self.tiny_vae,
        }
        row |= {
            "unet_images": round(images, 1),
            "tera_multiply_adds": round(self.counted(parts, images), 3),
        }
        if self.steps:
            ran = self.images / self.steps
            row |= {"timed_images": round(ran, 1), "timed_tera": round(self.counted(parts, ran), 3)}
            row["seconds"] = round(self.seconds / self.steps, 4)
        if self.peak:
            row["peak_gib"] = round(self.peak / 2**30, 2)
        return row


def share_of_possible(row: dict[str, Any], ism: dict[str, Any]) -> dict[str, float]:
    """How much faster than ISM a timed row is, how much the counted multiply-adds allow, and the
    ratio of the two."""
    faster, allowed = ism["seconds"] / row["seconds"], ism["timed_tera"] / row["timed_tera"]
    return {
        "faster": round(faster, 3),
        "allowed": round(allowed, 3),
        "share": round(faster / allowed, 3),
    }


def timed_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every estimator with and without Perp-Neg, counted, and with `--time` timed (a GPU and a
    compiler warm up)."""
    parts = count_parts(args.image_size)
    estimators = args.estimators or [name for name in ESTIMATORS if name != "vsd" or not args.time]
    if "vsd" in estimators:
        parts["critic_backward"] = count_critic(args.image_size)
    print(
        "multiply-adds (1e12) at",
        args.image_size,
        "px:",
        {name: round(value, 4) for name, value in parts.items()},
    )
    rows = [
        Row(estimator, perp_neg, encoder == "tiny")
        for encoder in args.encoders
        for perp_neg in (False, True)
        for estimator in estimators
        if ("yes" if perp_neg else "no") in args.perp_neg
    ]
    if args.time:
        prior = behind_the_door(random_pipeline(args), PriorConfig(), args)
        priors = {False: prior, True: with_tiny_vae(prior)}
        for row in rows if args.device != "cpu" or args.compile else []:
            row.run(priors[row.tiny_vae], args.timesteps[0], warm_up=True)
        for t in args.timesteps:
            for row in rows:
                row.run(priors[row.tiny_vae], t)
                print(f"t = {t}, so far: {row}", flush=True)
    reports = [row.report(parts) for row in rows]
    for report in reports:
        like = ("perp_neg", "tiny_vae")
        same = (
            r
            for r in reports
            if r["estimator"] == "ism" and all(r[key] == report[key] for key in like)
        )
        ism = next(same, None)
        if args.time and ism is not None and ism is not report:
            report |= share_of_possible(report, ism)
    return reports


def timed_training(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a whole step by part (renderer and all, 81 920 splats, four views, Perp-Neg), what
    5000 of them take, and the peak memory, weights included."""
    options = (
        f"device={args.device}",
        "prompt=a mug",
        "initialize.shape=sphere",
        "output.preview_every=0",
    )
    config = configs.load(
        PRESETS / "creature.yaml", [*options, f"viewpoints.image_size={args.image_size}"]
    )
    prior = behind_the_door(random_pipeline(args), config.prior, args)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, folder, prior=prior)
        seconds = cost.measure(trainer.job, args.train)
    whole = {
        "minutes": config.num_steps * seconds["step"] / 60,
        "peak_mib": trainer.memory.peak_mib,
    }
    return {name: round(value, 4) for name, value in (seconds | whole).items()}


def arguments(command: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--time", action="store_true", help="build the model and run steps")
    parser.add_argument(
        "--memory", action="store_true", help="measure the presets' peak memory instead"
    )
    parser.add_argument(
        "--train",
        type=int,
        nargs="?",
        const=20,
        metavar="STEPS",
        help="time whole training steps instead",
    )
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS)
    parser.add_argument("--encoders", nargs="+", default=["vae", "tiny"], choices=["vae", "tiny"])
    parser.add_argument("--perp-neg", nargs="+", default=["no", "yes"], choices=["no", "yes"])
    parser.add_argument(
        "--timesteps", nargs="+", type=int, default=list(TIMED_T), help="one round of steps each"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--toy", action="store_true", help="a toy architecture, to try this tool")
    parser.add_argument("--json", help="write the numbers there too")
    return parser.parse_args(command)


def main() -> None:
    args = arguments()
    if args.memory:
        report_memory(args)
        return
    rows = [timed_training(args)] if args.train else timed_rows(args)
    print(*rows, sep="\n")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"image_size": args.image_size, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
