"""The search cross-built for aarch64 and run by qemu-user: the bits of this machine's."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from simple_knn import mean_squared_distance

COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
MISSING = [name for name in (COMPILER, "cmake") if not shutil.which(name)] + ["qemu-aarch64"] * (
    not EMULATOR
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING),
        reason=(
            f"no {', no '.join(MISSING)} (Debian: apt install g++-aarch64-linux-gnu qemu-user"
            " cmake)"
        ),
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("aarch64"), Path(__file__).parent.parent
    system = [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={COMPILER}",
    ]
    configure = ["cmake", "-S", source, "-B", folder, *system, "-DKNN_TESTS=ON"]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder], check=True, stdout=subprocess.DEVNULL)
    return folder / "knn_main"


@pytest.mark.parametrize(
    ("n", "shape", "k", "threads"),
    [
        (1, "normal", 3, 1),
        (30, "grid", 64, 1),
        (2000, "grid", 3, 1),
        (2000, "scales", 64, 1),
        (20_000, "normal", 3, 1),
        (20_000, "scales", 3, 3),
    ],
)
def test_same_bits(program: Path, n: int, shape: str, k: int, threads: int) -> None:
    rng = np.random.default_rng(n)
    points = rng.normal(size=(n, 3))
    if shape == "grid":  # ties everywhere
        points = rng.integers(0, 3, size=(n, 3))
    elif shape == "scales":
        points = points * 10.0 ** rng.integers(-6, 7, size=(n, 1))
    points = points.astype(np.float32)
    request = struct.pack("<qii", n, k, threads) + points.tobytes()
    command = [EMULATOR, "-L", "/usr/aarch64-linux-gnu", program]
    done = subprocess.run(command, input=request, capture_output=True, timeout=200, check=True)
    np.testing.assert_array_equal(
        np.frombuffer(done.stdout, np.float32),
        mean_squared_distance(torch.from_numpy(points), k).numpy(),
    )
