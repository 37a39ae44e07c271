"""Compiles the CUDA backend without CMake, for as many architectures as wanted: what a machine
without a GPU can check.

python csrc/cuda/compile.py                       sm_75 to sm_120, with the nvcc on the PATH
python csrc/cuda/compile.py --pypi .cache/nvcc    the same with the package index's compiler
python csrc/cuda/compile.py --architectures 90 --output libdgr_cuda.so
python csrc/cuda/compile.py --install .cache/nvcc into the installed package, for this machine's
                                                  GPUs: what `make setup` does where PyTorch has
                                                  CUDA and there is no nvcc

The result is loaded and asked for its ABI version, which works without a GPU and without a driver.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
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
    "nvidia-cuda-nvcc==13.*", "nvidia-nvvm==13.*", "nvidia-cuda-crt==13.*",
    "nvidia-cuda-runtime==13.*", "nvidia-cuda-cccl==13.*",
)  # fmt: skip


def find_nvcc() -> Path:
    """nvcc from CUDACXX, the PATH or /usr/local/cuda; FileNotFoundError where there is none."""
    for candidate in (os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    raise FileNotFoundError(
        "no nvcc in CUDACXX, on the PATH or in /usr/local/cuda/bin; --pypi installs one from the"
        " index"
    )


def install_nvcc(folder: Path) -> Path:
    """Installs the index's compiler into `folder` (about 130 MB to download) unless it is there;
    returns its nvcc."""
    found = next(folder.glob("nvidia/*/bin/nvcc"), None)
    if found is None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(folder),
        ]
        subprocess.run([*command, *PYPI_PACKAGES], check=True)
        found = next(folder.glob("nvidia/*/bin/nvcc"))
    return found


def compile_library(
    nvcc: Path, architectures: tuple[str, ...], output: Path, jobs: int = 1
) -> None:
    """Every .cu file of this folder for every architecture into one library; CalledProcessError
    where nvcc fails."""
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
        subprocess.run(
            [str(nvcc), *codes, "-shared", "-cudart=static", *objects, "-o", str(output)],
            check=True,
        )


def installed_package() -> Path:
    """The folder of the installed diff_gaussian_rasterization; ImportError where there is none."""
    spec = importlib.util.find_spec("diff_gaussian_rasterization")
    if spec is None or spec.origin is None:
        raise ImportError("diff_gaussian_rasterization is not installed")
    return Path(spec.origin).parent


def gpu_architectures() -> tuple[str, ...]:
    """Compute capabilities of the GPUs that PyTorch sees here; all that we build for where it sees
    none."""
    import torch

    found = {torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())}
    return tuple(f"{major}{minor}" for major, minor in sorted(found)) or ARCHITECTURES


def install_backend(compiler: Path, jobs: int) -> int:
    """Compiles the backend into the installed package; nothing to do where it is there already."""
    output = installed_package() / "libdgr_cuda.so"
    if output.exists():
        return 0
    try:
        nvcc = find_nvcc()
    except FileNotFoundError:
        print(
            "the CUDA backend is missing and there is no nvcc: taking the compiler from the package"
            " index ..."
        )
        nvcc = install_nvcc(compiler)
    architectures = gpu_architectures()
    print(f"compiling the CUDA backend for sm_{', sm_'.join(architectures)} ...")
    unfinished = output.with_suffix(".unfinished")
    compile_library(nvcc, architectures, unfinished, jobs)
    unfinished.replace(output)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--architectures",
        nargs="+",
        default=ARCHITECTURES,
        help="compute capabilities without the dot",
    )
    parser.add_argument("--output", type=Path, help="keep the library under this name")
    parser.add_argument(
        "--pypi",
        type=Path,
        metavar="FOLDER",
        help="use the index's compiler, installed into FOLDER",
    )
    parser.add_argument(
        "--install", type=Path, metavar="FOLDER",
        help="give the installed package the backend, unless it has one; a missing compiler is"
        " installed into FOLDER",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="files compiled at a time")
    arguments = parser.parse_args()
    if arguments.install:
        return install_backend(arguments.install, arguments.jobs)
    nvcc = install_nvcc(arguments.pypi) if arguments.pypi else find_nvcc()
    with tempfile.TemporaryDirectory() as folder:
        output = (arguments.output or Path(folder) / "libdgr_cuda.so").resolve()
        compile_library(nvcc, tuple(arguments.architectures), output, arguments.jobs)
        library = ctypes.CDLL(str(output))
        library.dgr_backend_name.restype = ctypes.c_char_p
        print(
            f"{nvcc}: sm_{', sm_'.join(arguments.architectures)}:"
            f" {output.stat().st_size / 2**20:.1f} MiB, loads as"
            f" {library.dgr_backend_name().decode()!r}, ABI {library.dgr_abi_version()}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
