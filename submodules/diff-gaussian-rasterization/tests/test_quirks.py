"""Every quirk of the original rasterizers that this package decided on; the README lists the
decisions in this order."""

import math

import pytest
import torch
from diff_gaussian_rasterization import (
    GaussianRasterizationSettings,
    rasterize_gaussians,
    render_views,
)
from diff_gaussian_rasterization.function import render
from diff_gaussian_rasterization.problem import Options, Splats
from diff_gaussian_rasterization.views import pinhole_cameras
from scenes import Scene, random_scene, relative, render_with_gradients

BACKENDS = [("cpu", torch.float32), ("reference", torch.float64)]


def on_axis(dtype, *, opacity=0.9, scale=0.2, z=2.0, x=0.0, size=31) -> dict:
    return {
        "means": torch.tensor([[x, 0.0, z]], dtype=dtype),
        "quats_wxyz": torch.tensor([[1.0, 0, 0, 0]], dtype=dtype),
        "scales": torch.full((1, 3), scale, dtype=dtype),
        "opacities": torch.tensor([opacity], dtype=dtype),
        "colors": torch.ones(1, 3, dtype=dtype),
        "w2c": torch.eye(4, dtype=dtype)[None],
        "tan_half_fov": torch.full((1, 2), 0.5, dtype=dtype),
        "background": torch.zeros(1, 3, dtype=dtype),
        "width": size,
        "height": size,
    }


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("passes", [False, True])
def test_clamp_of_alpha(backend, dtype, passes):
    """1. Where opacity * falloff exceeds 0.99, render_views has no gradient; drop-in calls pass it
    through."""
    inputs = on_axis(dtype, opacity=1.0, scale=5.0)
    leaf = inputs["opacities"].requires_grad_()
    splats = Splats(
        inputs["means"],
        leaf,
        quats_wxyz=inputs["quats_wxyz"],
        scales=inputs["scales"],
        colors=inputs["colors"],
    )
    cameras = pinhole_cameras(inputs["w2c"], inputs["tan_half_fov"], inputs["background"])
    out = render(splats, cameras, Options(31, 31, clamp_passes_gradient=passes), None, backend)
    assert out.alpha[0, 15, 15].item() == pytest.approx(0.99, abs=1e-6)
    out.alpha[0, 15, 15].backward()
    assert leaf.grad.item() == pytest.approx(1.0 if passes else 0.0, abs=1e-6)


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_scale_modifier_is_in_the_gradient(backend, dtype):
    """2. d/d(scale) carries the factor scale_modifier: (modifier m, scale s) and (1, m s) differ by
    it exactly."""
    grads = []
    for modifier, scale in ((2.0, 0.1), (1.0, 0.2)):
        inputs = on_axis(dtype, scale=scale)
        inputs["scales"].requires_grad_()
        render_views(**inputs, scale_modifier=modifier, backend=backend).alpha.sum().backward()
        grads.append(inputs["scales"].grad)
    assert relative(grads[0], 2 * grads[1]) < 1e-5


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_quaternions_normalised_or_raw(backend, dtype):
    """3. render_views normalises (the length changes nothing, the gradient is orthogonal); drop-in
    calls use q as given."""
    scene = random_scene(50, count=40)
    longer = Scene(**{**vars(scene), "quats_wxyz": 3 * scene.quats_wxyz})
    want, want_grads = render_with_gradients(scene, backend, dtype)
    have, have_grads = render_with_gradients(longer, backend, dtype)
    assert (have.rgb - want.rgb).abs().max() < 1e-5
    assert relative(3 * have_grads["quats_wxyz"], want_grads["quats_wxyz"]) < 1e-5
    along = (have_grads["quats_wxyz"] * longer.quats_wxyz).sum(dim=-1)
    assert along.abs().max() < 1e-4 * have_grads["quats_wxyz"].norm()

    splats = on_axis(torch.float32)
    settings = settings_of(splats)
    alphas = []
    for length in (1.0, 1.2):
        quats = torch.tensor([[math.cos(0.4), 0.0, 0.0, math.sin(0.4)]]) * length
        out = rasterize_gaussians(
            splats["means"], None, None, splats["colors"], splats["opacities"][:, None],
            torch.tensor([[0.2, 0.05, 0.1]]), quats, None, settings,
        )  # fmt: skip
        alphas.append(1 - out[2][1])
    assert (alphas[0] - alphas[1]).abs().max() > 1e-2


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_clamped_jacobian_has_its_exact_gradient(backend, dtype):
    """4. Beyond 1.3 tan(fov / 2) the Jacobian's x is clamped: finite differences agree with the
    gradient of x and z."""
    inputs = on_axis(torch.float64, x=1.45, scale=0.3)
    weights = torch.linspace(-1, 1, 31 * 31, dtype=torch.float64).reshape(31, 31).square()
    assert 1.45 / 2 > 1.3 * 0.5

    def loss(means, kind, precision):
        arguments = {
            name: v.to(precision) if isinstance(v, torch.Tensor) else v
            for name, v in inputs.items()
        }
        out = render_views(**(arguments | {"means": means.to(precision)}), backend=kind)
        return (out.alpha[0, 0] * weights.to(precision)).sum()

    means = inputs["means"].clone().requires_grad_()
    loss(means, backend, dtype).backward()
    for axis in (0, 2):
        step = torch.zeros_like(inputs["means"])
        step[0, axis] = 1e-6
        numeric = loss(inputs["means"] + step, "reference", torch.float64)
        numeric = (numeric - loss(inputs["means"] - step, "reference", torch.float64)) / 2e-6
        assert means.grad[0, axis].item() == pytest.approx(numeric.item(), rel=2e-4)


