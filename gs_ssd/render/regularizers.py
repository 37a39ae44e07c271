"""Floor 2: regularizers as pure functions, and the one backward that weighs them against the guidance.

Score distillation has no natural gradient scale: estimators differ by two orders of magnitude, and Adam hides it.
So by default a weight here is a *ratio*: the norm of the regularizer's gradient over the norm of the guidance's own,
measured each step where both meet (on the rendered pixels, or on a raw tensor). Multiplying the prior's output by
any factor then changes nothing. `units: absolute` gives plain weights, for LucidDreamer's recipe.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gs_ssd.bounds import Knots, NonNegative, settings
from gs_ssd.maths import anneal
from gs_ssd.render.renderer import RenderOutput, disparity
from gs_ssd.scene.gaussians import Gaussians

Weight = Knots[NonNegative]


@settings
class RegularizeConfig:
    """Weights as laws of progress: knots [share of the run, weight] joined by straight lines; empty is off."""

    units: Literal["ratio", "absolute"] = "ratio"
    tv_rgb: Weight = ()
    tv_disparity: Weight = ()
    binarize: Weight = ()
    """On alpha (1 - alpha): late in the run it turns haze into edges; a ratio near 1 halves the haze, far above 1 the
    object inflates."""
    scale: Weight = ()
    flat: Weight = ()
    """On the logarithm of each Gaussian's smallest scale: discs along the surface have sharper outlines than balls."""
    opacity: Weight = ()


def total_variation(image: Float[Tensor, "v c height width"]) -> Float[Tensor, ""]:
    """2 (mean squared vertical difference + mean squared horizontal difference)."""
    vertical = (image[:, :, 1:] - image[:, :, :-1]).square().mean()
    horizontal = (image[:, :, :, 1:] - image[:, :, :, :-1]).square().mean()
    return 2.0 * (vertical + horizontal)


def binarization(alpha: Float[Tensor, "v 1 height width"]) -> Float[Tensor, ""]:
    """Mean of alpha (1 - alpha): zero where pixels are empty or solid, at most 1/4."""
    return (alpha * (1.0 - alpha)).mean()


def image_terms(output: RenderOutput, tan_half_fov: Float[Tensor, "v 2"], active: Sequence[str]) -> dict[str, Tensor]:
    """The active terms that look at the pictures."""
    terms = {}
    if "tv_rgb" in active:
        terms["tv_rgb"] = total_variation(output.rgb)
    if "tv_disparity" in active:
        terms["tv_disparity"] = total_variation(disparity(output.depth, output.alpha, tan_half_fov))
    if "binarize" in active:
        terms["binarize"] = binarization(output.alpha)
    return terms


def parameter_terms(gaussians: Gaussians, active: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The active terms that look at one raw tensor, with that tensor."""
    terms = {}
    if "flat" in active:
        terms["flat"] = (gaussians.log_scales.amin(dim=-1).mean(), gaussians.log_scales)
    if "scale" in active:
        terms["scale"] = (gaussians.scales.mean(), gaussians.log_scales)
    if "opacity" in active:
        terms["opacity"] = (gaussians.opacities.mean(), gaussians.logit_opacities)
    return terms


def backward(
    guidance_loss: Float[Tensor, ""],
    output: RenderOutput,
    gaussians: Gaussians,
    tan_half_fov: Float[Tensor, "v 2"],
    config: RegularizeConfig,
    progress: float,
) -> dict[str, Tensor]:
    """Send the guidance's gradient and the regularizers' into the raw tensors; one pass through the rasterizer.

    The encoder's graph runs down to the pictures first. There the image terms are added, each scaled to its ratio of
    the guidance's norm over all pixels; the terms on raw tensors are added to their tensor's `.grad` afterwards.

    Returns:
        The value of each active term, detached.
    """
    weights = {name: anneal.piecewise(progress, getattr(config, name)) for name in _TERMS}
    active = [name for name, weight in weights.items() if weight != 0.0]
    pixels = (output.rgb, output.alpha, output.depth)
    total = _gradients(guidance_loss, pixels, retain_graph=False)  # the encoder's memory is free from here on
    reference = _norm(total)
    values: dict[str, Tensor] = {}
    # The terms' small graphs end at the pictures' leaves; the rasterizer's own graph must survive until the last line.
    for name, term in image_terms(output, tan_half_fov, active).items():
        gradients = _gradients(term, pixels, retain_graph=True)
        factor = weights[name]
        if config.units == "ratio":
            factor = factor * reference / _norm(gradients).clamp_min(1e-30)
        total = [sum_ + factor * gradient for sum_, gradient in zip(total, gradients, strict=True)]
        values[name] = term.detach()
    torch.autograd.backward(pixels, total)
    for name, (term, tensor) in parameter_terms(gaussians, active).items():
        (gradient,) = torch.autograd.grad(term, tensor)
        guided = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        factor = weights[name]
        if config.units == "ratio":
            factor = factor * guided.norm() / gradient.norm().clamp_min(1e-30)
        tensor.grad = guided + factor * gradient
        values[name] = term.detach()
    return values


_TERMS = tuple(field.name for field in dataclasses.fields(RegularizeConfig) if field.name != "units")


def _gradients(value: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool) -> list[Tensor]:
    found = torch.autograd.grad(value, inputs, retain_graph=retain_graph, allow_unused=True)
    return [torch.zeros_like(at) if gradient is None else gradient for at, gradient in zip(inputs, found, strict=True)]


def _norm(gradients: Sequence[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
