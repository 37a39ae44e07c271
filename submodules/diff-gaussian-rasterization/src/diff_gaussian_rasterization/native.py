"""The native backends: shared libraries with the C ABI of `csrc/dgr.h`, called through ctypes.

Loaded on first use; torch is never linked, it only lends memory, the stream and the number of
threads.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
)
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .problem import Cameras, Options, Splats

ABI_VERSION = 3
TILES16, NORMALIZE_QUATS, DETACH_DEPTH, CLAMP_PASSES_GRADIENT, ANTIALIASING = 1, 2, 4, 8, 16
SPLAT_FIELDS = ("means", "quats_wxyz", "scales", "cov3d", "opacities", "colors", "sh")
CAMERA_FIELDS = ("view", "proj", "tan_half_fov", "positions", "background")
NONFINITE = dict(enumerate(SPLAT_FIELDS, 16)) | {
    23: "view", 24: "tan_half_fov", 26: "proj", 27: "positions", 28: "background",
}  # fmt: skip
DEVICE_ERROR, NONPOSITIVE_TAN_HALF_FOV = 4, 25


class Problem(Structure):
    """struct dgr_problem."""

    _fields_ = (
        [
            (name, c_int32)
            for name in ("views", "gaussians", "width", "height", "sh_bases", "sh_degree")
        ]
        + [
            ("flags", c_uint32),
            ("threads", c_int32),
            ("scale_modifier", c_float),
            ("reserved", c_int32),
        ]
        + [(name, c_void_p) for name in (*SPLAT_FIELDS, *CAMERA_FIELDS)]
    )


class Images(Structure):
    """struct dgr_images."""

    _fields_ = [(name, c_void_p) for name in ("rgb", "alpha", "depth", "transmittance")]


class ImageGrads(Structure):
    """struct dgr_image_grads."""

    _fields_ = [(name, c_void_p) for name in ("rgb", "alpha", "depth", "transmittance")]


class Grads(Structure):
    """struct dgr_grads."""

    _fields_ = [
        (name, c_void_p)
        for name in (
            "means",
            "quats_wxyz",
            "scales",
            "cov3d",
            "opacities",
            "colors",
            "sh",
            "screen_means",
        )
    ]


def library_path(kind: str) -> Path | None:
    """Where the backend `kind` ("cpu" or "cuda") was built; None where it was not."""
    folder = Path(__file__).parent
    return next(
        (path for end in ("so", "dylib") if (path := folder / f"libdgr_{kind}.{end}").exists()),
        None,
    )


def available_backends() -> tuple[str, ...]:
    """The backends that this build has: cpu, cuda (whether or not there is a GPU now),
    reference."""
    return (*(kind for kind in ("cpu", "cuda") if library_path(kind)), "reference")


@functools.cache
def library(kind: str) -> ctypes.CDLL:
    """The backend `kind` ("cpu" or "cuda"); RuntimeError that says how to get it where it was not
    built."""
    path = library_path(kind)
    if path is None:
        if kind == "cuda":
            raise RuntimeError(
                "a CUDA tensor was given, but this diff_gaussian_rasterization was built without"
                " its CUDA backend: reinstall it where nvcc is on the PATH, with DGR_CUDA=ON to"
                " make a failing CUDA build an error (DGR_CUDA=ON pip install --force-reinstall"
                " --no-deps ./submodules/diff-gaussian-rasterization), or move the tensors to"
                " the CPU"
            )
        raise RuntimeError(
            f"libdgr_{kind} is missing beside {__file__}: pip install"
            " ./submodules/diff-gaussian-rasterization"
        )
    return load(path)


def load(path: Path) -> ctypes.CDLL:
    """A backend's library, with its functions declared."""
    lib = ctypes.CDLL(str(path))
    lib.dgr_message.restype = lib.dgr_backend_name.restype = c_char_p
    lib.dgr_message.argtypes = [c_int]
    lib.dgr_geometry_bytes.restype = lib.dgr_binning_bytes.restype = (
        lib.dgr_scratch_bytes.restype
    ) = c_size_t
    problem = POINTER(Problem)
    lib.dgr_geometry_bytes.argtypes = [problem]
    lib.dgr_binning_bytes.argtypes = lib.dgr_scratch_bytes.argtypes = [problem, c_int64]
    lib.dgr_project.argtypes = [problem, c_void_p, c_size_t, c_void_p, POINTER(c_int64), c_void_p]
    lib.dgr_render.argtypes = [
        problem,
        c_void_p,
        c_int64,
        c_void_p,
        c_size_t,
        POINTER(Images),
        c_void_p,
    ]
    lib.dgr_backward.argtypes = [
        problem, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, POINTER(ImageGrads),
        POINTER(Grads), c_void_p,
    ]  # fmt: skip
    lib.dgr_mark_visible.argtypes = [c_void_p, c_int32, c_void_p, c_void_p, c_int32, c_void_p]
    if lib.dgr_abi_version() != ABI_VERSION:
        raise RuntimeError(
            f"{path} has ABI {lib.dgr_abi_version()}, this package needs {ABI_VERSION}:"
            " reinstall it"
        )
    return lib


class Kept(NamedTuple):
    """What a backward pass reads of its forward pass; fields of `Forward`."""

    transmittance: Tensor
    geometry: Tensor
    binning: Tensor
    pairs: int


class Forward(NamedTuple):
    """Results of a forward pass, and the workspaces that the backward pass reads."""

    rgb: Tensor  # [V,3,H,W]
    alpha: Tensor  # [V,H,W]
    depth: Tensor  # [V,H,W]
    transmittance: Tensor  # [V,H,W]
    radii: Tensor  # [V,N] int32
    geometry: Tensor
    binning: Tensor
    pairs: int


