"""Wrong inputs raise a Python exception that names the argument; no input crashes."""

import ctypes
import math

import pytest
import torch
from diff_gaussian_rasterization import (
    GaussianRasterizationSettings,
    GaussianRasterizer,
    function,
    native,
    render_views,
)
from scenes import random_scene
from torch.utils._python_dispatch import TorchDispatchMode


def arguments(**changes) -> dict:
    scene = random_scene(70, count=10, sh_degree=1).to(torch.float32)
    values = scene.tensors() | {"width": 20, "height": 10, "sh_degree": 1}
    return values | changes


WRONG = [
    ("means", lambda v: v[:, :2], ValueError),
    ("means", lambda v: v.tolist(), TypeError),
    ("means", lambda v: v.int(), TypeError),
    ("means", lambda v: v.half(), TypeError),
    ("quats_wxyz", lambda v: v[:, :3], ValueError),
    ("quats_wxyz", lambda v: v[:5], ValueError),
    ("scales", lambda v: v[:, :1], ValueError),
    ("scales", lambda v: v.double(), TypeError),
    ("opacities", lambda v: v[:, None], ValueError),
    ("sh", lambda v: v[:, :1], ValueError),
    ("sh", lambda v: v[..., 0], ValueError),
    ("sh_degree", lambda _: 4, ValueError),
    ("sh_degree", lambda _: -1, ValueError),
    ("w2c", lambda v: v[0], ValueError),
    ("w2c", lambda v: v[:0], ValueError),
    ("tan_half_fov", lambda v: v[0], ValueError),
    ("tan_half_fov", lambda v: -v, ValueError),
    ("tan_half_fov", lambda v: v * math.nan, ValueError),
    ("background", lambda v: v[:, :2], ValueError),
    ("background", lambda v: v * math.inf, ValueError),
    ("screen_means", lambda _: torch.zeros(1, 10, 3), ValueError),
    ("width", lambda _: 0, ValueError),
    ("width", lambda _: 12.5, TypeError),
    ("height", lambda _: -3, ValueError),
    ("height", lambda _: 100_000, ValueError),
    ("mode", lambda _: "loose", ValueError),
    ("backend", lambda _: "gpu", ValueError),
]


@pytest.mark.parametrize(("name", "spoil", "error"), WRONG)
def test_wrong_argument_is_named(name, spoil, error):
    values = arguments()
    with pytest.raises(error, match=name):
        render_views(**(values | {name: spoil(values.get(name))}))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["means", "quats_wxyz", "scales", "opacities", "sh"])
def test_nan_and_infinity_are_named(name, backend, bad):
    values = arguments()
    spoilt = values[name].clone()
    spoilt.view(-1)[-1] = bad
    with pytest.raises(ValueError, match=f"{name} contains NaN or infinity"):
        render_views(**(values | {name: spoilt}), backend=backend)


def test_nothing_on_a_gpu_is_looked_at(monkeypatch):
    """Each number that Python reads from a GPU makes the host wait: it reads none before the
    kernels start."""

    class ReachedTheKernelsError(Exception):
        pass

    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    def forward(*_):
        raise ReachedTheKernelsError

    values = arguments()
    with Reads() as reads:
        render_views(**values, backend="reference")
    assert reads.count > 0  # the reference looks at everything
    monkeypatch.setattr(function, "choose_backend", lambda *_: "cuda")
    monkeypatch.setattr(native, "forward", forward)
    with Reads() as reads, pytest.raises(ReachedTheKernelsError):
        render_views(**values)
    assert reads.count == 0
    rasterizer, gaussians = GaussianRasterizer(settings()), splats()
    with Reads() as reads, pytest.raises(ReachedTheKernelsError):
        rasterizer(**gaussians)
    assert reads.count == 0


def test_exclusive_arguments():
    values = arguments()
    with pytest.raises(ValueError, match="exactly one of colors and sh"):
        render_views(**values, colors=torch.zeros(10, 3))
    with pytest.raises(ValueError, match="exactly one of colors and sh"):
        render_views(**(values | {"sh": None}))


def test_float64_needs_the_reference():
    scene = random_scene(71, count=5)
    with pytest.raises(TypeError, match="reference"):
        render_views(**scene.tensors(), width=8, height=8)


def test_finite_but_extreme_values_do_not_crash():
    values = arguments()
    for name in ("means", "quats_wxyz", "scales", "opacities", "sh"):
        for factor in (1e30, -1e30, 1e-38, 0.0):
            extreme = values | {name: values[name] * factor}
            leaf = extreme[name].requires_grad_()
            out = render_views(**extreme)
            assert out.alpha.isfinite().all()
            out.alpha.sum().backward()
            assert leaf.grad.shape == leaf.shape


