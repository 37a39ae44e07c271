"""The reference against its own derivatives, and against formulas on paper."""

import math

import pytest
import torch
from diff_gaussian_rasterization import reference, render_views
from diff_gaussian_rasterization.function import render
from diff_gaussian_rasterization.problem import Cameras, Options, Splats
from diff_gaussian_rasterization.views import pinhole_cameras
from numpy.polynomial.legendre import leggauss
from scenes import random_scene


@pytest.mark.parametrize("mode", ["tight", "tiles16"])
@pytest.mark.parametrize("sh_degree", [None, 0, 1, 2, 3])
def test_gradcheck(mode, sh_degree):
    scene = random_scene(
        5, count=4, width=7, height=5, sh_degree=sh_degree, scales=(0.1, 0.4), opacities=(0.3, 0.8)
    )
    tensors = scene.tensors()
    names = [
        name
        for name in ("means", "quats_wxyz", "scales", "opacities", "colors", "sh")
        if name in tensors
    ]

    def images(*values):
        inputs = tensors | dict(zip(names, values, strict=True))
        out = render_views(
            **inputs,
            width=7,
            height=5,
            sh_degree=scene.sh_degree,
            mode=mode,
            backend="reference",
            scale_modifier=1.3,
        )
        return out[:3]

    # Every entry of the Jacobian for plain colours; random projections of it where harmonics make
    # it long.
    leaves = [tensors[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(images, leaves, fast_mode=sh_degree is not None)


def test_gradcheck_of_covariances_and_antialiasing():
    scene = random_scene(6, count=4, width=7, height=5, scales=(0.1, 0.4), opacities=(0.3, 0.8))
    cameras = pinhole_cameras(scene.w2c, scene.tan_half_fov, scene.background)
    cov3d = reference.covariances(scene.quats_wxyz, scene.scales, 1.0, True)

    def images(means, cov3d, opacities):
        splats = Splats(means, opacities, cov3d=cov3d, colors=scene.colors)
        out = render(
            splats, cameras, Options(7, 5, antialiasing=True, tiles16=True), None, "reference"
        )
        return out.rgb, out.depth, out.transmittance

    inputs = [scene.means, cov3d, scene.opacities]
    assert torch.autograd.gradcheck(images, [value.clone().requires_grad_() for value in inputs])


def one_splat(opacity: float, scale: float, z: float = 2.0, size: int = 33) -> dict:
    """An isotropic splat on the axis of a camera whose centre pixel is the middle of the image."""
    return {
        "means": torch.tensor([[0.0, 0.0, z]], dtype=torch.float64),
        "quats_wxyz": torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        "scales": torch.full((1, 3), scale, dtype=torch.float64),
        "opacities": torch.tensor([opacity], dtype=torch.float64),
        "colors": torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64),
        "w2c": torch.eye(4, dtype=torch.float64)[None],
        "tan_half_fov": torch.full((1, 2), 0.5, dtype=torch.float64),
        "background": torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float64),
        "width": size,
        "height": size,
        "backend": "reference",
    }


def test_one_splat_by_hand():
    out = render_views(**one_splat(0.7, 0.1))
    focal = 33 / (2 * 0.5)
    variance = (focal * 0.1 / 2.0) ** 2 + 0.3
    for dx, dy in ((0, 0), (1, 0), (2, 3)):
        alpha = 0.7 * math.exp(-(dx * dx + dy * dy) / (2 * variance))
        assert out.alpha[0, 0, 16 + dy, 16 + dx].item() == pytest.approx(alpha, rel=1e-12)
        assert out.depth[0, 0, 16 + dy, 16 + dx].item() == pytest.approx(2 * alpha, rel=1e-12)
        assert out.rgb[0, 0, 16 + dy, 16 + dx].item() == pytest.approx(
            0.2 * alpha + 1 - alpha, rel=1e-12
        )
    assert out.radii.item() == math.ceil(3 * math.sqrt(variance + math.sqrt(0.1)))


def test_harmonics_are_orthonormal():
    """The integral over the sphere of basis_i basis_j is 1 where i = j, else 0 (Gauss-Legendre
    times equal angles)."""
    nodes, weights = (torch.from_numpy(part) for part in leggauss(8))
    angles = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    z, phi = torch.meshgrid(nodes, angles, indexing="ij")
    ring = torch.sqrt(1 - z * z)
    directions = torch.stack([ring * phi.cos(), ring * phi.sin(), z], dim=-1).reshape(-1, 3)
    measure = (weights[:, None] * (2 * math.pi / 16)).expand(-1, 16).reshape(-1)
    basis = reference.sh_basis(directions, 3)
    gram = basis.T @ (measure[:, None] * basis)
    assert torch.allclose(gram, torch.eye(16, dtype=torch.float64), atol=1e-9)


def test_modes_agree_inside_the_window_and_differ_beyond_it():
    """An opaque splat is still worth 1/255 at 3.33 sigma; the 16-pixel window is drawn around 3
    sigma."""
    inputs = one_splat(0.95, 48 / 211, size=211)
    tight, clipped = (
        render_views(**inputs, mode=mode).alpha[0, 0] for mode in ("tight", "tiles16")
    )
    inside = clipped > 0
    assert torch.equal(tight[inside], clipped[inside])
    assert 1 / 255 < tight[~inside].max() < 0.0112


def test_order_is_front_to_back_and_ties_go_by_index():
    inputs = one_splat(0.8, 0.1)
    for name in ("means", "quats_wxyz", "scales", "opacities", "colors"):
        inputs[name] = inputs[name].repeat(2, *[1] * (inputs[name].dim() - 1))
    inputs["colors"] = torch.eye(3, dtype=torch.float64)[:2]
    first = render_views(**inputs).rgb[0, :, 16, 16] - 0.04 * inputs["background"][0]
    assert first[0].item() == pytest.approx(0.8)
    assert first[1].item() == pytest.approx(0.2 * 0.8)
    inputs["means"][0, 2] += 1e-3
    second = render_views(**inputs).rgb[0, :, 16, 16] - 0.04 * inputs["background"][0]
    assert second[1].item() > second[0].item()


def test_off_axis_projection_matrices_move_the_image():
    """A principal point off the centre (a sheared projection) shifts the picture by that many
    pixels."""
    scene = random_scene(9, count=40, width=48, height=32, scales=(0.02, 0.1))
    cameras = pinhole_cameras(scene.w2c, scene.tan_half_fov, scene.background)
    proj = cameras.projections().clone()
    proj[:, 0] += 2 * 5 / 48 * proj[:, 3]
    shifted = Cameras(
        cameras.view, proj, cameras.tan_half_fov, cameras.positions, cameras.background
    )
    splats = Splats(
        scene.means, scene.opacities, scene.quats_wxyz, scene.scales, colors=scene.colors
    )
    a, b = (render(splats, c, Options(48, 32), None, "reference").rgb for c in (cameras, shifted))
    assert torch.allclose(a[..., :-5], b[..., 5:], atol=1e-12)


def test_float32_reference_follows_float64():
    scene = random_scene(10, count=50)
    inputs = {"width": scene.width, "height": scene.height, "backend": "reference"}
    wide = render_views(**scene.tensors(), **inputs)
    narrow = render_views(**scene.to(torch.float32).tensors(), **inputs)
    assert narrow.rgb.dtype == torch.float32
    assert (wide.rgb - narrow.rgb).abs().max() < 1e-4
