"""The API of the namesake packages: the calls of LucidDreamer, of graphdeco's main and of its
antialiasing branch."""

import math

import numpy as np
import pytest
import torch
from diff_gaussian_rasterization import (
    GaussianRasterizationSettings,
    GaussianRasterizer,
    render_views,
)
from diff_gaussian_rasterization.function import render
from diff_gaussian_rasterization.problem import Options, Splats
from diff_gaussian_rasterization.reference import covariances
from diff_gaussian_rasterization.views import pinhole_cameras
from scenes import random_scene, relative


class Camera:
    """What graphdeco's code calls a camera: transposed matrices, full projection with near and far
    planes."""

    def __init__(self, scene, dtype=torch.float32):
        w2c, tan = scene.w2c[0], scene.tan_half_fov[0]
        self.image_width, self.image_height = scene.width, scene.height
        self.FoVx, self.FoVy = (2 * math.atan(float(t)) for t in tan)
        near, far = 0.01, 100.0
        projection = torch.zeros(4, 4, dtype=torch.float64)
        projection[0, 0], projection[1, 1] = 1 / tan[0], 1 / tan[1]
        projection[2, 2], projection[2, 3], projection[3, 2] = (
            far / (far - near),
            -far * near / (far - near),
            1,
        )
        self.world_view_transform = w2c.T.to(dtype)
        self.full_proj_transform = (w2c.T @ projection.T).to(dtype)
        self.camera_center = torch.linalg.inv(w2c)[:3, 3].to(dtype)


def luciddreamer_render(camera, gaussians, bg_color, scaling_modifier=1.0):
    """The structure of LucidDreamer's render(): settings without `debug`, again with it on
    TypeError, three returns, and a depth that is split in two."""
    screenspace_points = torch.zeros_like(gaussians["means"], requires_grad=True) + 0
    screenspace_points.retain_grad()
    arguments = {
        "image_height": int(camera.image_height),
        "image_width": int(camera.image_width),
        "tanfovx": math.tan(camera.FoVx * 0.5),
        "tanfovy": math.tan(camera.FoVy * 0.5),
        "bg": bg_color,
        "scale_modifier": scaling_modifier,
        "viewmatrix": camera.world_view_transform,
        "projmatrix": camera.full_proj_transform,
        "sh_degree": 0,
        "campos": camera.camera_center,
        "prefiltered": False,
    }
    try:
        raster_settings = GaussianRasterizationSettings(**arguments)
    except TypeError:
        raster_settings = GaussianRasterizationSettings(**arguments, debug=False)
    rasterizer = GaussianRasterizer(raster_settings=raster_settings)
    rendered_image, radii, depth_alpha = rasterizer(
        means3D=gaussians["means"],
        means2D=screenspace_points,
        shs=gaussians["sh"],
        colors_precomp=None,
        opacities=gaussians["opacities"],
        scales=gaussians["scales"],
        rotations=gaussians["quats"],
        cov3D_precomp=None,
    )
    depth, alpha = torch.chunk(depth_alpha, 2)
    focal = 1 / (2 * math.tan(camera.FoVx / 2))
    disparity = focal / (depth + (alpha * 10) + 1e-5)
    try:
        lowest = disparity[alpha <= 0.1].min()
    except RuntimeError:
        lowest = disparity.min()
    disparity = (disparity - lowest) / (disparity.max() - lowest)
    return rendered_image, disparity.clamp(0, 1), depth, alpha, screenspace_points, radii > 0, radii


@pytest.fixture
def scene():
    return random_scene(60, count=200, width=50, height=70, sh_degree=0)


def leaves_of(scene):
    quats = torch.nn.functional.normalize(scene.quats_wxyz, dim=-1)
    parts = {
        "means": scene.means, "sh": scene.sh, "opacities": scene.opacities[:, None],
        "scales": scene.scales, "quats": quats,
    }  # fmt: skip
    return {name: value.float().requires_grad_() for name, value in parts.items()}


