"""Measures the CPU backend: python benchmarks/benchmark.py [--scenes 10000@256 ...] [--gsplat]
[--threads] [--memory] [--views]

Prints CPU milliseconds (process time, one thread, median) of forward + backward through the Python
API on the benchmark scenes: means normal with sigma 0.5, scales log-uniform 0.005-0.03, opacity
uniform 0.1-0.9, camera at 3.5, 49 degrees, square image, seed 0. The floor is the time of the two
blending bodies per pixel lane: one tile that stays in the first-level cache, no lists, no masks, no
sums over lanes (csrc/cpu/floor.h). A contributing pair costs more than one lane, since vectors
cover pixels beside the splat: "over the floor" is the time over that of the lanes evaluated.

Machines change their speed from one second to the next. So the floor is measured once beside every
step, the rows are visited in turn, several rounds of them, and the ratio is the median over the
visits of the median over their steps; the lowest and the highest visit stand beside it. "Over the
best" sets the median step against the best floor that the whole run has seen: what the ratio would
be if only the steps were disturbed, and an upper bound.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diff_gaussian_rasterization import native, render_views
from diff_gaussian_rasterization.problem import Options, Splats
from diff_gaussian_rasterization.views import pinhole_cameras
from torch import Tensor

SCENES = ("10000@256", "10000@512", "100000@256", "100000@512")
# steps with one number of threads before the other has its turn: a training does not change it
STEADY = 5
SPLATS = ("means", "quats_wxyz", "scales", "opacities", "colors", "sh")


def make_scene(count: int, sh_degree: int | None, views: int = 1) -> dict[str, Tensor]:
    """Arguments of render_views but for the size; `views` cameras on a circle."""
    rng = torch.Generator().manual_seed(0)
    scene = {
        "means": 0.5 * torch.randn(count, 3, generator=rng),
        "quats_wxyz": torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=-1),
        "scales": 0.005 * 6 ** torch.rand(count, 3, generator=rng),
        "opacities": 0.1 + 0.8 * torch.rand(count, generator=rng),
    }
    if sh_degree is None:
        scene["colors"] = torch.rand(count, 3, generator=rng)
    else:
        scene["sh"] = 0.3 * torch.randn(count, (sh_degree + 1) ** 2, 3, generator=rng)
    for value in scene.values():
        value.requires_grad_()
    w2c = torch.eye(4).repeat(views, 1, 1)
    w2c[:, 2, 3] = 3.5
    for v in range(views):
        angle = 2 * math.pi * v / views
        w2c[v, 0, 0] = w2c[v, 2, 2] = math.cos(angle)
        w2c[v, 0, 2], w2c[v, 2, 0] = math.sin(angle), -math.sin(angle)
    scene["w2c"] = w2c
    scene["tan_half_fov"] = torch.full((views, 2), math.tan(math.radians(49 / 2)))
    scene["background"] = torch.zeros(views, 3)
    return scene


def step(
    scene: dict[str, Tensor], size: int, sh_degree: int | None, mode: str, grads: list[Tensor]
) -> float:
    """One forward and backward pass; returns the seconds of CPU that the forward pass took."""
    for name in SPLATS:
        if name in scene:
            scene[name].grad = None
    start = time.process_time()
    out = render_views(**scene, sh_degree=sh_degree or 0, width=size, height=size, mode=mode)
    forward = time.process_time() - start
    torch.autograd.backward([out.rgb, out.alpha], grads)
    return forward


def image_grads(views: int, size: int) -> list[Tensor]:
    return [torch.rand(views, channels, size, size) for channels in (3, 1)]


def timed(run: Callable[[], object], clock: Callable[[], float], seconds: float) -> float:
    """Median over repetitions of about that many seconds, at least 5, after one to warm up."""
    run()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < seconds and len(times) < 200):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def alternated(
    first: Callable[[], object],
    second: Callable[[], object],
    clock: Callable[[], float],
    seconds: float,
) -> tuple[float, float, float]:
    """Medians of both and of their ratio, second over first, run in turn for about that many
    seconds, at least 5 times.

    In turn, for a machine that others use is not the same a second later."""
    first(), second()
    times: list[tuple[float, float]] = []
    begin = clock()
    while len(times) < 5 or (clock() - begin < seconds and len(times) < 200):
        marks = [clock()]
        for run in (first, second):
            run()
            marks.append(clock())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    ones, twos = zip(*times, strict=True)
    return (
        statistics.median(ones),
        statistics.median(twos),
        statistics.median(b / a for a, b in times),
    )


def floor_ns() -> float:
    """Nanoseconds per pixel of the forward and the backward blending body."""
    forward, backward = ctypes.c_double(), ctypes.c_double()
    native.library("cpu").dgr_cpu_floor(10, ctypes.byref(forward), ctypes.byref(backward))
    return forward.value + backward.value


def contributing_pairs(scene: dict[str, Tensor], size: int) -> int:
    from gsplat_torch import pairs, project

    with torch.no_grad():
        means2d, depths, conics = project(scene, size)
        return len(pairs(means2d, conics, scene["opacities"], depths, size, size)[0])


def evaluated_lanes(scene: dict[str, Tensor], size: int) -> int:
    """Pixel lanes that a forward pass in the tight mode goes through."""
    lib = native.library("cpu")
    lib.dgr_cpu_lanes.restype, lib.dgr_cpu_lanes.argtypes = (
        ctypes.c_int64,
        [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p],
    )
    cameras = pinhole_cameras(scene["w2c"], scene["tan_half_fov"], scene["background"])
    splats = Splats(**{name: scene[name].detach() for name in SPLATS if name in scene})
    options = Options(size, size)
    result = native.forward(splats, cameras, options)
    problem = native.describe(splats, cameras, options)
    return lib.dgr_cpu_lanes(ctypes.byref(problem), result.pairs, result.binning.data_ptr())


class Row:
    """One row of the table, and what its visits measured."""

    def __init__(
        self, name: str, mode: str, scene: dict[str, Tensor], pairs: int, lanes: int
    ) -> None:
        self.name, self.mode, self.scene, self.pairs, self.lanes = name, mode, scene, pairs, lanes
        self.size = int(name.split("@")[1])
        self.sh_degree = 3 if "sh" in scene else None
        self.grads = image_grads(1, self.size)
        self.steps: list[
            tuple[float, float, float]
        ] = []  # forward, both: seconds; floor: ns a lane
        self.ratios: list[float] = []  # of the visits

    def step(self) -> tuple[float, float, float]:
        start = time.process_time()
        forward = step(self.scene, self.size, self.sh_degree, self.mode, self.grads)
        return forward, time.process_time() - start, floor_ns()

    def visit(self, seconds: float) -> None:
        self.step()
        start, steps = time.process_time(), []
        while len(steps) < 3 or time.process_time() - start < seconds:
            steps.append(self.step())
        self.ratios.append(
            statistics.median(1e9 * total / (floor * self.lanes) for _, total, floor in steps)
        )
        self.steps += steps

    def line(self, best: float) -> str:
        forward, total, floor = (
            statistics.median(values) for values in zip(*self.steps, strict=True)
        )
        return (
            f"| {self.name} | {self.mode} | {'given' if self.sh_degree is None else 'SH 3'} |"
            f" {self.pairs / 1e6:.3f} | {1e3 * forward:.2f} | {1e3 * total:.2f} |"
            f" {1e9 * total / self.pairs:.2f} | {floor:.2f} | {self.lanes / self.pairs:.2f} |"
            f" {1e9 * total / (best * self.lanes):.2f} |"
            f" {min(self.ratios):.2f}-{max(self.ratios):.2f} |"
            f" {statistics.median(self.ratios):.2f} |"
        )


def table(names: list[str], seconds: float, rounds: int) -> None:
    torch.set_num_threads(1)
    rows = []
    for name in names:
        count, size = (int(part) for part in name.split("@"))
        plain, harmonics = make_scene(count, None), make_scene(count, 3)
        pairs, lanes = contributing_pairs(plain, size), evaluated_lanes(plain, size)
        rows += [
            Row(name, mode, scene, pairs, lanes)
            for mode in ("tight", "tiles16")
            for scene in (plain, harmonics)
        ]
    loads = [os.getloadavg()[0]]
    for _ in range(rounds):
        for row in rows:
            row.visit(seconds / rounds)
        loads.append(os.getloadavg()[0])
    best = min(floor for row in rows for *_, floor in row.steps)
    backend = native.library("cpu").dgr_backend_name().decode()
    print(f"{backend}, load {min(loads):.1f} to {max(loads):.1f}, best floor {best:.2f} ns / lane")
    print(
        "| scene | mode | colours | pairs, M | forward, ms | forward + backward, ms | ns / pair |"
        f" floor, ns / lane | lanes / pair | over the best | {rounds} visits | over the floor"
        f" |\n{'|---' * 12}|"
    )
    for row in rows:
        print(row.line(best))


def gsplat(names: list[str]) -> None:
    """The same CPU time of gsplat's torch path, and how many times ours it is, in one run."""
    from gsplat_torch import render

    torch.set_num_threads(1)
    print("| scene | ours, ms | gsplat's torch path, ms | ratio |\n|---|---|---|---|")
    for name in names:
        count, size = (int(part) for part in name.split("@"))
        scene, grads = make_scene(count, None), image_grads(1, size)

        def peer(scene=scene, size=size, grads=grads) -> None:
            image, alpha = render(scene, size)
            torch.autograd.backward([image, alpha], [grads[0][0], grads[1][0, 0]])

        ours = timed(
            lambda s=scene, n=size, g=grads: step(s, n, None, "tight", g), time.process_time, 1
        )
        theirs = timed(peer, time.process_time, 0)
        print(
            f"| {name} | {1e3 * ours:.2f} | {1e3 * theirs:.0f} | {theirs / ours:.0f} |", flush=True
        )


