"""The CPU backend in float32 against the float64 reference: every input path, both modes, gradients
and all."""

from dataclasses import replace

import pytest
import torch
from diff_gaussian_rasterization import reference, render_views
from diff_gaussian_rasterization.function import render
from diff_gaussian_rasterization.problem import Options, Splats
from diff_gaussian_rasterization.views import pinhole_cameras
from scenes import image_gradients, random_scene, relative, render_with_gradients

TOLERANCE = 1e-5


def compare(scene, **options):
    have, have_grads = render_with_gradients(scene, "cpu", torch.float32, **options)
    want, want_grads = render_with_gradients(scene, "reference", torch.float64, **options)
    assert torch.equal(have.radii, want.radii)
    assert (have.rgb - want.rgb).abs().max() < TOLERANCE
    assert (have.alpha - want.alpha).abs().max() < TOLERANCE
    assert relative(have.depth, want.depth) < TOLERANCE
    for name, grad in have_grads.items():
        assert relative(grad, want_grads[name]) < TOLERANCE, name


@pytest.mark.parametrize("mode", ["tight", "tiles16"])
@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3])
def test_modes_and_harmonics(mode, sh_degree):
    compare(random_scene(20, count=200, sh_degree=sh_degree), mode=mode)


@pytest.mark.parametrize(
    "options",
    [{"detach_depth": True}, {"scale_modifier": 0.6}, {"scale_modifier": 1.7, "mode": "tiles16"}],
)
def test_options(options):
    compare(random_scene(21, count=200), **options)


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 40), (33, 1), (31, 33), (64, 64), (97, 15), (3, 2)]
)
def test_image_sizes(width, height):
    compare(random_scene(22, count=100, width=width, height=height, sh_degree=1))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 513])
def test_counts(count):
    compare(random_scene(23, count=count, width=40, height=40))


def test_saturated_pixels():
    """Hundreds of nearly opaque splats per pixel: most of them lie behind the early stop."""
    compare(
        random_scene(24, count=600, width=40, height=40, scales=(0.2, 0.5), opacities=(0.8, 0.98))
    )


@pytest.mark.parametrize("seed", range(3))
def test_tiny_and_huge_splats(seed):
    """Needles of a thousand to one are ill-conditioned in float32: no worse than the same formulas
    in float32 torch."""
    scene = random_scene(200 + seed, count=150, scales=(0.001, 1.0), spread=0.8)
    want, want_grads = render_with_gradients(scene, "reference", torch.float64)
    have, have_grads = render_with_gradients(scene, "cpu", torch.float32)
    naive, naive_grads = render_with_gradients(scene, "reference", torch.float32)
    assert (have.rgb - want.rgb).abs().max() < max(TOLERANCE, (naive.rgb - want.rgb).abs().max())
    for name, grad in have_grads.items():
        assert relative(grad, want_grads[name]) < max(
            TOLERANCE, relative(naive_grads[name], want_grads[name])
        ), name


def test_inside_the_cloud():
    """Splats behind the camera, across its near plane, and far to the side, where the Jacobian is
    clamped."""
    compare(random_scene(26, count=400, spread=1.5, distance=0.5, scales=(0.02, 0.1)))


@pytest.mark.parametrize("farthest", [1e6, 4.0])
def test_depths_crowded_beside_an_outlier(farthest):
    """Sorting deals the depths into buckets between the nearest and the farthest: all but one fall
    into the same."""
    rng, count = torch.Generator().manual_seed(37), 600
    means = torch.rand(count, 3, generator=rng) * torch.tensor([0.6, 0.6, 0.5]) + torch.tensor(
        [-0.3, -0.3, 3.0]
    )
    means[::7, 2] = 3.25  # ties, in the order of the Gaussians
    means[5] = torch.tensor([0.0, 0.0, farthest])
    scales = torch.full((count, 3), 0.1)
    scales[5] = 0.1 * farthest
    inputs = {
        "means": means, "scales": scales, "quats_wxyz": torch.tensor([1.0, 0, 0, 0]).repeat(count,
            1),
        "opacities": 0.02 + 0.03 * torch.rand(count, generator=rng),
        "colors": torch.rand(count, 3, generator=rng), "w2c": torch.eye(4)[None],
        "tan_half_fov": torch.full((1, 2), 0.2), "background": torch.zeros(1, 3),
    }  # fmt: skip
    have = render_views(**inputs, width=40, height=40)
    want = render_views(
        **{k: v.double() for k, v in inputs.items()}, width=40, height=40, backend="reference"
    )
    assert (have.rgb - want.rgb).abs().max() < TOLERANCE


