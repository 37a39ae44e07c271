"""Do the tensors of a saved asset fit together? Asked before an asset takes them over."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def misfit_of(
    parameters: Any,
    adam: Any,
    statistics: Any,
    rows: Mapping[str, tuple[int | None, ...]],
) -> str | None:
    """What does not fit together in saved tensors of N rows each, Adam's entries for them and
    statistics of them.

    Args:
        rows: by name, the shape of one row of a parameter; None: any size.
    """
    for group in (parameters, adam, statistics):
        if not isinstance(group, Mapping):
            return "it lacks parameters, Adam's moments or statistics"
    if set(parameters) != set(rows):
        return (
            f"it holds {', '.join(map(str, parameters)) or 'no parameters'} instead of"
            f" {', '.join(rows)}"
        )
    count = None
    for name, row in rows.items():
        tensor = parameters[name]
        if (
            not isinstance(tensor, Tensor)
            or tensor.dtype != torch.float32
            or tensor.dim() != 1 + len(row)
        ):
            return f"{name} is no tensor of {1 + len(row)} dimensions and single precision"
        count = len(tensor) if count is None else count
        if len(tensor) != count or any(
            want not in (None, size) for want, size in zip(row, tensor.shape[1:], strict=True)
        ):
            return f"{name} is of shape {tuple(tensor.shape)}"
    if not count:
        return "it holds no rows"
    for name, entry in adam.items():
        if (
            name not in rows
            or not isinstance(entry, Mapping)
            or set(entry) != {"step", "exp_avg", "exp_avg_sq"}
        ):
            return f"Adam's entry for {name} is none"
        if any(
            entry[moment].shape != parameters[name].shape for moment in ("exp_avg", "exp_avg_sq")
        ):
            return f"Adam's moments of {name} are of another shape than it"
    for name, tensor in statistics.items():
        if not isinstance(tensor, Tensor) or tensor.dim() == 0 or len(tensor) != count:
            return f"the statistics {name} are not of {count} rows"
    return None