def threads(names: list[str]) -> None:
    """Wall time with one and with two threads; only an idle machine gives a figure worth
    quoting."""
    print(
        f"load {os.getloadavg()[0]:.1f}\n| scene | 1 thread, ms | 2 threads, ms | speed-up | CPU"
        " time, 2 over 1 |"
    )
    print("|---|---|---|---|---|")
    for name in names:
        count, size = (int(part) for part in name.split("@"))
        scene, grads = make_scene(count, None), image_grads(1, size)

        def on(number: int, scene=scene, size=size, grads=grads) -> None:
            torch.set_num_threads(number)
            for _ in range(STEADY):
                step(scene, size, None, "tight", grads)

        one, two, wall = alternated(lambda: on(1), lambda: on(2), time.perf_counter, 2)
        cpu = alternated(lambda: on(1), lambda: on(2), time.process_time, 2)[2]
        one, two = 1e3 * one / STEADY, 1e3 * two / STEADY
        print(f"| {name} | {one:.2f} | {two:.2f} | {1 / wall:.2f} | {cpu:.2f} |", flush=True)


def views(names: list[str]) -> None:
    """Four views in one call against four calls."""
    torch.set_num_threads(1)
    print("| scene | colours | 4 calls, ms | 1 call, ms | saved |\n|---|---|---|---|---|")
    for name in names:
        count, size = (int(part) for part in name.split("@"))
        for sh_degree in (None, 3):
            scene, grads = make_scene(count, sh_degree, 4), image_grads(4, size)
            cameras = ("w2c", "tan_half_fov", "background")
            singles = [scene | {key: scene[key][v : v + 1] for key in cameras} for v in range(4)]
            parts = [[grad[v : v + 1] for grad in grads] for v in range(4)]

            def one_by_one(singles=singles, parts=parts, size=size, sh_degree=sh_degree) -> None:
                for single, part in zip(singles, parts, strict=True):
                    step(single, size, sh_degree, "tight", part)

            def at_once(scene=scene, grads=grads, size=size, sh_degree=sh_degree) -> None:
                step(scene, size, sh_degree, "tight", grads)

            four, together, ratio = alternated(one_by_one, at_once, time.process_time, 4)
            label = "given" if sh_degree is None else "SH 3"
            print(
                f"| {name} | {label} | {1e3 * four:.1f} | {1e3 * together:.1f} | {1 - ratio:.0%} |",
                flush=True,
            )


