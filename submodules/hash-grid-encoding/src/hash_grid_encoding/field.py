"""The hash grid and the perceptron joined to autograd, twice differentiable.

Inside, arrays over points are feature-major, [features, N]; what is returned is the transposed
view. Handed on to the next function here, it is not copied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import native, reference
from .grid import HashGrid


def encode(
    points: Tensor,
    tables: Tensor,
    grid: HashGrid,
    levels_on: int | None = None,
    backend: str | None = None,
) -> Tensor:
    """Features [N, 2L] of points [N,3] in the unit cube.

    A point outside is clamped to the cube, and has no gradient along the clamped axes.

    Args:
        tables: [grid.num_entries, 2].
        levels_on: only that many of the coarsest levels; the others give 0 and get no gradient.
        backend: "native" (float32 on the CPU) or "reference" (any); by default the native one where
            it can.

    Twice differentiable: by `points` and `tables`, and their gradients by all of theirs. Gradients
    have the same bits for every number of threads.

    Raises:
        ValueError: a shape, a number of levels, or NaN or infinity in `points`.
        TypeError: dtypes that do not go together.
    """
    on = grid.levels if levels_on is None else levels_on
    if points.dim() != 2 or points.shape[1] != 3:
        raise ValueError(f"points must be [N,3], got {list(points.shape)}")
    if tables.shape != (grid.num_entries, 2):
        raise ValueError(
            f"tables must be [{grid.num_entries},2] for this grid, got {list(tables.shape)}"
        )
    if not 0 <= on <= grid.levels:
        raise ValueError(f"levels_on must be 0 to {grid.levels}, got {on}")
    if choose_backend(backend, points=points, tables=tables) == "reference":
        if not finite(points):
            raise ValueError("points contain NaN or infinity")
        return reference.encode(points, tables, grid, on)
    # Made contiguous out here: what is saved must be the input itself, for the second derivative to
    # find its way.
    return _Encode.apply(_turned(points), tables.contiguous(), grid, on).t()


def mlp(inputs: Tensor, w1: Tensor, w2: Tensor, backend: str | None = None) -> Tensor:
    """relu(inputs w1^T) w2^T: inputs [N,I], w1 [H,I], w2 [O,H] -> [N,O].

    The native backend takes I up to 64, H up to 128 in multiples of 8, O up to 16. Twice
    differentiable; through the gradients of the weights (not of the inputs) only once.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: dtypes that do not go together.
    """
    if inputs.dim() != 2 or w1.dim() != 2 or w2.dim() != 2:
        raise ValueError("inputs, w1 and w2 must be matrices")
    if inputs.shape[1] != w1.shape[1] or w1.shape[0] != w2.shape[1]:
        raise ValueError(
            f"inputs {list(inputs.shape)}, w1 {list(w1.shape)} and w2 {list(w2.shape)} must be"
            " [N,I], [H,I] and [O,H]"
        )
    if choose_backend(backend, inputs=inputs, w1=w1, w2=w2) == "reference":
        return reference.mlp(inputs, w1, w2)
    hidden, width = w1.shape
    if not (
        1 <= width <= native.MAX_INPUTS and 8 <= hidden <= native.MAX_HIDDEN and hidden % 8 == 0
    ):
        raise ValueError(
            f"w1 {list(w1.shape)}: the native backend takes 1 to {native.MAX_INPUTS} inputs and 8"
            f" to {native.MAX_HIDDEN} hidden units, a multiple of 8; pass backend='reference' for"
            " others"
        )
    if not 1 <= w2.shape[0] <= native.MAX_OUTPUTS:
        raise ValueError(
            f"w2 {list(w2.shape)}: the native backend takes 1 to {native.MAX_OUTPUTS} outputs"
        )
    return _Mlp.apply(_turned(inputs), w1.contiguous(), w2.contiguous()).t()


def choose_backend(name: str | None, **tensors: Tensor) -> str:
    """ "native" or "reference"; the first where all tensors are float32 on the CPU, or `name`."""
    if name not in (None, "native", "reference"):
        raise ValueError(f"backend must be 'native', 'reference' or None, got {name!r}")
    kinds = {(tensor.device, tensor.dtype) for tensor in tensors.values()}
    if len(kinds) > 1:
        raise TypeError(
            f"{', '.join(tensors)} must have one device and dtype, got {sorted(map(str, kinds))}"
        )
    ((device, dtype),) = kinds
    can = device.type == "cpu" and dtype == torch.float32
    if name == "native" and not can:
        raise TypeError(f"the native backend takes float32 on the CPU, got {dtype} on {device}")
    return name or ("native" if can else "reference")


def finite(tensor: Tensor) -> bool:
    """Whether no NaN or infinity is in it; not asked in a compiled graph, which it would break, nor
    of tensors without values."""
    if torch.compiler.is_compiling() or tensor.is_meta:
        return True
    return bool(tensor.isfinite().all())


def _turned(rows: Tensor) -> Tensor:
    """[N,F] -> [F,N], contiguous."""
    columns = rows.t()
    return columns if columns.is_contiguous() else _Turn.apply(columns)


class _Turn(torch.autograd.Function):
    """[F,N] -> the same values, contiguous; torch's own copy of points takes four times as long."""

    @staticmethod
    def forward(_ctx: Any, columns: Tensor) -> Tensor:
        return native.feature_major(columns)

    @staticmethod
    def backward(_ctx: Any, grads: Tensor) -> Tensor:
        return grads