def test_views_in_one_call_equal_single_calls():
    scene = random_scene(27, count=300, views=3, sh_degree=2)
    grads = image_gradients(scene)
    together, summed = render_with_gradients(scene, "cpu", torch.float32, grads)
    totals: dict[str, torch.Tensor] = {}
    for v in range(3):
        cut = {
            name: getattr(scene, name)[v : v + 1] for name in ("w2c", "tan_half_fov", "background")
        }
        one = [grad[v : v + 1] for grad in grads]
        alone, parts = render_with_gradients(replace(scene, **cut), "cpu", torch.float32, one)
        for name in ("rgb", "alpha", "depth", "radii"):
            assert torch.equal(getattr(together, name)[v], getattr(alone, name)[0]), name
        assert torch.equal(summed["screen_means"][v], parts["screen_means"][0])
        for name, grad in parts.items():
            if name != "screen_means":
                totals[name] = totals.get(name, 0) + grad.double()
    for name, total in totals.items():
        assert relative(summed[name], total) < 1e-6, name


@pytest.mark.parametrize("tiles16", [False, True])
@pytest.mark.parametrize("antialiasing", [False, True])
@pytest.mark.parametrize("clamp_passes_gradient", [False, True])
def test_covariances_raw_quaternions_antialiasing_and_clamp(
    tiles16, antialiasing, clamp_passes_gradient
):
    scene = random_scene(28, count=150, scales=(0.005, 0.2), opacities=(0.9, 1.0))
    scene = replace(
        scene, quats_wxyz=torch.nn.functional.normalize(scene.quats_wxyz, dim=-1) * 1.05
    )
    cov3d = reference.covariances(scene.quats_wxyz, scene.scales, 1.0, False).float()
    options = Options(
        64, 48, tiles16=tiles16, antialiasing=antialiasing,
        clamp_passes_gradient=clamp_passes_gradient,
        normalize_quats=False,
    )  # fmt: skip
    shapes = (
        {"cov3d": cov3d},
        {"quats_wxyz": scene.quats_wxyz.float(), "scales": scene.scales.float()},
    )
    rgb_grad, _, depth_grad = image_gradients(scene)
    for shape in shapes:
        grads = []
        for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
            fields = {
                "means": scene.means,
                "opacities": scene.opacities,
                "colors": scene.colors,
            } | shape
            leaves = {
                name: value.to(dtype, copy=True).requires_grad_() for name, value in fields.items()
            }
            cameras = [
                getattr(scene, name).to(dtype) for name in ("w2c", "tan_half_fov", "background")
            ]
            out = render(Splats(**leaves), pinhole_cameras(*cameras), options, None, backend)
            torch.autograd.backward(
                (out.rgb, out.depth, out.transmittance),
                (rgb_grad.to(dtype), depth_grad[:, 0].to(dtype), depth_grad[:, 0].to(dtype)),
            )
            grads.append({name: leaf.grad for name, leaf in leaves.items()})
        for name, grad in grads[0].items():
            assert relative(grad, grads[1][name]) < TOLERANCE, name


def test_unused_harmonics_get_zero_gradient():
    scene = random_scene(29, count=60, sh_degree=3)
    _, grads = render_with_gradients(replace(scene, sh_degree=1), "cpu", torch.float32)
    assert grads["sh"][:, 4:].abs().max() == 0
    assert grads["sh"][:, :4].abs().max() > 0
    compare(replace(scene, sh_degree=1))


def test_non_contiguous_inputs():
    scene = random_scene(30, count=100, sh_degree=1)
    strided = {
        name: torch.stack([value, torch.zeros_like(value)], dim=-1)[..., 0]
        for name, value in scene.tensors().items()
    }
    assert not strided["means"].is_contiguous()
    want, want_grads = render_with_gradients(scene, "cpu", torch.float32)
    have, have_grads = render_with_gradients(replace(scene, **strided), "cpu", torch.float32)
    assert torch.equal(have.rgb, want.rgb)
    for name, grad in have_grads.items():
        assert torch.equal(grad, want_grads[name]), name


def test_only_wanted_gradients_and_missing_image_gradients():
    scene = random_scene(31, count=80).to(torch.float32)
    inputs = scene.tensors() | {"width": scene.width, "height": scene.height}
    inputs["opacities"] = inputs["opacities"].clone().requires_grad_()
    grads = []
    for backend in ("cpu", "reference"):
        inputs["opacities"].grad = None
        render_views(**inputs, backend=backend).alpha.sum().backward()
        grads.append(inputs["opacities"].grad)
    assert relative(*grads) < TOLERANCE


@pytest.mark.parametrize("name", ["w2c", "tan_half_fov", "background"])
def test_a_camera_changed_before_the_backward_pass_raises(name):
    """Its gradients would be those of neither the old camera nor the new one."""
    scene = random_scene(32, count=80).to(torch.float32)
    inputs = scene.tensors() | {"width": scene.width, "height": scene.height}
    inputs["means"] = inputs["means"].clone().requires_grad_()
    rgb = render_views(**inputs).rgb
    inputs[name].mul_(1.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rgb.sum().backward()