def memory(names: list[str]) -> None:
    """Peak resident memory of a step, over that of the imports, inputs and image gradients; one
    process a scene."""
    print("| scene | MB |\n|---|---|")
    for name in names:
        command = [sys.executable, __file__, "--peak", name]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"| {name} | {ran.stdout.strip()} |")


def peak(name: str) -> None:
    count, size = (int(part) for part in name.split("@"))
    torch.set_num_threads(1)
    scene, grads = make_scene(count, None), image_grads(1, size)
    step(make_scene(10, None), 16, None, "tight", image_grads(1, 16))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status_mb("VmRSS")
    for _ in range(3):
        step(scene, size, None, "tight", grads)
    print(f"{status_mb('VmHWM') - before:.0f}")


def status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), metavar="COUNT@SIZE")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of measuring for each line of the table"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="in which the lines of the table are visited"
    )
    for section in ("gsplat", "threads", "memory", "views"):
        parser.add_argument(f"--{section}", action="store_true", help=f"only the part on {section}")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak)
        return
    sections = {"gsplat": gsplat, "threads": threads, "memory": memory, "views": views}
    chosen = [name for name in sections if getattr(arguments, name)]
    if not chosen:
        table(arguments.scenes, arguments.seconds, arguments.rounds)
    for name in chosen or sections:
        print(f"\n{(sections[name].__doc__ or '').splitlines()[0]}")
        sections[name](arguments.scenes)


if __name__ == "__main__":
    main()