def test_no_epsilons():
    """5. The originals add 1e-7 to w and to det^2; here a projected centre is exact to float32
    rounding."""
    inputs = on_axis(torch.float64, x=0.3)
    inputs["screen_means"] = torch.zeros(1, 1, 2, dtype=torch.float64)
    out = render_views(**inputs, backend="reference")
    pixel = 31 / (2 * 0.5) * 0.3 / 2 + 15
    column = out.alpha[0, 0, 15].argmax().item()
    assert column == round(pixel)
    variance = (31 * 0.2 / 2) ** 2 * (1 + (0.3 / 2) ** 2) + 0.3
    assert out.alpha[0, 0, 15, column].item() == pytest.approx(
        0.9 * math.exp(-((column - pixel) ** 2) / (2 * variance)), rel=1e-12
    )


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_screen_gradient_is_in_ndc_units(backend, dtype):
    """6. Moving the centre by one pixel is 2 / W in NDC: so the gradient is the pixel gradient
    times W / 2 (and H / 2)."""
    grads = []
    for size in (31, 62):
        inputs = on_axis(dtype, x=0.02, size=size, scale=0.4)
        inputs["screen_means"] = torch.zeros(1, 1, 2, dtype=dtype, requires_grad=True)
        # A fixed picture in NDC: its mean changes with the NDC position alike at every resolution.
        ramp = (torch.arange(size, dtype=dtype) * 2 + 1) / size - 1
        (render_views(**inputs, backend=backend).alpha[0, 0] * ramp).mean().backward()
        grads.append(inputs["screen_means"].grad[0, 0])
    assert grads[0][0].item() == pytest.approx(grads[1][0].item(), rel=0.02)
    assert abs(grads[0][0].item()) > 0.05


def settings_of(inputs: dict, **changes) -> GaussianRasterizationSettings:
    tan = float(inputs["tan_half_fov"][0, 0])
    proj = torch.tensor([[1 / tan, 0, 0, 0], [0, 1 / tan, 0, 0], [0, 0, 1.0, -0.01], [0, 0, 1, 0]])
    values = {
        "image_height": inputs["height"], "image_width": inputs["width"], "tanfovx": tan,
        "tanfovy": tan, "bg": torch.zeros(3), "scale_modifier": 1.0, "viewmatrix": torch.eye(4),
        "projmatrix": proj.T, "sh_degree": 0, "campos": torch.zeros(3), "prefiltered": False,
    }  # fmt: skip
    return GaussianRasterizationSettings(**(values | changes))