def forward(splats: Splats, cameras: Cameras, options: Options) -> Forward:
    """Renders V views; ValueError names an input with NaN or infinity in it.

    All tensors contiguous, one device."""
    lib, problem, stream = (
        library(splats.means.device.type),
        describe(splats, cameras, options),
        _stream(splats.means),
    )
    count, views = splats.means.shape[0], cameras.view.shape[0]
    height, width, device = options.height, options.width, splats.means.device
    geometry_bytes = _told(lib, lib.dgr_geometry_bytes(byref(problem)))
    geometry = torch.empty(geometry_bytes, dtype=torch.uint8, device=device)
    radii = torch.empty(views, count, dtype=torch.int32, device=device)
    pairs = c_int64()
    status = lib.dgr_project(
        byref(problem), geometry.data_ptr(), geometry_bytes, radii.data_ptr(), byref(pairs), stream
    )
    _check(lib, status)
    binning_bytes = _told(lib, lib.dgr_binning_bytes(byref(problem), pairs))
    binning = torch.empty(binning_bytes, dtype=torch.uint8, device=device)
    rgb = splats.means.new_empty(views, 3, height, width)
    planes = [splats.means.new_empty(views, height, width) for _ in range(3)]
    images = Images(rgb.data_ptr(), *(plane.data_ptr() for plane in planes))
    status = lib.dgr_render(
        byref(problem),
        geometry.data_ptr(),
        pairs,
        binning.data_ptr(),
        binning_bytes,
        byref(images),
        stream,
    )
    _check(lib, status)
    return Forward(rgb, *planes, radii, geometry, binning, pairs.value)


def backward(
    splats: Splats,
    cameras: Cameras,
    options: Options,
    result: Forward | Kept,
    image_grads: dict[str, Tensor | None],
    wanted: set[str],
) -> dict[str, Tensor]:
    """Gradients of the `wanted` splat fields and of "screen_means" [V,N,2], from those of the
    images."""
    lib, problem, stream = (
        library(splats.means.device.type),
        describe(splats, cameras, options),
        _stream(splats.means),
    )
    device = splats.means.device
    given = {name: grad.contiguous() for name, grad in image_grads.items() if grad is not None}
    grads = {
        name: torch.empty_like(getattr(splats, name)) for name in SPLAT_FIELDS if name in wanted
    }
    if "screen_means" in wanted:
        grads["screen_means"] = splats.means.new_empty(
            cameras.view.shape[0], splats.means.shape[0], 2
        )
    incoming = ImageGrads(**{name: grad.data_ptr() for name, grad in given.items()})
    outgoing = Grads(**{name: grad.data_ptr() for name, grad in grads.items()})
    scratch = torch.empty(
        lib.dgr_scratch_bytes(byref(problem), result.pairs), dtype=torch.uint8, device=device
    )
    status = lib.dgr_backward(
        byref(problem), result.geometry.data_ptr(), result.pairs, result.binning.data_ptr(),
        scratch.data_ptr(),
        result.transmittance.data_ptr(), byref(incoming), byref(outgoing), stream,
    )  # fmt: skip
    _check(lib, status)
    return grads


def mark_visible(means: Tensor, view: Tensor) -> Tensor:
    """bool [N]: in front of the near plane of a camera whose world-to-camera matrix [4,4] is
    `view`."""
    lib = library(means.device.type)
    visible = torch.empty(means.shape[0], dtype=torch.bool, device=means.device)
    means, view = means.detach().contiguous(), view.detach().contiguous()
    status = lib.dgr_mark_visible(
        means.data_ptr(),
        means.shape[0],
        view.data_ptr(),
        visible.data_ptr(),
        torch.get_num_threads(),
        _stream(means),
    )
    _check(lib, status)
    return visible


def _stream(tensor: Tensor) -> int | None:
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else None


def describe(splats: Splats, cameras: Cameras, options: Options) -> Problem:
    """The struct; it points into the tensors, which must outlive it."""
    flags = (
        TILES16 * options.tiles16
        | NORMALIZE_QUATS * options.normalize_quats
        | DETACH_DEPTH * options.detach_depth
        | CLAMP_PASSES_GRADIENT * options.clamp_passes_gradient
        | ANTIALIASING * options.antialiasing
    )
    tensors = [getattr(splats, name) for name in SPLAT_FIELDS] + [
        getattr(cameras, name) for name in CAMERA_FIELDS
    ]
    return Problem(
        cameras.view.shape[0],
        splats.means.shape[0],
        options.width,
        options.height,
        0 if splats.sh is None else splats.sh.shape[1],
        0 if splats.sh is None else options.sh_degree,
        flags,
        torch.get_num_threads(),
        options.scale_modifier,
        0,
        *(None if tensor is None else tensor.data_ptr() for tensor in tensors),
    )


def _told(lib: ctypes.CDLL, size: int) -> int:
    """A workspace's size, which is 0 where the backend could not tell it: RuntimeError then says
    why."""
    if size == 0:
        _check(lib, DEVICE_ERROR)
    return size


def _check(lib: ctypes.CDLL, status: int) -> None:
    if status == 0:
        return
    if status in NONFINITE:
        raise ValueError(f"{NONFINITE[status]} contains NaN or infinity")
    if status == NONPOSITIVE_TAN_HALF_FOV:
        raise ValueError("tan_half_fov must be positive")
    raise RuntimeError(lib.dgr_message(status).decode())
