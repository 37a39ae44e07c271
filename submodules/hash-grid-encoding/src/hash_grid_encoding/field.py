"""The hash grid and the perceptron joined to autograd, twice differentiable.

Inside, arrays over points are feature-major, [features, N]; what is returned is the transposed
view. Handed on to the next function here, it is not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """relu(inputs w1^T) w2^T: inputs [N,I], w1 [H,I], w2 [O,H] -> [N,O]. See `mlps`."""
    return mlps(inputs, [(w1, w2)], backend)[0]


def mlps(
    inputs: Tensor, heads: Sequence[tuple[Tensor, Tensor]], backend: str | None = None
) -> tuple[Tensor, ...]:
    """Perceptrons of the same inputs [N,I], in one go: relu(inputs w1^T) w2^T [N,O] for w1 [H,I]
    and w2 [O,H] of each head.

    The native backend takes I up to 64, and up to 8 heads with H up to 256, in multiples of 8, and
    O up to 16, of all together. Twice differentiable; through the gradients of the weights (not of
    the inputs) only once.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: dtypes that do not go together.
    """
    weights = [tensor for head in heads for tensor in head]
    if not heads or any(tensor.dim() != 2 for tensor in (inputs, *weights)):
        raise ValueError("inputs, w1 and w2 must be matrices, and heads at least one")
    for w1, w2 in heads:
        if inputs.shape[1] != w1.shape[1] or w1.shape[0] != w2.shape[1]:
            raise ValueError(
                f"inputs {list(inputs.shape)}, w1 {list(w1.shape)} and w2 {list(w2.shape)} must be"
                " [N,I], [H,I] and [O,H]"
            )
    names = [f"{name}[{index}]" for index in range(len(heads)) for name in ("w1", "w2")]
    tensors = {"inputs": inputs, **dict(zip(names, weights, strict=True))}
    if choose_backend(backend, **tensors) == "reference":
        return tuple(reference.mlp(inputs, w1, w2) for w1, w2 in heads)
    hidden, width = [w1.shape[0] for w1, _ in heads], inputs.shape[1]
    if len(heads) > native.MAX_HEADS:
        raise ValueError(
            f"{len(heads)} heads: the native backend takes up to {native.MAX_HEADS}; call it twice"
        )
    if not 1 <= width <= native.MAX_INPUTS or any(h < 8 or h % 8 for h in hidden):
        raise ValueError(
            f"w1 {[list(w1.shape) for w1, _ in heads]}: the native backend takes 1 to"
            f" {native.MAX_INPUTS} inputs and hidden units a multiple of 8; pass"
            " backend='reference' for others"
        )
    outputs = [w2.shape[0] for _, w2 in heads]
    if sum(hidden) > native.MAX_HIDDEN or min(outputs) < 1 or sum(outputs) > native.MAX_OUTPUTS:
        raise ValueError(
            f"w2 {[list(w2.shape) for _, w2 in heads]}: the native backend takes up to"
            f" {native.MAX_HIDDEN} hidden units and 1 to {native.MAX_OUTPUTS} outputs, of all heads"
            " together; pass backend='reference' for others"
        )
    weights = [tensor.contiguous() for tensor in weights]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (inputs, *weights))
    return tuple(out.t() for out in _Mlps.apply(keep, _turned(inputs), *weights))


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


class _Mlps(torch.autograd.Function):
    """inputs [I,N], and w1, w2 of each head -> [O,N] of each.

    Which hidden units are on is kept for the way back, a bit for each, and not worked out anew."""

    @staticmethod
    def forward(ctx: Any, keep: bool, inputs: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        wanted = {"out", "on_out"} if keep else {"out"}
        heads = [native.MlpHead(*pair, wanted) for pair in _pairs(weights)]
        _, found = native.mlp(heads, inputs, False)
        ctx.save_for_backward(inputs, *weights, *(one["on_out"] for one in found if keep))
        ctx.set_materialize_grads(False)
        return tuple(one["out"] for one in found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *_MlpsBackward.apply(ctx.needs_input_grad[1:], *ctx.saved_tensors, *grads)


class _MlpsBackward(torch.autograd.Function):
    """inputs [I,N]; w1, w2 of each head; where each is on; gradients [O,N] of each -> those of the
    inputs and the weights. A head whose gradient is None takes no part.

    Through ReLU, which has no curvature, that of the inputs does not depend on them."""

    @staticmethod
    def forward(
        ctx: Any, wanted: Sequence[bool], inputs: Tensor, *others: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        count = (len(wanted) - 1) // 2
        grads = (None if g is None else native.feature_major(g) for g in others[3 * count :])
        others = (*others[: 3 * count], *grads)
        ctx.save_for_backward(inputs, *others)
        ctx.set_materialize_grads(False)
        heads = _heads(others, wanted[1:], [False] * count)
        grad_x, found = native.mlp(heads, inputs, wanted[0])
        return grad_x, *(one.get(name) for one in found for name in ("grad_w1", "grad_w2"))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, u: Tensor | None, *of_weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if any(grad is not None for grad in of_weights):
            raise NotImplementedError(
                "the native perceptron's weight gradients cannot be differentiated; pass"
                " backend='reference'"
            )
        others = ctx.saved_tensors[1:]
        count = len(of_weights) // 2
        if u is None:
            return None, None, *(None for _ in others)
        needs = ctx.needs_input_grad[2:]
        heads = _heads(others, needs[: 2 * count], needs[3 * count :])
        _, found = native.mlp(heads, u.contiguous(), False)
        return (
            None,
            None,
            *(one.get(name) for one in found for name in ("grad_w1", "grad_w2")),
            *(None for _ in found),
            *(one.get("out") for one in found),
        )


def _pairs(tensors: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _heads(
    tensors: Sequence[Tensor | None], of_weights: Sequence[bool], of_grads: Sequence[bool]
) -> list[native.MlpHead]:
    """Heads on the way back: what `_MlpsBackward` takes, of which weights a gradient is wanted, and
    of which of the gradients."""
    count = len(of_grads)
    weights, on, grads = (
        tensors[: 2 * count], tensors[2 * count : 3 * count], tensors[3 * count :]
    )  # fmt: skip
    heads = []
    for pair, where, grad, (want_w1, want_w2), want_out in zip(
        _pairs(weights), on, grads, _pairs(of_weights), of_grads, strict=True
    ):
        wanted = {"out": want_out, "grad_w1": want_w1, "grad_w2": want_w2}
        names = [name for name, want in wanted.items() if want] if grad is not None else []
        heads.append(native.MlpHead(*pair, names, where, grad))
    return heads
