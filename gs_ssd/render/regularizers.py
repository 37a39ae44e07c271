"""Regularizers as pure functions, and the one backward that weighs them against the guidance.

Score distillation has no natural gradient scale: estimators differ by two orders of magnitude, and
Adam hides it. So by default a weight here is a *ratio*: the norm of the regularizer's gradient over
the norm of the guidance's own, measured each step where both meet (on the rendered pixels, or on a
raw tensor). Multiplying the prior's output by any factor then changes nothing. `units: absolute`
gives plain weights, for LucidDreamer's recipe.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gs_ssd.bounds import Knots, NonNegative, settings
from gs_ssd.maths import anneal
from gs_ssd.render.output import RenderOutput, disparity

Weight = Knots[NonNegative]


@settings
class RegularizeConfig:
    """Weights as laws of progress: knots [share of the run, weight] joined by straight lines; empty
    is off."""

    units: Literal["ratio", "absolute"] = "ratio"
    tv_rgb: Weight = ()
    tv_disparity: Weight = ()
    binarize: Weight = ()
    """On alpha (1 - alpha): late in the run it turns haze into edges; a ratio near 1 halves the
    haze, far above 1 the object inflates."""
    sparsity: Weight = ()
    """On sqrt(alpha^2 + .01) (threestudio): the least where nothing is."""
    opaque: Weight = ()
    """On the entropy of alpha (threestudio): 0 where pixels are empty or solid."""
    scale: Weight = ()
    flat: Weight = ()
    """On the logarithm of each Gaussian's smallest scale: discs along the surface have sharper
    outlines than balls."""
    opacity: Weight = ()


def total_variation(image: Float[Tensor, "v c height width"]) -> Float[Tensor, ""]:
    """2 (mean squared vertical difference + mean squared horizontal difference)."""
    vertical = (image[:, :, 1:] - image[:, :, :-1]).square().mean()
    horizontal = (image[:, :, :, 1:] - image[:, :, :, :-1]).square().mean()
    return 2.0 * (vertical + horizontal)


def binarization(alpha: Float[Tensor, "v 1 height width"]) -> Float[Tensor, ""]:
    """Mean of alpha (1 - alpha): zero where pixels are empty or solid, at most 1/4."""
    return (alpha * (1.0 - alpha)).mean()


def sparsity(alpha: Float[Tensor, "v 1 height width"]) -> Float[Tensor, ""]:
    """Mean of sqrt(alpha^2 + .01)."""
    return (alpha.square() + 0.01).sqrt().mean()


def opaque(alpha: Float[Tensor, "v 1 height width"]) -> Float[Tensor, ""]:
    """Mean entropy of alpha clamped to .001 .. .999, in nats."""
    held = alpha.clamp(1e-3, 1 - 1e-3)
    return functional.binary_cross_entropy(held, held)


def image_terms(
    output: RenderOutput, tan_half_fov: Float[Tensor, "v 2"], active: Sequence[str]
) -> dict[str, Tensor]:
    """The active terms that look at the pictures."""
    terms = {}
    if "tv_rgb" in active:
        terms["tv_rgb"] = total_variation(output.rgb)
    if "tv_disparity" in active:
        terms["tv_disparity"] = total_variation(disparity(output.depth, output.alpha, tan_half_fov))
    if "binarize" in active:
        terms["binarize"] = binarization(output.alpha)
    if "sparsity" in active:
        terms["sparsity"] = sparsity(output.alpha)
    if "opaque" in active:
        terms["opaque"] = opaque(output.alpha)
    return terms


@dataclasses.dataclass(frozen=True)
class Term:
    """A regularizer of one representation: `weight` times `value`, whose gradient is taken at
    `tensors`.

    `tensors` are trained leaves. As a ratio, the weight compares the term's gradient there with the
    guidance's. `value` may depend on the rendering's graph (ray weights, normals) and on the
    cameras.
    """

    name: str
    value: Float[Tensor, ""]
    weight: float
    tensors: tuple[Tensor, ...]


def weight_at(config: RegularizeConfig, name: str, progress: float) -> float:
    """The weight of a term of the config at this share of the run; 0: off."""
    return anneal.piecewise(progress, getattr(config, name))


def backward(
    guidance_loss: Float[Tensor, ""],
    output: RenderOutput,
    tan_half_fov: Float[Tensor, "v 2"],
    config: RegularizeConfig,
    progress: float,
    terms: Sequence[Term] = (),
) -> dict[str, Tensor]:
    """Send the guidance's gradient and the regularizers' into the trained tensors; one pass through
    the renderer.

    The encoder's graph runs down to the pictures first. There the image terms are added, each
    scaled to its ratio of the guidance's norm over all pixels; the asset's own `terms` are added to
    their tensors' `.grad` afterwards.

    Returns:
        The value of each active term, detached.
    """
    weights = {name: weight_at(config, name, progress) for name in IMAGE_TERMS}
    active = [name for name, weight in weights.items() if weight != 0.0]
    pixels = (output.rgb, output.alpha, output.depth)
    guidance = _gradients(
        guidance_loss, pixels, retain_graph=False
    )  # the encoder's memory is free from here on
    reference = _norm(guidance)
    added = [torch.zeros_like(gradient) for gradient in guidance]
    values: dict[str, Tensor] = {}
    # The terms' small graphs end at the pictures' leaves; the renderer's own graph must survive
    # until the backward.
    for name, term in image_terms(output, tan_half_fov, active).items():
        gradients = _gradients(term, pixels, retain_graph=True)
        factor = weights[name]
        if config.units == "ratio":
            factor = factor * reference / _norm(gradients).clamp_min(1e-30)
        added = [sum_ + factor * gradient for sum_, gradient in zip(added, gradients, strict=True)]
        values[name] = term.detach()
    own = [_gradients(term.value, term.tensors, retain_graph=True) for term in terms]
    guided = _backward_of_pictures(pixels, guidance, added if active else None, config, terms)
    for term, gradients, alone in zip(terms, own, guided, strict=True):
        factor = term.weight
        if config.units == "ratio":
            factor = factor * alone / _length(gradients).clamp_min(1e-30)
        for tensor, gradient in zip(term.tensors, gradients, strict=True):
            tensor.grad = (
                factor * gradient if tensor.grad is None else tensor.grad + factor * gradient
            )
        values[term.name] = term.value.detach()
    return values


def _backward_of_pictures(
    pixels: Sequence[Tensor],
    guidance: Sequence[Tensor],
    added: Sequence[Tensor] | None,
    config: RegularizeConfig,
    terms: Sequence[Term],
) -> list[Float[Tensor, ""]]:
    """Send the pictures' gradients through the renderer.

    Returns the norm of the guidance's own gradient at each term's tensors.

    A ratio is to the guidance alone. So where image terms are active beside terms of the asset in
    units of ratio, the renderer runs backward twice: once for the guidance, whose norms are then
    read, and once for the image terms.
    """
    apart = added is not None and bool(terms) and config.units == "ratio"
    if added is not None and not apart:
        guidance = [one + other for one, other in zip(guidance, added, strict=True)]
    torch.autograd.backward(pixels, guidance, retain_graph=apart)
    norms = [
        _length([torch.zeros_like(at) if at.grad is None else at.grad for at in term.tensors])
        for term in terms
    ]
    if apart:
        torch.autograd.backward(pixels, added)
    return norms


IMAGE_TERMS = ("tv_rgb", "tv_disparity", "binarize", "sparsity", "opaque")


def _gradients(value: Tensor, inputs: Sequence[Tensor], *, retain_graph: bool) -> list[Tensor]:
    found = torch.autograd.grad(value, inputs, retain_graph=retain_graph, allow_unused=True)
    return [
        torch.zeros_like(at) if gradient is None else gradient
        for at, gradient in zip(inputs, found, strict=True)
    ]


def _norm(gradients: Sequence[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()


def _length(gradients: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The norm over all of them, from the norm of each: squares of tiny gradients would underflow
    in float32."""
    norms = [gradient.norm() for gradient in gradients]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()
