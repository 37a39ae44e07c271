"""Measures the native backend: python benchmarks/benchmark.py [--points 262144] [--rounds 5]
[--no-compile]

Prints CPU nanoseconds per point (process time, one thread, median) of forward + backward of the
encoding (gradients of the tables), alone and with the two perceptrons of a radiance field (32 x 64
x 1 for density, 32 x 64 x 3 for colour), for random points, ours and plain torch's
(benchmarks/torch_peers.py), one after the other in every round: machines change their speed from
one second to the next, so ratios within a round are what to read; their median is printed. torch's
is the fastest of three: index_select, the same compiled by torch.compile, and embedding_bag.

The floor is the time of the encoding's loads alone, plus that of its additions in place alone, at
the very same entries (csrc/cpu/floor.h); it is measured beside every step.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from hash_grid_encoding import HashGrid, encode, mlps, native, reference
from torch import Tensor
from torch_peers import by_embedding_bag, by_index_select, perceptrons

GRIDS = {
    "16 levels of 2^19 entries (instant-NGP)": HashGrid(),
    "12 levels of 2^14 entries (fits a cache)": HashGrid(
        levels=12, log2_entries=14, base_resolution=8, scale=1.4
    ),
}


class Field:
    """One grid with the perceptrons, and points to look at."""

    def __init__(self, grid: HashGrid, count: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.grid, self.count = grid, count
        self.points = torch.rand(count, 3, generator=rng)
        self.tables = (0.1 * torch.randn(grid.num_entries, 2, generator=rng)).requires_grad_()
        width = grid.num_features
        shapes = ((64, width), (1, 64), (64, width), (3, 64))
        self.weights = [
            (0.2 * torch.randn(shape, generator=rng)).requires_grad_() for shape in shapes
        ]
        self.grads = {size: torch.randn(count, size, generator=rng) for size in (1, 3, width)}

    def encoding(self, encoder: Callable[..., Tensor]) -> None:
        self.tables.grad = None
        encoder(self.points, self.tables, self.grid).backward(self.grads[self.grid.num_features])

    def field(self, encoder: Callable[..., Tensor], perceptrons: Callable[..., Any]) -> None:
        for parameter in (self.tables, *self.weights):
            parameter.grad = None
        features = encoder(self.points, self.tables, self.grid)
        heads = [tuple(self.weights[:2]), tuple(self.weights[2:])]
        density, color = perceptrons(features, heads)
        torch.autograd.backward([density, color], [self.grads[1], self.grads[3]])

    def floor(self) -> tuple[float, float]:
        """Nanoseconds a point of the loads and of the additions, all levels."""
        lib = native.library()
        pointer = ctypes.c_void_p
        lib.hge_cpu_floor.argtypes = [pointer, pointer, ctypes.c_int64, pointer, pointer]
        lib.hge_cpu_floor.restype = None
        table, found = self.tables.detach().clone(), [0.0, 0.0]
        bits = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
        for level, resolution in enumerate(self.grid.resolutions):
            cell = (self.points * resolution).long().clamp_max(resolution - 1)
            index = torch.stack(
                [reference.vertex_index(cell + bit, self.grid, level) for bit in bits]
            ).int()
            loads, additions = ctypes.c_double(), ctypes.c_double()
            at = table.data_ptr() + 8 * self.grid.offsets[level]
            lib.hge_cpu_floor(
                at, index.data_ptr(), self.count, ctypes.byref(loads), ctypes.byref(additions)
            )
            found[0] += loads.value
            found[1] += additions.value
        return found[0], found[1]


def nanoseconds(run: Callable[[], object], count: int) -> float:
    start = time.process_time()
    run()
    return 1e9 * (time.process_time() - start) / count


def measure(name: str, grid: HashGrid, arguments: argparse.Namespace) -> None:
    field = Field(grid, arguments.points)
    peers = {"index_select": by_index_select, "embedding_bag": by_embedding_bag}
    if not arguments.no_compile:
        peers["index_select compiled"] = torch.compile(by_index_select, dynamic=False)
    compiled = perceptrons if arguments.no_compile else torch.compile(perceptrons, dynamic=False)

    def tried(peer: Callable[..., Tensor]) -> float:
        field.encoding(peer)  # to warm up, and to compile
        return nanoseconds(lambda: field.encoding(peer), field.count)

    speeds = {label: tried(peer) for label, peer in peers.items()}
    best = min(speeds, key=lambda label: speeds[label])
    print(
        f"\n{name}: torch's, ns per point:"
        f" {', '.join(f'{label} {speed:.0f}' for label, speed in speeds.items())}"
    )
    with_mlp = compiled if best.endswith("compiled") else perceptrons
    runs = {
        "encoding, ours": lambda: field.encoding(encode),
        "encoding, torch": lambda: field.encoding(peers[best]),
        "with perceptrons, ours": lambda: field.field(encode, mlps),
        "with perceptrons, torch": lambda: field.field(peers[best], with_mlp),
    }
    for run in runs.values():
        run()
    rounds: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        loads, additions = field.floor()
        rounds.append({"loads": loads, "additions": additions})
        for label, run in runs.items():
            rounds[-1][label] = nanoseconds(run, field.count)
    report(rounds, best)


def report(rounds: list[dict[str, float]], best: str) -> None:
    def median(value: Callable[[dict[str, float]], float]) -> str:
        found = sorted(value(one) for one in rounds)
        return f"{statistics.median(found):.2f} ({found[0]:.2f}-{found[-1]:.2f})"

    print(
        "| | ours, ns per point | torch, ns per point | torch / ours | ours / floor"
        " |\n|---|---|---|---|---|"
    )
    for label in ("encoding", "with perceptrons"):
        ours, theirs = (
            statistics.median(one[f"{label}, {who}"] for one in rounds) for who in ("ours", "torch")
        )
        ratio = median(lambda one, label=label: one[f"{label}, torch"] / one[f"{label}, ours"])
        floor = median(lambda one: one["encoding, ours"] / (one["loads"] + one["additions"]))
        print(
            f"| {label} | {ours:.0f} | {theirs:.0f} | {ratio} |"
            f" {floor if label == 'encoding' else ''} |"
        )
    loads, additions = (
        statistics.median(one[part] for one in rounds) for part in ("loads", "additions")
    )
    print(
        f"torch's is {best}; the floor: loads {loads:.0f}, additions {additions:.0f} ns per point"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1 << 18)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--no-compile", action="store_true", help="leave out torch.compile, which takes minutes"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{native.backend_name()}, one thread, {arguments.points} points, load"
        f" {os.getloadavg()[0]:.1f}"
    )
    for name, grid in GRIDS.items():
        measure(name, grid, arguments)


if __name__ == "__main__":
    main()