class _Encode(torch.autograd.Function):
    """points [3,N], tables -> features [2L,N]."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, tables: Tensor, grid: HashGrid, on: int) -> Tensor:
        ctx.grid, ctx.on = grid, on
        ctx.save_for_backward(points, tables)
        return native.encode(grid, on, tables, points, None)

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        points, tables = ctx.saved_tensors
        grad_points = grad_tables = None
        if ctx.needs_input_grad[0]:
            grad_points = _Pull.apply(points, tables, grads, ctx.grid, ctx.on)
        if ctx.needs_input_grad[1]:
            grad_tables = _Scatter.apply(points, grads, ctx.grid, ctx.on)
        return grad_points, grad_tables, None, None


class _Scatter(torch.autograd.Function):
    """points [3,N], grads [2L,N] -> gradient of the tables: linear in grads, the transpose of
    encoding."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, grads: Tensor, grid: HashGrid, on: int) -> Tensor:
        ctx.grid, ctx.on = grid, on
        ctx.save_for_backward(points, grads)
        return native.scatter(grid, on, points, None, grads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        # u . scatter(grads) = grads . encode(u)
        points, grads = ctx.saved_tensors
        u = u.contiguous()
        grad_points = (
            native.pull(ctx.grid, ctx.on, u, points, None, native.feature_major(grads))
            if ctx.needs_input_grad[0]
            else None
        )
        grad_grads = (
            native.encode(ctx.grid, ctx.on, u, points, None) if ctx.needs_input_grad[1] else None
        )
        return grad_points, grad_grads, None, None


class _Pull(torch.autograd.Function):
    """points [3,N], tables, grads [2L,N] -> gradient [3,N] of sum(grads * features) by the
    points."""

    @staticmethod
    def forward(
        ctx: Any, points: Tensor, tables: Tensor, grads: Tensor, grid: HashGrid, on: int
    ) -> Tensor:
        grads = native.feature_major(grads)
        ctx.grid, ctx.on = grid, on
        ctx.save_for_backward(points, tables, grads)
        return native.pull(grid, on, tables, points, None, grads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, along: Tensor) -> tuple[Tensor | None, ...]:
        points, tables, grads = ctx.saved_tensors
        along = along.contiguous()
        grid, on = ctx.grid, ctx.on
        wanted = ctx.needs_input_grad
        grad_points = native.pull(grid, on, tables, points, along, grads) if wanted[0] else None
        grad_tables = native.scatter(grid, on, points, along, grads) if wanted[1] else None
        grad_grads = native.encode(grid, on, tables, points, along) if wanted[2] else None
        return grad_points, grad_tables, grad_grads, None, None


class _Mlp(torch.autograd.Function):
    """inputs [I,N], w1, w2 -> [O,N]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, w1, w2)
        return native.mlp(w1, w2, inputs, inputs, None, frozenset({"out"}))["out"]

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        return _MlpBackward.apply(*ctx.saved_tensors, grad_out, ctx.needs_input_grad)


class _MlpBackward(torch.autograd.Function):
    """inputs [I,N], w1, w2, grad_out [O,N] -> gradients of the first three.

    Through ReLU, which has no curvature, that of the inputs does not depend on them."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, inputs: Tensor, w1: Tensor, w2: Tensor, grad_out: Tensor, wanted: tuple[bool, ...]
    ) -> tuple[Tensor | None, ...]:
        grad_out = native.feature_major(grad_out)
        ctx.save_for_backward(inputs, w1, w2, grad_out)
        ctx.set_materialize_grads(False)
        names = [
            name
            for name, want in zip(("grad_x", "grad_w1", "grad_w2"), wanted, strict=True)
            if want
        ]
        found = native.mlp(w1, w2, inputs, inputs, grad_out, frozenset(names))
        return found.get("grad_x"), found.get("grad_w1"), found.get("grad_w2")

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, u: Tensor | None, u1: Tensor | None, u2: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if u1 is not None or u2 is not None:
            raise NotImplementedError(
                "the native perceptron's weight gradients cannot be differentiated; pass"
                " backend='reference'"
            )
        if u is None:
            return None, None, None, None, None
        inputs, w1, w2, grad_out = ctx.saved_tensors
        names = ("grad_w1", "grad_w2", "out")
        wanted = frozenset(
            name for name, want in zip(names, ctx.needs_input_grad[1:4], strict=True) if want
        )
        found = native.mlp(w1, w2, inputs, u.contiguous(), grad_out, wanted)
        return None, found.get("grad_w1"), found.get("grad_w2"), found.get("out"), None
