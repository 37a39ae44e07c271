"""Samples along rays where something may be, and their compositing."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import native, reference
from .field import choose_backend, finite


class Box(NamedTuple):
    """Two corners of what is sampled, world coordinates."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


class Samples(NamedTuple):
    """S samples of R rays, ray by ray and front to back: those of ray r are offsets[r] .. offsets[r
    + 1] - 1."""

    offsets: Tensor  # [R+1] int64
    ray: Tensor  # [S] int64
    t: Tensor  # [S] distance along the ray: the middle of a step
    positions: Tensor  # [S,3] in units of the box, 0..1

    def keep(self, mask: Tensor) -> Samples:
        """Only those where bool [S] `mask` holds."""
        counted = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.cumsum(0)])
        chosen = mask.nonzero().squeeze(1)
        positions = (
            self.positions.t().index_select(1, chosen).t()
        )  # feature-major, as the native encoding wants it
        return Samples(counted[self.offsets], self.ray[chosen], self.t[chosen], positions)


class Composite(NamedTuple):
    """R rays: weights [S] are T (1 - exp(-sigma step)); the others sum them, colours and distances
    along each ray."""

    weights: Tensor  # [S]
    opacity: Tensor  # [R]
    depth: Tensor  # [R], not divided by the opacity
    rgb: Tensor  # [R,3], without a background


def march(
    origins: Tensor,
    directions: Tensor,
    occupied: Tensor,
    box: Box,
    step: float,
    jitter: Tensor,
    backend: str | None = None,
) -> Samples:
    """The steps of each ray that lie in the box and whose middle is in an occupied cell; no
    gradients.

    The middle of step i is at t = near + (i + jitter) step, where near is where the ray enters the
    box, or 0.

    Args:
        origins, directions: [R,3]; directions of unit length.
        occupied: bool [G,G,G], by x, y, z.
        jitter: [R], 0..1: random for stratified samples, .5 for none.

    Raises:
        ValueError: a shape, a step that is not positive or shorter than 2^-20 of the box, NaN or
            infinity.
    """
    if origins.dim() != 2 or origins.shape[1] != 3 or directions.shape != origins.shape:
        raise ValueError(
            f"origins and directions must be [R,3], got {list(origins.shape)},"
            f" {list(directions.shape)}"
        )
    if jitter.shape != origins.shape[:1]:
        raise ValueError(f"jitter must be [{origins.shape[0]}], got {list(jitter.shape)}")
    cells = occupied.shape[0] if occupied.dim() else 0
    if (
        occupied.dtype != torch.bool
        or occupied.shape != (cells, cells, cells)
        or not 1 <= cells <= 1024
    ):
        raise ValueError(
            f"occupied must be bool [G,G,G], G to 1024, got {occupied.dtype} {list(occupied.shape)}"
        )
    sides = [high - low for low, high in zip(*box, strict=True)]
    if not min(sides) > 0:
        raise ValueError(f"the box is empty: {box}")
    if not step > 0 or not max(sides) / step < 1 << 20:
        raise ValueError(f"step must be positive and not below 2^-20 of the box, got {step}")
    with torch.no_grad():
        if (
            choose_backend(backend, origins=origins, directions=directions, jitter=jitter)
            == "reference"
        ):
            if not all(finite(given) for given in (origins, directions, jitter)):
                raise ValueError("origins, directions or jitter contain NaN or infinity")
            low, high = (origins.new_tensor(corner) for corner in box)
            ray, t, positions = reference.march(
                origins, directions, jitter, occupied, low, high, step
            )
            return Samples(_offsets(ray, len(origins)), ray, t, positions)
        kept = [given.contiguous() for given in (origins, directions, jitter, occupied)]
        problem = native.rays_problem(*kept, tuple(box), step)
        offsets, ray, t, positions = native.march(problem, len(origins), origins.device)
        return Samples(offsets, ray, t, positions.t())


def visible(
    samples: Samples,
    sigmas: Tensor,
    step: float,
    min_alpha: float,
    min_light: float,
    backend: str | None = None,
) -> Tensor:
    """bool [S]: where alpha = 1 - exp(-sigma step) is at least `min_alpha`, and the light that gets
    there past the others of that kind at least `min_light`."""
    with torch.no_grad():
        if choose_backend(backend, sigmas=sigmas) == "reference":
            return reference.visible(samples.offsets, sigmas, step, min_alpha, min_light)
        return native.visible(samples.offsets, sigmas.contiguous(), step, min_alpha, min_light)


def composite(
    samples: Samples, sigmas: Tensor, colors: Tensor, step: float, backend: str | None = None
) -> Composite:
    """Alpha compositing of sigmas [S] and colors [S,3]; differentiable by both.

    Raises:
        ValueError: shapes that do not fit the samples.
    """
    count = samples.t.shape[0]
    if sigmas.shape != (count,) or colors.shape != (count, 3):
        raise ValueError(
            f"sigmas and colors must be [{count}] and [{count},3], got {list(sigmas.shape)} and"
            f" {list(colors.shape)}"
        )
    if choose_backend(backend, sigmas=sigmas, colors=colors) == "reference":
        return Composite(*reference.composite(samples.offsets, sigmas, colors, samples.t, step))
    return Composite(
        *_Composite.apply(sigmas.contiguous(), colors.t(), samples.offsets, samples.t, step)
    )


class _Composite(torch.autograd.Function):
    """sigmas [S], colors [3,S] -> weights, opacity, depth, rgb."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, sigmas: Tensor, colors: Tensor, offsets: Tensor, t: Tensor, step: float
    ) -> tuple[Tensor, ...]:
        colors = colors.contiguous()
        results = native.composite(offsets, sigmas, colors, t, step)
        ctx.step = step
        ctx.save_for_backward(sigmas, colors, offsets, t, results[0])
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        sigmas, colors, offsets, t, weights = ctx.saved_tensors
        grad_sigmas, grad_colors = native.composite_backward(
            offsets, sigmas, colors, t, ctx.step, weights, grads
        )
        return grad_sigmas, grad_colors, None, None, None


def _offsets(ray: Tensor, rays: int) -> Tensor:
    counts = torch.bincount(ray, minlength=rays)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
