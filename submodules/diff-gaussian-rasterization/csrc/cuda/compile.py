"""Compiles the CUDA backend without CMake, for as many architectures as wanted: what a machine without a GPU can check.

python csrc/cuda/compile.py                          every architecture from sm_75 to sm_120, with the nvcc on the PATH
python csrc/cuda/compile.py --pypi .cache/nvcc       the same with the compiler that the package index carries
python csrc/cuda/compile.py --architectures 90 --output libdgr_cuda.so

The result is loaded and asked for its ABI version, which works without a GPU and without a driver.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")
# The compiler, its back end and internal headers, the runtime with its static library, and CUB.
PYPI_PACKAGES = (
    "nvidia-cuda-nvcc==13.*", "nvidia-nvvm==13.*", "nvidia-cuda-crt==13.*", "nvidia-cuda-runtime==13.*",
    "nvidia-cuda-cccl==13.*",
)  # fmt: skip


def find_nvcc() -> Path:
    """nvcc from CUDACXX, the PATH or /usr/local/cuda; FileNotFoundError where there is none."""
    for candidate in (os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    raise FileNotFoundError(
        "no nvcc in CUDACXX, on the PATH or in /usr/local/cuda/bin; --pypi installs one from the index"
    )


def install_nvcc(folder: Path) -> Path:
    """Installs the index's compiler into `folder` (about 130 MB to download) unless it is there; returns its nvcc."""
    found = next(folder.glob("nvidia/*/bin/nvcc"), None)
    if found is None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, *PYPI_PACKAGES], check=True)
        found = next(folder.glob("nvidia/*/bin/nvcc"))
    return found


def compile_library(nvcc: Path, architectures: tuple[str, ...], output: Path, jobs: int = 1) -> None:
    """Every .cu file of this folder for every architecture into one library; CalledProcessError where nvcc fails."""
    flags = ["-std=c++17", "-O3", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall"]
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in architectures]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        sources = sorted(HERE.glob("*.cu"))
        objects = [str(Path(folder) / f"{source.stem}.o") for source in sources]
        commands = [
            [str(nvcc), *flags, *codes, "-c", str(source), "-o", target]
            for source, target in zip(sources, objects, strict=True)
        ]
        for _ in pool.map(lambda command: subprocess.run(command, check=True), commands):
            pass
        subprocess.run([str(nvcc), *codes, "-shared", "-cudart=static", *objects, "-o", str(output)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--architectures", nargs="+", default=ARCHITECTURES, help="compute capabilities without the dot"
    )
    parser.add_argument("--output", type=Path, help="keep the library under this name")
    parser.add_argument("--pypi", type=Path, metavar="FOLDER", help="use the index's compiler, installed into FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="files compiled at a time")
    arguments = parser.parse_args()
    nvcc = install_nvcc(arguments.pypi) if arguments.pypi else find_nvcc()
    with tempfile.TemporaryDirectory() as folder:
        output = (arguments.output or Path(folder) / "libdgr_cuda.so").resolve()
        compile_library(nvcc, tuple(arguments.architectures), output, arguments.jobs)
        library = ctypes.CDLL(str(output))
        library.dgr_backend_name.restype = ctypes.c_char_p
        print(
            f"{nvcc}: sm_{', sm_'.join(arguments.architectures)}: {output.stat().st_size / 2**20:.1f} MiB, "
            f"loads as {library.dgr_backend_name().decode()!r}, ABI {library.dgr_abi_version()}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
