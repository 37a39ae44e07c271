"""Checks of the arguments and the call into the shared library."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

MAX_NEIGHBOURS = 64


def mean_squared_distance(points: torch.Tensor, k: int = 3) -> torch.Tensor:
    """Mean of the squared distances from each point to its ``k`` nearest other points.

    ``points`` is [N,3], float32, finite, on any device, of any strides; the result is [N], float32,
    on the same device, without a gradient. The search runs on the CPU with
    ``torch.get_num_threads()`` threads, and a tensor that lives elsewhere is copied there and back.
    A point's duplicates are its neighbours at distance 0. With fewer than ``k`` other points the
    mean is over those that exist; a single point gets 0.

    The result is bit for bit that of a brute-force float32 search, whatever the number of threads.

    Raises TypeError or ValueError, naming the argument.
    """
    if not isinstance(points, torch.Tensor):
        raise TypeError(
            f"points: a torch.Tensor of shape [N,3] is needed, got {type(points).__name__}"
        )
    if points.dtype != torch.float32:
        raise TypeError(f"points: float32 is needed, got {points.dtype}; pass points.float()")
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points: shape [N,3] is needed, got {list(points.shape)}")
    if isinstance(k, bool) or not isinstance(k, int):
        raise TypeError(f"k: an int is needed, got {type(k).__name__}")
    if not 1 <= k <= MAX_NEIGHBOURS:
        raise ValueError(f"k: 1 to {MAX_NEIGHBOURS} is possible, got {k}")
    host = points.detach().cpu().contiguous()
    if not torch.isfinite(host).all():
        rows = torch.nonzero(~torch.isfinite(host).all(dim=1)).flatten()
        raise ValueError(
            f"points: NaN or infinity in {len(rows)} rows, the first is row {rows[0].item()}"
        )
    out = torch.empty(len(host), dtype=torch.float32)
    status = _library().knn_mean_squared_distance(
        host.data_ptr(), len(host), k, max(1, torch.get_num_threads()), out.data_ptr()
    )
    if status != 0:
        raise MemoryError(f"points: not enough memory for a search among {len(host)} points")
    return out.to(points.device)


@functools.cache
def _library() -> ctypes.CDLL:
    path = next(Path(__file__).parent.glob("libsimple_knn.*"), None)
    if path is None:
        raise ImportError(
            f"the compiled half of simple_knn is missing beside {__file__}; install the package"
            " with `pip install ./submodules/simple-knn` instead of importing it from its source"
            " folder"
        )
    library = ctypes.CDLL(str(path))
    function = library.knn_mean_squared_distance
    function.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int32,
        ctypes.c_int32,
        ctypes.c_void_p,
    ]
    function.restype = ctypes.c_int
    return library