def test_luciddreamer(scene):
    gaussians = leaves_of(scene)
    background = scene.background[0].float()
    out = luciddreamer_render(Camera(scene), gaussians, background)
    image, disparity, depth, transmittance, points, visible, radii = out
    assert image.shape == (3, 70, 50)
    assert depth.shape == transmittance.shape == disparity.shape == (1, 70, 50)
    assert radii.dtype == torch.int32
    (image.square().sum() + depth.square().mean() + transmittance.mean()).backward()
    assert points.grad.shape == (200, 3)
    assert (points.grad[~visible] == 0).all()
    assert all(
        leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0 for leaf in gaussians.values()
    )
    # Plane 1 is the transmittance: 1 where nothing is, and the background shows through it.
    assert 0 <= transmittance.min() < 0.5
    assert transmittance.max() <= 1

    splats = Splats(
        scene.means,
        scene.opacities,
        quats_wxyz=gaussians["quats"].detach().double(),
        scales=scene.scales,
        sh=scene.sh,
    )
    cameras = pinhole_cameras(scene.w2c, scene.tan_half_fov, scene.background)
    options = Options(
        50, 70, tiles16=True, normalize_quats=False, detach_depth=True, clamp_passes_gradient=True
    )
    want = render(splats, cameras, options, None, "reference")
    assert (image - want.rgb[0]).abs().max() < 1e-5
    assert relative(depth, want.depth) < 1e-5
    assert (transmittance - want.transmittance).abs().max() < 1e-5
    assert torch.equal(radii, want.radii[0])


def test_gradients_are_those_of_the_fork_conventions(scene):
    gaussians = leaves_of(scene)
    rng = torch.Generator().manual_seed(1)
    weights = [
        torch.randn(shape, generator=rng) for shape in ((3, 70, 50), (1, 70, 50), (1, 70, 50))
    ]
    image, _, depth, transmittance, points, *_ = luciddreamer_render(
        Camera(scene), gaussians, scene.background[0].float(), 1.25
    )
    torch.autograd.backward((image, depth, transmittance), weights)

    exact = {name: leaf.detach().double().requires_grad_() for name, leaf in gaussians.items()}
    screen_means = torch.zeros(1, 200, 2, dtype=torch.float64, requires_grad=True)
    options = Options(
        50,
        70,
        scale_modifier=1.25,
        tiles16=True,
        normalize_quats=False,
        detach_depth=True,
        clamp_passes_gradient=True,
    )
    splats = Splats(
        exact["means"],
        exact["opacities"][:, 0],
        quats_wxyz=exact["quats"],
        scales=exact["scales"],
        sh=exact["sh"],
    )
    cameras = pinhole_cameras(scene.w2c, scene.tan_half_fov, scene.background)
    out = render(splats, cameras, options, screen_means, "reference")
    grads = (weights[0][None].double(), weights[1].double(), weights[2].double())
    torch.autograd.backward((out.rgb, out.depth, out.transmittance), grads)
    for name, leaf in gaussians.items():
        assert relative(leaf.grad, exact[name].grad) < 1e-5, name
    assert relative(points.grad[:, :2], screen_means.grad[0]) < 1e-5


def positional(camera, *tail):
    """The settings by position, as some callers write them."""
    return GaussianRasterizationSettings(
        camera.image_height, camera.image_width, math.tan(camera.FoVx / 2),
        math.tan(camera.FoVy / 2), torch.zeros(3),
        1.0, camera.world_view_transform, camera.full_proj_transform, 0, camera.camera_center,
        False, *tail,
    )  # fmt: skip


def test_all_three_variants_of_the_settings(scene):
    gaussians = {name: leaf.detach() for name, leaf in leaves_of(scene).items()}
    camera = Camera(scene)
    images = []
    for tail in ((), (False,), (False, False), (False, True)):
        color, radii, third = GaussianRasterizer(positional(camera, *tail))(
            gaussians["means"], None, gaussians["opacities"], shs=gaussians["sh"],
            scales=gaussians["scales"],
            rotations=gaussians["quats"],
        )  # fmt: skip
        assert third.shape == (2, 70, 50)
        assert radii.shape == (200,)
        images.append(color)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[3])


def test_antialiasing_keeps_the_light_of_small_splats():
    """The low-pass filter blurs a tiny splat over more pixels; the compensation gives its sum
    back."""
    scene = random_scene(61, count=1, width=31, height=31)
    wide = {"tan_half_fov": torch.full((1, 2), 0.5).double(), "w2c": torch.eye(4)[None].double()}
    scene = type(scene)(**(vars(scene) | wide))
    camera, sums = Camera(scene), []
    scale = 0.02
    for tail in ((False, False), (False, True)):
        _, _, third = GaussianRasterizer(positional(camera, *tail))(
            torch.tensor([[0.0, 0, 2]]), None, torch.tensor([[0.8]]),
            colors_precomp=torch.ones(1, 3),
            scales=torch.full((1, 3), scale), rotations=torch.tensor([[1.0, 0, 0, 0]]),
        )  # fmt: skip
        sums.append(float((1 - third[1]).sum()))
    variance = (31 * scale / 2) ** 2
    assert sums[1] / sums[0] == pytest.approx(variance / (variance + 0.3), rel=0.2)


