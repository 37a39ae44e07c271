"""CPU time of simple_knn against scipy's cKDTree, one thread, one run: ``python
tools/benchmark.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from scipy.spatial import cKDTree

from simple_knn import mean_squared_distance

SIZES = ((10_000, 15), (100_000, 7), (1_000_000, 3))  # points, repetitions


def clouds(n: int) -> dict[str, np.ndarray]:
    """A ball's inside, a thin surface, and clusters of very different sizes."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(n, 3))
    scale = 10.0 ** rng.uniform(-4, 0, size=(64, 1))
    centres = rng.normal(size=(64, 3))
    cluster = rng.integers(64, size=n)
    return {
        "normal": normal.astype(np.float32),
        "sphere": (normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32),
        "clusters": (
            (centres[cluster] + scale[cluster] * rng.normal(size=(n, 3))).astype(np.float32)
        ),
    }


def scipy_mean_squared_distance(points: np.ndarray) -> np.ndarray:
    distances, _ = cKDTree(points).query(points, k=4)
    return (distances[:, 1:] ** 2).mean(axis=1)


def cpu_ms(function: Callable[[], object], repetitions: int) -> float:
    def once() -> float:
        start = time.process_time()
        function()
        return 1e3 * (time.process_time() - start)

    return median(once() for _ in range(repetitions))


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| points | cloud | simple_knn, CPU ms | cKDTree(k=4), CPU ms | ratio"
        " |\n|---|---|---|---|---|"
    )
    for n, repetitions in SIZES:
        for name, points in clouds(n).items():
            tensor = torch.from_numpy(points)
            ours = cpu_ms(lambda t=tensor: mean_squared_distance(t), repetitions)
            theirs = cpu_ms(lambda p=points: scipy_mean_squared_distance(p), repetitions)
            print(
                f"| {n:,} | {name} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
