"""The native backend: a shared library with the C ABI of `csrc/hge.h`, called through ctypes.

Loaded on first use; torch is never linked, it only lends memory and the number of threads. Arrays
over points are feature-major here, [features, N].
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Collection, Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .grid import HashGrid

ABI_VERSION = 4
MAX_INPUTS, MAX_HEADS, MAX_HIDDEN, MAX_OUTPUTS = 64, 8, 256, 16
MESSAGES = {
    1: "a size or combination of arguments that csrc/hge.h forbids",
    2: "out of memory",
}
NONFINITE = {3: "points", 4: "origins, directions or jitter"}


class Grid(Structure):
    _fields_ = [
        ("levels", c_int32),
        ("levels_on", c_int32),
        ("resolutions", POINTER(c_int32)),
        ("offsets", POINTER(c_int64)),
    ]


class Head(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("hidden", "outputs")),
        *(
            (name, c_void_p)
            for name in ("w1", "w2", "grad_out", "on_in", "out", "on_out", "grad_w1", "grad_w2")
        ),
    ]


class MlpProblem(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("inputs", "heads", "threads")),
        ("n", c_int64),
        *((name, c_void_p) for name in ("x", "grad_x")),
        ("head", POINTER(Head)),
    ]


class Rays(Structure):
    _fields_ = [
        ("rays", c_int64),
        *((name, c_void_p) for name in ("origins", "directions", "jitter")),
        ("low", c_float * 3),
        ("high", c_float * 3),
        ("cells", c_int32),
        ("occupied", c_void_p),
        ("step", c_float),
        ("threads", c_int32),
    ]


def load(path: Path) -> ctypes.CDLL:
    """The library there, its functions typed."""
    lib = ctypes.CDLL(str(path))
    pointer, grid, rays = c_void_p, POINTER(Grid), POINTER(Rays)
    lib.hge_backend_name.restype = c_char_p
    signatures = {
        "hge_encode": [grid, pointer, pointer, pointer, c_int64, pointer, c_int32],
        "hge_scatter": [grid, *[pointer] * 3, c_int32, c_int64, pointer, c_int32],
        "hge_pull": [grid, pointer, pointer, pointer, pointer, c_int64, pointer, c_int32],
        "hge_turn": [pointer, c_int64, c_int32, pointer, c_int32],
        "hge_mlp": [POINTER(MlpProblem)],
        "hge_march_count": [rays, pointer],
        "hge_march_fill": [rays, pointer, c_int64, pointer, pointer, pointer],
        "hge_visible": [pointer, c_int64, pointer, c_float, c_float, c_float, pointer, c_int32],
        "hge_composite": [
            pointer,
            c_int64,
            *[pointer] * 3,
            c_float,
            c_int64,
            *[pointer] * 4,
            c_int32,
        ],
        "hge_composite_backward": [
            pointer,
            c_int64,
            *[pointer] * 3,
            c_float,
            c_int64,
            *[pointer] * 7,
            c_int32,
        ],
    }
    for name, arguments in signatures.items():
        function = getattr(lib, name)
        function.argtypes, function.restype = arguments, c_int
    if lib.hge_abi_version() != ABI_VERSION:
        raise RuntimeError(
            f"{path} has ABI {lib.hge_abi_version()}, this package needs {ABI_VERSION}:"
            " reinstall it"
        )
    return lib


@functools.cache
def library() -> ctypes.CDLL:
    """The backend beside this file.

    Raises:
        RuntimeError: it is not there: the package was not built.
    """
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    path = Path(__file__).parent / f"libhge_cpu.{suffix}"
    if not path.is_file():
        raise RuntimeError(f"{path} is missing: install the package with pip, which builds it")
    return load(path)


def backend_name() -> str:
    """The code path that the CPU takes, for example "x86-64-v4"."""
    return library().hge_backend_name().decode()


def encode(grid: HashGrid, on: int, tables: Tensor, points: Tensor, along: Tensor | None) -> Tensor:
    """Features [2L, N], or their derivative along `along` [3, N], of points [3, N]."""
    out = points.new_empty(grid.num_features, points.shape[1])
    status = library().hge_encode(
        _grid(grid, on),
        tables.data_ptr(),
        points.data_ptr(),
        _at(along),
        points.shape[1],
        out.data_ptr(),
        _threads(),
    )
    check(status)
    return out


def scatter(grid: HashGrid, on: int, points: Tensor, along: Tensor | None, grads: Tensor) -> Tensor:
    """Gradient [E, 2] of the tables from that of what `encode` returned, or its transposed view."""
    by_point = not grads.is_contiguous() and grads.t().is_contiguous()
    grads = grads if by_point else grads.contiguous()
    out = points.new_empty(grid.num_entries, 2)
    status = library().hge_scatter(
        _grid(grid, on),
        points.data_ptr(),
        _at(along),
        grads.data_ptr(),
        by_point,
        points.shape[1],
        out.data_ptr(),
        _threads(),
    )
    check(status)
    return out


def pull(
    grid: HashGrid, on: int, tables: Tensor, points: Tensor, along: Tensor | None, grads: Tensor
) -> Tensor:
    """Gradient [3, N] of the points: of sum(grads * features), or of its derivative along
    `along`."""
    out = torch.empty_like(points)
    status = library().hge_pull(
        _grid(grid, on), tables.data_ptr(), points.data_ptr(), _at(along), grads.data_ptr(),
        points.shape[1],
        out.data_ptr(), _threads(),
    )  # fmt: skip
    check(status)
    return out


def feature_major(features: Tensor) -> Tensor:
    """[F, N] contiguous, with the same values; of the transposed view of rows of points faster than
    torch makes it."""
    rows = features.t()
    if features.is_contiguous() or not rows.is_contiguous():
        return features.contiguous()
    out = torch.empty_like(features, memory_format=torch.contiguous_format)
    check(
        library().hge_turn(
            rows.data_ptr(), rows.shape[0], rows.shape[1], out.data_ptr(), _threads()
        )
    )
    return out


class MlpHead(NamedTuple):
    """What a head is given, and the `wanted` of out [O, N], on_out, grad_w1, grad_w2.

    `on` says which hidden units are on, as `on_out` of an earlier call; by default ReLU does. A
    head without `grad_out` [O, N] has no gradients.
    """

    w1: Tensor  # [H, I]
    w2: Tensor  # [O, H]
    wanted: Collection[str]
    on: Tensor | None = None
    grad_out: Tensor | None = None


def mlp(
    heads: Sequence[MlpHead], x: Tensor, want_grad_x: bool
) -> tuple[Tensor | None, list[dict[str, Tensor]]]:
    """grad_x [I, N], and what each head wanted; see `hge_mlp_problem` for what they are."""
    count = x.shape[1]
    grad_x = x.new_empty(x.shape) if want_grad_x else None
    found, problems = [], (Head * len(heads))()
    for index, (w1, w2, wanted, on, grad_out) in enumerate(heads):
        shapes = {
            "out": (w2.shape[0], count),
            "on_out": (2 * ((count + 31) // 32), w1.shape[0]),
            "grad_w1": w1.shape,
            "grad_w2": w2.shape,
        }
        kinds = {"on_out": torch.int16}
        made = {
            name: x.new_empty(shape, dtype=kinds.get(name))
            for name, shape in shapes.items()
            if name in wanted
        }
        given = {"w1": w1, "w2": w2, "on_in": on, "grad_out": grad_out, **made}
        problems[index] = Head(
            w1.shape[0], w2.shape[0], **{name: _at(tensor) for name, tensor in given.items()}
        )
        found.append(made)
    problem = MlpProblem(x.shape[0], len(heads), _threads(), count, _at(x), _at(grad_x), problems)
    check(library().hge_mlp(byref(problem)))
    return grad_x, found


def march(rays: Rays, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """offsets [R+1], ray [S], t [S], positions [3, S]."""
    offsets = torch.empty(count + 1, dtype=torch.int64, device=device)
    check(library().hge_march_count(byref(rays), offsets.data_ptr()))
    samples = int(offsets[-1])
    ray = torch.empty(samples, dtype=torch.int64, device=device)
    t, positions = torch.empty(samples, device=device), torch.empty(3, samples, device=device)
    status = library().hge_march_fill(
        byref(rays), offsets.data_ptr(), samples, ray.data_ptr(), t.data_ptr(), positions.data_ptr()
    )
    check(status)
    return offsets, ray, t, positions


def rays_problem(
    origins: Tensor, directions: Tensor, jitter: Tensor, occupied: Tensor, box: tuple, step: float
) -> Rays:
    """The struct; it points into the tensors, which must outlive it."""
    low, high = ((c_float * 3)(*corner) for corner in box)
    return Rays(
        origins.shape[0], origins.data_ptr(), directions.data_ptr(), jitter.data_ptr(), low, high,
        occupied.shape[0], occupied.data_ptr(), step, _threads(),
    )  # fmt: skip


def visible(
    offsets: Tensor, sigmas: Tensor, step: float, min_alpha: float, min_light: float
) -> Tensor:
    """bool [S]."""
    keep = torch.empty(sigmas.shape[0], dtype=torch.bool, device=sigmas.device)
    status = library().hge_visible(
        offsets.data_ptr(), offsets.shape[0] - 1, sigmas.data_ptr(), step, min_alpha, min_light,
        keep.data_ptr(),
        _threads(),
    )  # fmt: skip
    check(status)
    return keep


def composite(
    offsets: Tensor, sigmas: Tensor, colors: Tensor, t: Tensor, step: float
) -> tuple[Tensor, ...]:
    """weights [S], opacity [R], depth [R], rgb [R, 3]; colors [3, S]."""
    rays, samples = offsets.shape[0] - 1, sigmas.shape[0]
    outputs = (
        sigmas.new_empty(samples), sigmas.new_empty(rays), sigmas.new_empty(rays),
        sigmas.new_empty(rays, 3)
    )  # fmt: skip
    status = library().hge_composite(
        offsets.data_ptr(), rays, sigmas.data_ptr(), colors.data_ptr(), t.data_ptr(), step, samples,
        *(output.data_ptr() for output in outputs), _threads(),
    )  # fmt: skip
    check(status)
    return outputs


def composite_backward(
    offsets: Tensor,
    sigmas: Tensor,
    colors: Tensor,
    t: Tensor,
    step: float,
    weights: Tensor,
    grads: tuple[Tensor | None, ...],
) -> tuple[Tensor, Tensor]:
    """Gradients of sigmas [S] and colors [3, S], from those of the four results of `composite`."""
    out = torch.empty_like(sigmas), torch.empty_like(colors)
    kept = [None if grad is None else grad.contiguous() for grad in grads]
    status = library().hge_composite_backward(
        offsets.data_ptr(), offsets.shape[0] - 1, sigmas.data_ptr(), colors.data_ptr(),
        t.data_ptr(), step,
        sigmas.shape[0], weights.data_ptr(), *(_at(grad) for grad in kept),
        *(grad.data_ptr() for grad in out),
        _threads(),
    )  # fmt: skip
    check(status)
    return out


def check(status: int) -> None:
    """Raises what a status stands for: ValueError that names the argument, or RuntimeError."""
    if status in NONFINITE:
        raise ValueError(f"{NONFINITE[status]} contain NaN or infinity")
    if status:
        raise RuntimeError(MESSAGES[status])


def _grid(grid: HashGrid, on: int) -> Grid:
    resolutions, offsets = grid.as_arrays
    return Grid(grid.levels, on, resolutions, offsets)


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _threads() -> int:
    return torch.get_num_threads()