def test_covariances_equal_scales_and_rotations(scene):
    gaussians = {name: leaf.detach() for name, leaf in leaves_of(scene).items()}
    rasterizer = GaussianRasterizer(positional(Camera(scene)))
    cov3d = covariances(gaussians["quats"], gaussians["scales"], 1.0, False)
    common = {"means3D": gaussians["means"], "means2D": None, "opacities": gaussians["opacities"]}
    a = rasterizer(
        **common, shs=gaussians["sh"], scales=gaussians["scales"], rotations=gaussians["quats"]
    )
    empty = torch.empty(0)
    b = rasterizer(
        **common,
        shs=gaussians["sh"],
        colors_precomp=empty,
        scales=empty,
        rotations=empty,
        cov3D_precomp=cov3d,
    )
    assert (a[0] - b[0]).abs().max() < 1e-4


def test_mark_visible(scene):
    rasterizer = GaussianRasterizer(positional(Camera(scene)))
    points = torch.randn(5000, 3, generator=torch.Generator().manual_seed(2)) * 4
    z = points.double() @ scene.w2c[0, 2, :3] + scene.w2c[0, 2, 3]
    clear = (z - 0.2).abs() > 1e-4
    visible = rasterizer.markVisible(points)
    assert visible.dtype == torch.bool
    assert torch.equal(visible[clear], (z > 0.2)[clear])
    assert 0 < visible.sum() < 5000


def test_drop_in_and_render_views_agree_within_the_window(scene):
    """Both are one rasterizer: "tiles16" of render_views is what the drop-in draws."""
    gaussians = {name: leaf.detach() for name, leaf in leaves_of(scene).items()}
    color, radii, _ = GaussianRasterizer(positional(Camera(scene)))(
        gaussians["means"], None, gaussians["opacities"], shs=gaussians["sh"],
        scales=gaussians["scales"],
        rotations=gaussians["quats"],
    )  # fmt: skip
    single = scene.to(torch.float32)
    out = render_views(
        gaussians["means"], gaussians["quats"], gaussians["scales"], gaussians["opacities"][:, 0],
        sh=gaussians["sh"],
        w2c=single.w2c, tan_half_fov=single.tan_half_fov, width=50, height=70,
        background=torch.zeros(1, 3),
        mode="tiles16",
    )  # fmt: skip
    assert (out.rgb[0] - color).abs().max() < 1e-4
    assert torch.equal(out.radii[0], radii)


def one_view(height=48, width=48, degree=0):
    scene = random_scene(3, 40, 48, 48)
    camera = Camera(scene)
    settings = GaussianRasterizationSettings(
        height, width, math.tan(camera.FoVx / 2), math.tan(camera.FoVy / 2), torch.zeros(3), 1.0,
        camera.world_view_transform, camera.full_proj_transform, degree, camera.camera_center,
        False,
    )  # fmt: skip
    means = scene.means.detach().float().requires_grad_()
    colors = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    shape = {"scales": scene.scales.float(), "rotations": scene.quats_wxyz.float()}
    opacities = scene.opacities.detach()[:, None].float()
    return means, lambda: GaussianRasterizer(settings)(
        means, None, opacities, colors_precomp=colors, **shape
    )


@pytest.mark.parametrize("integer", [np.int64, np.int32, torch.tensor])
def test_sizes_may_be_any_integer(integer):
    _, draw = one_view(integer(48), integer(48), integer(0))
    _, plain = one_view()
    assert torch.equal(draw()[0], plain()[0])


@pytest.mark.parametrize(
    ("sizes", "name"),
    [((48.0, 48), "image_height"), ((48, "48"), "image_width"), ((True, 48), "image_height")],
)
def test_a_size_that_is_no_integer_is_refused_by_its_name(sizes, name):
    with pytest.raises(TypeError, match=f"{name} must be an integer"):
        one_view(*sizes)[1]()


@pytest.mark.parametrize("penalty", [lambda image: image.sum(), lambda image: image.square().sum()])
def test_a_penalty_on_gradients_raises(penalty):
    means, draw = one_view()
    image = draw()[0]
    (gradient,) = torch.autograd.grad(penalty(image), means, create_graph=True)
    once = torch.autograd.grad(penalty(draw()[0]), means)[0]
    assert torch.equal(gradient, once)  # reading it is fine
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again.*backend='reference'"):
        (gradient.square().sum() + image.mean()).backward()


def test_create_graph_alone_is_no_error():
    means, draw = one_view()
    (gradient,) = torch.autograd.grad(draw()[0].sum(), means, create_graph=True)
    assert gradient.abs().sum() > 0
