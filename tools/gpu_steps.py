"""What gpu_check.py measures: a scene, a step of ours and one of gsplat's, and the time between
marks."""

from __future__ import annotations

import importlib
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FOV_DEG = 49.0


def benchmark_scene(count: int, views: int, device: str) -> dict[str, Tensor]:
    """Splats in a ball: means N(0, 0.5^2), scales log-uniform 0.005..0.03, opacities 0.1..0.9, from
    distance 3.5."""
    look_from = importlib.import_module("scenes").look_from
    rng = torch.Generator().manual_seed(0)
    low, high = math.log(0.005), math.log(0.03)
    angles = [2 * math.pi * v / views for v in range(views)]
    directions = [
        torch.tensor([math.sin(a), math.cos(a), 0.3], dtype=torch.float64) for a in angles
    ]
    scene = {
        "means": 0.5 * torch.randn(count, 3, generator=rng),
        "quats_wxyz": torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=-1),
        "scales": (low + (high - low) * torch.rand(count, 3, generator=rng)).exp(),
        "opacities": 0.1 + 0.8 * torch.rand(count, generator=rng),
        "colors": torch.rand(count, 3, generator=rng),
        "w2c": torch.stack([look_from(direction, 3.5).float() for direction in directions]),
        "tan_half_fov": torch.full((views, 2), math.tan(math.radians(FOV_DEG / 2))),
        "background": torch.ones(views, 3),
    }
    return {name: value.to(device) for name, value in scene.items()}


class Stopwatch:
    """Milliseconds between marks, by CUDA events or, on a CPU, by the clock."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        if self.device == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def laps(self) -> list[float]:
        pairs = list(zip(self.marks[:-1], self.marks[1:], strict=True))
        if self.device == "cuda":
            torch.cuda.synchronize()
            return [first.elapsed_time(second) for first, second in pairs]
        return [1e3 * (second - first) for first, second in pairs]


def measure(step: Callable[[Stopwatch], None], device: str, repetitions: int) -> list[float]:
    """Medians of the laps of `step`, after three warm-up runs."""
    laps = []
    for k in range(repetitions + 3):
        watch = Stopwatch(device)
        step(watch)
        if k >= 3:
            laps.append(watch.laps())
    return [statistics.median(lap) for lap in zip(*laps, strict=True)]


def our_step(scene: dict[str, Tensor], size: int) -> Callable[[Stopwatch], None]:
    """Forward and backward of render_views with gradients for everything."""
    render_views = importlib.import_module("diff_gaussian_rasterization").render_views
    leaves = {
        name: scene[name].requires_grad_()
        for name in ("means", "quats_wxyz", "scales", "opacities", "colors")
    }
    arguments = scene | leaves

    def step(watch: Stopwatch) -> None:
        for leaf in leaves.values():
            leaf.grad = None
        watch.mark()
        out = render_views(**arguments, width=size, height=size)
        loss = out.rgb.sum() + out.depth.sum() + out.alpha.sum()
        watch.mark()
        loss.backward()
        watch.mark()

    return step


def gsplat_step(scene: dict[str, Tensor], size: int) -> Callable[[Stopwatch], None]:
    """The same with gsplat's CUDA kernels."""
    rasterization = importlib.import_module("gsplat").rasterization
    names = ("means", "quats_wxyz", "scales", "opacities", "colors")
    leaves = [scene[name].detach().requires_grad_() for name in names]
    focal = size / 2 / scene["tan_half_fov"][:, 0]
    intrinsics = torch.zeros(len(focal), 3, 3, device=focal.device)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2] = intrinsics[:, 1, 2] = size / 2
    intrinsics[:, 2, 2] = 1

    def step(watch: Stopwatch) -> None:
        for leaf in leaves:
            leaf.grad = None
        watch.mark()
        image, alpha, _ = rasterization(
            *leaves, scene["w2c"], intrinsics, size, size, near_plane=0.2, packed=False,
            render_mode="RGB+D",
            backgrounds=torch.cat([scene["background"], 0 * scene["background"][:, :1]], dim=-1),
        )  # fmt: skip
        loss = image.sum() + alpha.sum()
        watch.mark()
        loss.backward()
        watch.mark()

    return step