def test_means2d_gradient_has_three_columns():
    """6. The drop-in's means2D is [P,3]; its third column stays zero."""
    inputs = on_axis(torch.float32, x=0.1)
    means2d = torch.zeros(1, 3, requires_grad=True)
    color, _, _ = rasterize_gaussians(
        inputs["means"], means2d, None, inputs["colors"], inputs["opacities"][:, None],
        inputs["scales"],
        inputs["quats_wxyz"], None, settings_of(inputs),
    )  # fmt: skip
    (color[0] * torch.arange(31.0)).sum().backward()
    assert means2d.grad[0, 0].abs() > 0
    assert means2d.grad[0, 2] == 0


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_off_diagonal_of_the_conic(backend, dtype):
    """7. A rotation in the image plane acts through the off-diagonal alone: its gradient is the
    finite difference."""
    inputs = on_axis(torch.float64)
    inputs["scales"] = torch.tensor([[0.3, 0.1, 0.1]], dtype=torch.float64)
    rows, columns = torch.meshgrid(*[torch.arange(31, dtype=torch.float64) - 15] * 2, indexing="ij")

    def loss(angle, kind, precision):
        quat = torch.stack([torch.cos(angle / 2), 0 * angle, 0 * angle, torch.sin(angle / 2)])[None]
        arguments = {
            name: v.to(precision) if isinstance(v, torch.Tensor) else v
            for name, v in inputs.items()
        }
        out = render_views(**(arguments | {"quats_wxyz": quat.to(precision)}), backend=kind)
        return (out.alpha[0, 0] * (rows * columns).to(precision)).sum()

    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss(angle, backend, dtype).backward()
    with torch.no_grad():
        numeric = loss(angle + 1e-5, "reference", torch.float64) - loss(
            angle - 1e-5, "reference", torch.float64
        )
    assert angle.grad.item() == pytest.approx(numeric.item() / 2e-5, rel=1e-4)


@pytest.mark.parametrize(("width", "height"), [(17, 16), (16, 17), (33, 47)])
def test_depth_gradient_at_sizes_off_the_grid(width, height):
    """8. Sizes that are not multiples of 16: the depth gradient of the last row and column arrives,
    and no other is read."""
    scene = random_scene(51, count=60, width=width, height=height)
    corner = torch.zeros(1, 1, height, width)
    corner[..., -1, -1] = 1.0
    grads = (torch.zeros(1, 3, height, width), torch.zeros(1, 1, height, width), corner)
    _, have = render_with_gradients(scene, "cpu", torch.float32, grads)
    _, want = render_with_gradients(scene, "reference", torch.float64, grads)
    assert relative(have["means"], want["means"]) < 1e-5


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_zero_scales(backend, dtype):
    """9. A splat of size zero is a point that the low-pass filter makes visible; gradients stay
    finite."""
    inputs = on_axis(dtype, scale=0.0)
    for name in ("means", "quats_wxyz", "scales", "opacities"):
        inputs[name].requires_grad_()
    out = render_views(**inputs, backend=backend)
    assert out.alpha[0, 0, 15, 15].item() == pytest.approx(0.9, rel=1e-6)
    assert out.alpha[0, 0, 15, 16].item() == pytest.approx(0.9 * math.exp(-0.5 / 0.3), rel=1e-5)
    out.depth.sum().backward()
    assert all(
        inputs[name].grad.isfinite().all()
        for name in ("means", "quats_wxyz", "scales", "opacities")
    )


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
def test_detached_depth(backend, dtype):
    """The fork treats z as a constant weight: detach_depth drops that gradient and nothing else."""
    scene = random_scene(52, count=60)
    zero = torch.zeros(1, 3, 48, 64), torch.zeros(1, 1, 48, 64)
    depth_grad = torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    _, exact = render_with_gradients(scene, backend, dtype, (*zero, depth_grad))
    _, detached = render_with_gradients(
        scene, backend, dtype, (*zero, depth_grad), detach_depth=True
    )
    for name in ("opacities", "scales", "quats_wxyz", "screen_means"):
        assert relative(exact[name], detached[name]) < 1e-6, name
    difference = exact["means"] - detached["means"]
    forward = scene.w2c[0, 2, :3].to(dtype)
    assert difference.norm() > 0
    assert relative(difference, (difference @ forward)[:, None] * forward) < 1e-4


def test_near_plane_is_the_only_cull():
    """z > 0.2 in camera space, and nothing lateral: a huge splat far to the side still reaches the
    image."""
    near = on_axis(torch.float32, z=0.2)
    assert render_views(**near).alpha.max() == 0
    assert render_views(**(near | {"means": torch.tensor([[0.0, 0.0, 0.2001]])})).alpha.max() > 0
    aside = on_axis(torch.float32, x=4.0, scale=3.0)
    assert render_views(**aside).alpha.max() > 0
