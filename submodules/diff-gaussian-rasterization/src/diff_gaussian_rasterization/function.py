"""Joins a native backend to autograd, and chooses the backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import native, reference
from .problem import Cameras, Options, Splats, check_cameras

BACKENDS = ("cpu", "cuda", "reference")


class Rendering(NamedTuple):
    """What `render` returns."""

    rgb: Tensor  # [V,3,H,W]
    alpha: Tensor  # [V,H,W]
    depth: Tensor  # [V,H,W]
    transmittance: Tensor  # [V,H,W]
    radii: Tensor  # [V,N] int32


class _Rasterize(torch.autograd.Function):
    """The native forward and backward pass; the tensors come first so that autograd sees them."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        cameras: Cameras,
        options: Options,
        _screen_means: Tensor | None,
        *fields: Tensor | None,
    ) -> tuple[Tensor, ...]:
        splats = Splats(**dict(zip(native.SPLAT_FIELDS, fields, strict=True)))  # type: ignore[arg-type]
        result = native.forward(splats, cameras, options)
        ctx.options, ctx.pairs = options, result.pairs
        # The cameras too, which get no gradient: torch then raises where one was changed in place
        # before backward.
        seen_from = (getattr(cameras, name) for name in native.CAMERA_FIELDS)
        ctx.save_for_backward(
            result.transmittance, result.geometry, result.binning, *fields, *seen_from
        )
        ctx.mark_non_differentiable(result.radii)
        ctx.set_materialize_grads(False)
        return result.rgb, result.alpha, result.depth, result.transmittance, result.radii

    @staticmethod
    def backward(ctx: Any, *image_grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        transmittance, geometry, binning, *saved = ctx.saved_tensors
        saved = dict(zip((*native.SPLAT_FIELDS, *native.CAMERA_FIELDS), saved, strict=True))
        splats = Splats(**{name: saved[name] for name in native.SPLAT_FIELDS})
        cameras = Cameras(**{name: saved[name] for name in native.CAMERA_FIELDS})
        names = (None, None, "screen_means", *native.SPLAT_FIELDS)
        wanted = {
            name
            for name, needed in zip(names, ctx.needs_input_grad, strict=True)
            if name and needed
        }
        result = native.Kept(transmittance, geometry, binning, ctx.pairs)
        with torch.no_grad():
            incoming = dict(
                zip(("rgb", "alpha", "depth", "transmittance"), image_grads, strict=False)
            )
            grads = native.backward(splats, cameras, ctx.options, result, incoming, wanted)
        if (
            torch.is_grad_enabled()
        ):  # the caller wants to differentiate the gradient (create_graph=True)
            anchor = torch.zeros((), device=splats.means.device, requires_grad=True)
            grads = dict(zip(grads, _Once.apply(anchor, *grads.values()), strict=True))
        return tuple(grads.get(name) if name else None for name in names)


class _Once(torch.autograd.Function):
    """Gradients that raise where they are differentiated: they are constants to autograd, and a
    penalty on them would silently have no gradient. (torch's once_differentiable raises only where
    the incoming gradient needs a gradient, which that of a picture's sum does not.)"""

    @staticmethod
    def forward(_ctx: Any, _anchor: Tensor, *grads: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(grad.view_as(grad) for grad in grads)

    @staticmethod
    def backward(_ctx: Any, *_grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        raise RuntimeError(
            "the rasterizer's gradient cannot be differentiated again: its native backward pass has"
            " no second derivative; use render_views(..., backend='reference'), which has one, or"
            " leave the penalty out"
        )


def choose_backend(name: str | None, means: Tensor) -> str:
    """`name`, or the native backend of the device where it is None."""
    if name is None:
        name = means.device.type
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or None, got {name!r}")
    if name == "reference":
        return name
    if name != means.device.type:
        raise ValueError(f"backend={name!r} was asked for but means is on {means.device}")
    if means.dtype != torch.float32:
        raise TypeError(
            f"means is {means.dtype}: native backends take float32; pass backend='reference' for"
            " float64"
        )
    return name


def render(
    splats: Splats,
    cameras: Cameras,
    options: Options,
    screen_means: Tensor | None,
    backend: str | None,
) -> Rendering:
    """Renders inputs of checked shapes with the chosen backend; the tensors of `cameras` are
    detached and contiguous.

    Raises ValueError that names the field with NaN or infinity.
    """
    backend = choose_backend(backend, splats.means)
    if backend == "reference":  # the native backends look themselves
        check_cameras(cameras)
        rgb, depth, transmittance, radii = reference.render(splats, cameras, options, screen_means)
        return Rendering(rgb, 1 - transmittance, depth, transmittance, radii)
    fields = (getattr(splats, name) for name in native.SPLAT_FIELDS)
    contiguous = (None if field is None else field.contiguous() for field in fields)
    return Rendering(*_Rasterize.apply(cameras, options, screen_means, *contiguous))
