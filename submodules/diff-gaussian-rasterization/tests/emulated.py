"""Builds the CUDA backend for the host emulation (csrc/emulation)."""

from __future__ import annotations

import ctypes
import os
import subprocess
from ctypes import c_char, c_int
from pathlib import Path

CSRC = Path(__file__).resolve().parent.parent / "csrc"


class Runtime(ctypes.Structure):
    """struct Runtime of emulated_cuda.h: the calling thread's side of the emulated CUDA runtime."""

    _fields_ = [
        ("failing", c_char * 32),
        ("last_error", c_int),
        ("capturing", c_int),
        ("device", c_int),
    ]


def runtime_of(library: ctypes.CDLL) -> Runtime:
    """The calling thread's own, to look at and to change."""
    library.dgr_emulated_runtime.restype = ctypes.POINTER(Runtime)
    return library.dgr_emulated_runtime().contents


def compile_emulated(sources: list[Path], output: Path, *flags: str) -> Path:
    """Compiles CUDA sources and the fiber scheduler into the shared library `output`, with the
    compiler of CXX or c++.

    Contraction stays off: the sources' explicitly rounded operations rely on it."""
    command = [
        os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-g", "-fPIC", "-shared",
        "-ffp-contract=off",
        "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror",
        "-DDGR_EMULATED", *flags,
        *map(str, sources), str(CSRC / "emulation" / "fibers.cpp"), "-o", str(output),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return output


def build_backend(folder: Path, *flags: str) -> Path:
    """libdgr_emulated.so: the C ABI of dgr.h."""
    return compile_emulated(
        [CSRC / "emulation" / "backend.cpp"], folder / "libdgr_emulated.so", *flags
    )
