"""The one backward: exact sums, ratios that follow the guidance's scale, and what each term
wants."""

import dataclasses
import math

import pytest
import torch

from gs_ssd.assets.splat.regularizers import parameter_terms
from gs_ssd.render import regularizers
from gs_ssd.render.regularizers import RegularizeConfig
from gs_ssd.render.renderer import render
from gs_ssd.scene import camera, initialize
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.initialize import InitializeConfig

VIEWS = camera.ring(2, math.pi / 2, 3.0, 0.6, 24)


@pytest.fixture
def splat() -> Gaussians:
    config = InitializeConfig(shape="ball", num_points=60, scale=0.1, opacity=0.3)
    gaussians = initialize.create(config, torch.Generator().manual_seed(0))
    gaussians.log_scales += torch.tensor([0.0, 0.5, -0.5])  # round ones do not feel their rotation
    return gaussians.requires_grad_()


def gradients(
    splat: Gaussians, config: RegularizeConfig, factor: float = 1.0
) -> dict[str, torch.Tensor]:
    """The raw tensors' gradients under a guidance that wants the left half darker."""
    for tensor in splat.parameters().values():
        tensor.grad = None
    output = render(splat, VIEWS, torch.ones(2, 3))
    weight = torch.linspace(1, 0, 24).expand(2, 3, 24, 24)
    terms = parameter_terms(splat, config, 0.5)
    regularizers.backward(
        (factor * output.rgb * weight).sum(), output, VIEWS.tan_half_fov, config, 0.5, terms
    )
    return {
        name: tensor.grad.clone() for name, tensor in splat.parameters().items() if tensor.numel()
    }


ALL_ON = dict.fromkeys(
    ("tv_rgb", "tv_disparity", "binarize", "sparsity", "opaque", "scale", "flat", "opacity"),
    ((0.0, 0.5),),
)


def test_without_terms_it_is_the_plain_backward(splat):
    found = gradients(splat, RegularizeConfig())
    for tensor in splat.parameters().values():
        tensor.grad = None
    output = render(splat, VIEWS, torch.ones(2, 3))
    (output.rgb * torch.linspace(1, 0, 24).expand(2, 3, 24, 24)).sum().backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, getattr(splat, name).grad)


def test_absolute_weights_are_one_summed_loss(splat):
    config = RegularizeConfig(units="absolute", **ALL_ON)
    found = gradients(splat, config)
    for tensor in splat.parameters().values():
        tensor.grad = None
    output = render(splat, VIEWS, torch.ones(2, 3))
    loss = (output.rgb * torch.linspace(1, 0, 24).expand(2, 3, 24, 24)).sum()
    terms = regularizers.image_terms(output, VIEWS.tan_half_fov, list(ALL_ON))
    flat = splat.log_scales.amin(dim=-1).mean()
    loss = loss + 0.5 * (sum(terms.values()) + splat.scales.mean() + flat + splat.opacities.mean())
    loss.backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, getattr(splat, name).grad, atol=1e-6, rtol=1e-4)


def test_ratios_follow_the_scale_of_the_guidance(splat):
    config = RegularizeConfig(**ALL_ON)
    small, large = gradients(splat, config, 1.0), gradients(splat, config, 1000.0)
    for name in small:
        size = large[name].abs().max().item()
        torch.testing.assert_close(1000 * small[name], large[name], rtol=1e-3, atol=1e-3 * size)


def test_a_ratio_is_a_ratio_of_norms(splat):
    plain = gradients(splat, RegularizeConfig())["logit_opacities"]
    pushed = gradients(splat, RegularizeConfig(opacity=((0.0, 0.25),)))["logit_opacities"]
    assert ((pushed - plain).norm() / plain.norm()).item() == pytest.approx(0.25, rel=1e-4)
    assert (pushed - plain > 0).all()  # descending it lowers every opacity


@pytest.mark.parametrize(
    ("name", "at"),
    [("scale", "log_scales"), ("flat", "log_scales"), ("opacity", "logit_opacities")],
)
def test_a_ratio_is_to_the_guidance_alone_whatever_else_is_active(splat, name, at):
    plain = gradients(splat, RegularizeConfig())[at]
    everything = gradients(splat, RegularizeConfig(**ALL_ON))[at]
    others = gradients(
        splat, RegularizeConfig(**{other: law for other, law in ALL_ON.items() if other != name})
    )[at]
    assert ((everything - others).norm() / plain.norm()).item() == pytest.approx(0.5, rel=1e-3)


def test_the_order_of_the_terms_does_not_matter(splat):
    config, found = RegularizeConfig(**ALL_ON), []
    for order in (slice(None), slice(None, None, -1)):
        for tensor in splat.parameters().values():
            tensor.grad = None
        output = render(splat, VIEWS, torch.ones(2, 3))
        terms = parameter_terms(splat, config, 0.5)[order]
        regularizers.backward(output.rgb.sum(), output, VIEWS.tan_half_fov, config, 0.5, terms)
        found.append(
            {name: tensor.grad for name, tensor in splat.parameters().items() if tensor.numel()}
        )
    for name, gradient in found[0].items():
        torch.testing.assert_close(
            gradient, found[1][name], rtol=1e-5, atol=1e-6 * gradient.abs().max().item()
        )


def test_weights_are_laws_of_progress(splat):
    plain = gradients(splat, RegularizeConfig())
    late = gradients(splat, RegularizeConfig(binarize=((0.6, 0.0), (0.7, 1.0))))  # at 0.5 still off
    assert all(torch.equal(plain[name], late[name]) for name in plain)


def test_binarization_pushes_alpha_away_from_one_half():
    alpha = torch.tensor([0.2, 0.8]).view(1, 1, 1, 2).requires_grad_()
    regularizers.binarization(alpha).backward()
    assert alpha.grad.flatten()[0] > 0
    assert alpha.grad.flatten()[1] < 0
    assert regularizers.binarization(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)) == 0


def test_total_variation_of_a_ramp_by_hand():
    ramp = torch.arange(5.0).expand(1, 1, 5, 5) * 0.1
    assert regularizers.total_variation(ramp).item() == pytest.approx(2 * 0.01)


def test_every_field_but_the_units_is_a_term():
    names = {field.name for field in dataclasses.fields(RegularizeConfig)} - {"units"}
    assert names == set(ALL_ON)