def test_everything_culled():
    values = arguments()
    values["means"] = (values["means"] + 1e4).requires_grad_()
    out = render_views(**values)
    assert out.alpha.abs().max() == 0
    assert (out.radii == 0).all()
    (out.rgb.sum() + out.depth.sum()).backward()
    assert values["means"].grad.abs().max() == 0


def test_cuda_without_its_backend(monkeypatch):
    native.library.cache_clear()
    monkeypatch.setattr(native, "__file__", "/nonexistent/native.py")
    with pytest.raises(RuntimeError, match="DGR_CUDA=ON"):
        native.library("cuda")
    native.library.cache_clear()


def settings(**changes) -> GaussianRasterizationSettings:
    values = {
        "image_height": 10, "image_width": 20, "tanfovx": 0.5, "tanfovy": 0.5, "bg": torch.zeros(3),
        "scale_modifier": 1.0, "viewmatrix": torch.eye(4), "projmatrix": torch.eye(4),
        "sh_degree": 0, "campos": torch.zeros(3), "prefiltered": False,
    }  # fmt: skip
    return GaussianRasterizationSettings(**(values | changes))


def splats(**changes) -> dict:
    values = {
        "means3D": torch.zeros(4, 3), "means2D": torch.zeros(4, 3), "opacities": torch.ones(4, 1),
        "colors_precomp": torch.zeros(4, 3), "scales": torch.ones(4, 3),
        "rotations": torch.ones(4, 4),
    }  # fmt: skip
    return values | changes


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"means3D": torch.zeros(4, 2)}, "means3D"),
        ({"means2D": torch.zeros(4, 2)}, "means2D"),
        ({"opacities": torch.ones(3, 1)}, "opacities"),
        ({"rotations": torch.ones(4, 3)}, "rotations"),
        ({"rotations": None}, "rotations"),
        ({"scales": None, "rotations": None}, "cov3D_precomp"),
        ({"cov3D_precomp": torch.zeros(4, 6)}, "cov3D_precomp"),
        ({"colors_precomp": None}, "colors_precomp"),
        ({"shs": torch.zeros(4, 1, 3)}, "shs"),
        ({"colors_precomp": None, "shs": torch.zeros(4, 0, 3)}, "shs"),
        ({"rotations": torch.full((4, 4), math.nan)}, "rotations contains NaN"),
        ({"colors_precomp": torch.full((4, 3), math.nan)}, "colors_precomp contains NaN"),
        ({"means3D": torch.full((4, 3), math.inf)}, "means3D contains NaN"),
    ],
)
def test_drop_in_names_its_own_arguments(changes, name):
    with pytest.raises((TypeError, ValueError), match=name):
        GaussianRasterizer(settings())(**splats(**changes))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"viewmatrix": torch.eye(3)}, "viewmatrix"),
        ({"projmatrix": torch.eye(4) * math.nan}, "projmatrix"),
        ({"campos": torch.zeros(1, 3)}, "campos"),
        ({"bg": torch.zeros(4)}, "bg"),
        ({"tanfovx": 0.0}, "tanfovx"),
        ({"image_height": 0}, "image_height"),
        ({"viewmatrix": torch.eye(4).double()}, "viewmatrix"),
    ],
)
def test_drop_in_settings_are_checked(changes, name):
    with pytest.raises((TypeError, ValueError), match=name):
        GaussianRasterizer(settings(**changes))(**splats())


# Of the C ABI; the pointers lead nowhere, for what is refused is refused before anything is read.
VALID_PROBLEM = {"views": 1, "gaussians": 5, "width": 8, "height": 8, "threads": 1} | dict.fromkeys(
    ("means", "quats_wxyz", "scales", "opacities", "colors", *native.CAMERA_FIELDS), 64
)


@pytest.mark.parametrize(
    "change",
    [
        {"views": 0}, {"gaussians": -1}, {"width": 0}, {"height": 40_000}, {"means": None},
        {"opacities": None},
        {"colors": None}, {"sh": 64}, {"quats_wxyz": None}, {"cov3d": 64}, {"view": None},
        {"background": None},
        {"colors": None, "sh": 64, "sh_bases": 3, "sh_degree": 1},
        {"colors": None, "sh": 64, "sh_bases": 25, "sh_degree": 4},
    ],
    ids=str,
)  # fmt: skip
def test_bad_problems_are_refused(change):
    library = native.library("cpu")
    assert library.dgr_geometry_bytes(ctypes.byref(native.Problem(**VALID_PROBLEM))) > 0
    problem = native.Problem(**(VALID_PROBLEM | change))
    pairs = ctypes.c_int64()
    assert library.dgr_geometry_bytes(ctypes.byref(problem)) == 0
    status = library.dgr_project(ctypes.byref(problem), 64, 2**40, 64, ctypes.byref(pairs), None)
    assert status == 1
    assert b"is invalid" in library.dgr_message(status)
