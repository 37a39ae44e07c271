"""Checks of a native backend against the float64 reference, for a GPU and for the host emulation
alike.

Needs torch alone (no pytest): `tools/gpu_check.py` calls `ALL_CHECKS` too. A check takes the device
on which the native backend runs and raises AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from diff_gaussian_rasterization import native, reference
from diff_gaussian_rasterization.function import Rendering, render
from diff_gaussian_rasterization.problem import Cameras, Options, Splats
from diff_gaussian_rasterization.views import pinhole_cameras
from scenes import Scene, random_scene, relative
from torch import Tensor

TOLERANCE = 1e-5
UNCERTAIN = 3, 1e-3  # pixels, or this share of them, at most
IMAGES = ("rgb", "alpha", "depth", "transmittance")


class Result(NamedTuple):
    """What one backend makes of a scene."""

    images: Rendering
    grads: dict[str, Tensor]


def options_of(scene: Scene, **changes: object) -> Options:
    return Options(scene.width, scene.height, sh_degree=scene.sh_degree, **changes)


def splats_of(scene: Scene, cov3d: Tensor | None = None) -> Splats:
    shape = (
        {"quats_wxyz": scene.quats_wxyz, "scales": scene.scales}
        if cov3d is None
        else {"cov3d": cov3d}
    )
    return Splats(scene.means, scene.opacities, colors=scene.colors, sh=scene.sh, **shape)


def cameras_of(scene: Scene) -> Cameras:
    return pinhole_cameras(scene.w2c, scene.tan_half_fov, scene.background)


def run(
    splats: Splats,
    cameras: Cameras,
    options: Options,
    image_grads: dict[str, Tensor],
    device: str,
    native_: bool,
) -> Result:
    """Forward and backward with the native backend (float32) or the reference (float64) on
    `device`."""
    dtype = torch.float32 if native_ else torch.float64
    leaves = {
        name: value.detach().to(device, dtype, copy=True).requires_grad_()
        for name, value in vars(splats).items()
        if value is not None
    }
    moved = Cameras(
        **{
            n: None if value is None else value.to(device, dtype)
            for n, value in vars(cameras).items()
        }
    )
    views, count = moved.view.shape[0], splats.means.shape[0]
    screen_means = torch.zeros(views, count, 2, dtype=dtype, device=device, requires_grad=True)
    images = render(
        Splats(**leaves), moved, options, screen_means, None if native_ else "reference"
    )
    names = [name for name in IMAGES if name in image_grads]
    torch.autograd.backward(
        [getattr(images, name) for name in names],
        [image_grads[name].to(device, dtype) for name in names],
    )
    leaves["screen_means"] = screen_means
    zero = torch.zeros((), dtype=torch.float64)
    grads = {
        name: zero if leaf.grad is None else leaf.grad.double().cpu()
        for name, leaf in leaves.items()
    }
    return Result(Rendering(*(part.detach().cpu() for part in images)), grads)


def uncertain_pixels(splats: Splats, cameras: Cameras, options: Options) -> Tensor:
    """bool [V,H,W]: where a float32 backend may decide differently than float64: a term within 1e-5
    (relative) of a threshold (1/255, 0.99), a transmittance within 1e-4 of the early stop, two
    splats within 1e-6 of the same depth.
    """
    assert splats.quats_wxyz is not None
    cov3d = reference.covariances(
        splats.quats_wxyz, splats.scales, options.scale_modifier, options.normalize_quats
    )
    rows, columns = (
        torch.arange(size, dtype=torch.float64, device=splats.means.device)
        for size in (options.height, options.width)
    )
    result = []
    for v in range(cameras.view.shape[0]):
        seen, _ = reference.project(splats, cov3d, cameras, v, options, None)
        dx, dy = columns[None, :, None] - seen.pixel[:, 0], rows[:, None, None] - seen.pixel[:, 1]
        power = (
            -0.5 * (seen.conic[:, 0] * dx * dx + seen.conic[:, 2] * dy * dy)
            - seen.conic[:, 1] * dx * dy
        )
        raw = seen.opacity * power.exp()
        drawn = raw >= reference.MIN_ALPHA
        after = torch.cumprod(1 - raw.clamp_max(reference.MAX_ALPHA) * drawn, dim=-1)
        near = (raw / reference.MIN_ALPHA - 1).abs() < 1e-5
        near |= (raw / reference.MAX_ALPHA - 1).abs() < 1e-5
        near |= (after / reference.MIN_TRANSMITTANCE - 1).abs() < 1e-4
        tied = seen.depth[1:] - seen.depth[:-1] < 1e-6 * seen.depth[1:]
        near[..., 1:] |= tied & drawn[..., 1:] & drawn[..., :-1]
        before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], dim=-1)
        near &= before >= 0.5 * reference.MIN_TRANSMITTANCE  # behind the early stop nothing matters
        result.append(near.any(dim=-1))
    return torch.stack(result)


def compare(
    scene: Scene, device: str, only: tuple[str, ...] = IMAGES, **changes: object
) -> dict[str, float]:
    """Images and gradients of the native backend against the reference; returns the errors by
    name."""
    options, splats, cameras = options_of(scene, **changes), splats_of(scene), cameras_of(scene)
    certain = ~uncertain_pixels(splats, cameras, options)
    assert (~certain).sum() <= max(UNCERTAIN[0], UNCERTAIN[1] * certain.numel()), (
        "too many pixels at a threshold: choose another scene"
    )
    rng = torch.Generator().manual_seed(1)
    planes = certain.shape
    image_grads = {
        name: (
            torch.randn(planes[0], 3, *planes[1:], generator=rng)
            if name == "rgb"
            else torch.randn(planes, generator=rng)
        )
        for name in only
    }
    image_grads = {
        name: grad * (certain[:, None] if name == "rgb" else certain)
        for name, grad in image_grads.items()
    }
    have = run(splats, cameras, options, image_grads, device, True)
    want = run(splats, cameras, options, image_grads, "cpu", False)
    assert torch.equal(have.images.radii, want.images.radii), "radii"
    errors = {}
    for name in IMAGES:
        difference = (getattr(have.images, name) - getattr(want.images, name)).abs()
        difference = difference * (certain[:, None] if name == "rgb" else certain)
        scale = max(1.0, float(getattr(want.images, name).abs().max())) if name == "depth" else 1.0
        errors[name] = float(difference.max()) / scale if difference.numel() else 0.0
    for name, grad in want.grads.items():
        errors[f"d {name}"] = (
            relative(have.grads[name], grad)
            if float(grad.norm()) > 0
            else float(have.grads[name].norm())
        )
    for name, error in errors.items():
        assert error <= TOLERANCE, f"{name}: {error:.2e} > {TOLERANCE:.0e}"
    return errors


def check_modes_and_harmonics(device: str) -> None:
    for degree in (None, 0, 1, 2, 3):
        for tiles16 in (False, True):
            compare(random_scene(40, count=150, views=2, sh_degree=degree), device, tiles16=tiles16)


def check_options(device: str) -> None:
    scene = random_scene(41, count=200, scales=(0.005, 0.2), opacities=(0.5, 1.0))
    scene = replace(
        scene, quats_wxyz=1.05 * torch.nn.functional.normalize(scene.quats_wxyz, dim=-1)
    )
    for changes in (
        {"detach_depth": True}, {"clamp_passes_gradient": True}, {"antialiasing": True},
        {"scale_modifier": 1.7},
        {"antialiasing": True, "tiles16": True, "clamp_passes_gradient": True,
            "normalize_quats": False},
    ):  # fmt: skip
        compare(scene, device, **changes)


def check_image_sizes(device: str) -> None:
    for width, height in ((1, 1), (1, 40), (33, 1), (31, 33), (97, 15)):
        compare(random_scene(42, count=100, width=width, height=height, sh_degree=1), device)


def check_counts(device: str) -> None:
    for count in (0, 1, 31, 32, 257):
        compare(random_scene(43, count=count, width=40, height=40, views=3), device)


def check_single_incoming_gradients(device: str) -> None:
    for name in IMAGES:
        compare(random_scene(44, count=100), device, only=(name,))


def check_long_lists(device: str) -> None:
    """Several batches of 256 splats in one tile: faint ones (all are visited), opaque ones (the
    early stop)."""
    compare(
        random_scene(45, count=900, width=20, height=18, scales=(0.3, 0.6), opacities=(0.02, 0.04)),
        device,
    )
    compare(
        random_scene(46, count=900, width=20, height=18, scales=(0.3, 0.6), opacities=(0.7, 0.98)),
        device,
    )


def check_large_splats(device: str) -> None:
    """More than 16 tiles per splat: the tiles are gone through by whole warps; needles make most of
    them untouched."""
    compare(
        random_scene(47, count=70, width=150, height=130, scales=(0.3, 2.0), opacities=(0.02, 0.3)),
        device,
    )
    needles = random_scene(48, count=70, width=150, height=130, opacities=(0.02, 0.9))
    thin = (
        torch.tensor([1.5, 0.04, 0.04], dtype=torch.float64)
        .float()
        .double()
        .expand_as(needles.scales)
    )
    compare(replace(needles, scales=thin.clone()), device)


def check_inside_the_cloud(device: str) -> None:
    compare(random_scene(49, count=400, spread=1.5, distance=0.5, scales=(0.02, 0.1)), device)


def check_covariances_given(device: str) -> None:
    scene = random_scene(50, count=150, sh_degree=1)
    cov3d = reference.covariances(scene.quats_wxyz, scene.scales, 1.0, True).float().double()
    splats, cameras, options = splats_of(scene, cov3d), cameras_of(scene), options_of(scene)
    rng = torch.Generator().manual_seed(2)
    image_grads = {"rgb": torch.randn(1, 3, scene.height, scene.width, generator=rng)}
    have, want = (
        run(splats, cameras, options, image_grads, device, True),
        run(splats, cameras, options, image_grads, "cpu", False),
    )
    for name, grad in want.grads.items():
        assert relative(have.grads[name], grad) <= TOLERANCE, name


def check_equal_depths_keep_their_order(device: str) -> None:
    """Many splats in one place: the one with the lower index lies in front, on every run."""
    count = 300
    scene = random_scene(51, count=count, width=24, height=24)
    same = replace(
        scene, means=torch.zeros_like(scene.means), opacities=torch.full_like(scene.opacities, 0.4)
    )
    splats, cameras, options = splats_of(same), cameras_of(same), options_of(same)
    rng = torch.Generator().manual_seed(3)
    image_grads = {"rgb": torch.randn(1, 3, 24, 24, generator=rng)}
    have, want = (
        run(splats, cameras, options, image_grads, device, True),
        run(splats, cameras, options, image_grads, "cpu", False),
    )
    assert (have.images.rgb - want.images.rgb).abs().max() < 1e-4
    assert relative(have.grads["colors"], want.grads["colors"]) < 1e-3


def check_nothing_to_see(device: str) -> None:
    scene = random_scene(52, count=40, width=33, height=17)
    for change in (
        {"means": scene.means - 50 * scene.w2c[0, 2, :3]},
        {"opacities": torch.zeros_like(scene.opacities)},
    ):
        gone = replace(scene, **change)
        rgb_grad = {"rgb": torch.ones(1, 3, 17, 33)}
        have = run(splats_of(gone), cameras_of(gone), options_of(gone), rgb_grad, device, True)
        background = gone.background.float()[:, :, None, None].expand(1, 3, 17, 33)
        assert torch.equal(have.images.rgb, background)
        assert torch.equal(have.images.transmittance, torch.ones(1, 17, 33))
        assert all(not grad.any() for grad in have.grads.values())
        assert not have.images.radii.any()


def check_images_do_not_depend_on_the_run(device: str) -> None:
    """The images bit for bit; the gradients, which are added up atomically, to rounding."""
    scene = random_scene(53, count=500, views=2, sh_degree=1)
    rng = torch.Generator().manual_seed(4)
    image_grads = {"rgb": torch.randn(2, 3, scene.height, scene.width, generator=rng)}
    runs = [
        run(splats_of(scene), cameras_of(scene), options_of(scene), image_grads, device, True)
        for _ in range(3)
    ]
    for other in runs[1:]:
        for name in (*IMAGES, "radii"):
            assert torch.equal(getattr(runs[0].images, name), getattr(other.images, name)), name
        for name, grad in runs[0].grads.items():
            assert relative(other.grads[name], grad) < 2e-6, name


def check_bad_numbers_are_named(device: str) -> None:
    for field in ("means", "quats_wxyz", "scales", "opacities", "sh"):
        scene = random_scene(54, count=300, width=16, height=16, sh_degree=2)
        value = getattr(scene, field).clone()
        value.view(-1)[-1] = float("nan")
        bad = replace(scene, **{field: value})
        try:
            run(splats_of(bad), cameras_of(bad), options_of(bad), {}, device, True)
            message = "no error"
        except ValueError as error:
            message = str(error)
        assert field in message, (field, message)


def check_bad_cameras_are_named(device: str) -> None:
    """By the kernels themselves, without splats too: Python does not look at what lies on a GPU."""
    bad = [("tan_half_fov", value, "tan_half_fov must be positive") for value in (0.0, -0.5)]
    for field in ("view", "tan_half_fov", "proj", "positions", "background"):
        bad += [(field, value, f"{field} contains NaN") for value in (float("nan"), float("inf"))]
    for count in (0, 40):
        scene = random_scene(
            56, count=count, width=20, height=20, views=300
        )  # more views than a block has threads
        splats = Splats(**{name: value.to(device).float() for name,
            value in vars(splats_of(scene)).items()
                           if value is not None})  # fmt: skip
        cameras = cameras_of(scene)
        given = vars(cameras) | {"proj": cameras.projections(), "positions": cameras.centres()}
        good = {name: value.to(device).float() for name, value in given.items()}
        native.forward(splats, Cameras(**good), options_of(scene))
        for field, value, want in bad:
            spoilt = good[field].clone()
            spoilt.view(-1)[-1] = value
            try:
                native.forward(splats, Cameras(**(good | {field: spoilt})), options_of(scene))
                message = "no error"
            except ValueError as error:
                message = str(error)
            assert want in message, (field, value, message)


def check_cameras_given_and_worked_out(device: str) -> None:
    """Without projections and positions a backend takes those of centred pinholes."""
    scene = random_scene(57, count=200, views=3, sh_degree=2)
    cameras = cameras_of(scene)
    given = Cameras(
        cameras.view,
        cameras.projections(),
        cameras.tan_half_fov,
        cameras.centres(),
        cameras.background,
    )
    grads = {
        "rgb": torch.ones(3, 3, scene.height, scene.width),
        "depth": torch.ones(3, scene.height, scene.width),
    }
    have, want = (
        run(splats_of(scene), c, options_of(scene), grads, device, True) for c in (cameras, given)
    )
    for name in IMAGES:
        assert (getattr(have.images, name) - getattr(want.images, name)).abs().max() < 1e-5, name
    for name, grad in want.grads.items():
        assert relative(have.grads[name], grad) < TOLERANCE, name


def check_mark_visible(device: str) -> None:
    rng = torch.Generator().manual_seed(5)
    means, view = torch.randn(1000, 3, generator=rng), random_scene(55).w2c[0].float()
    want = (means.double() @ view[2, :3].double() + view[2, 3].double()) > 0.2
    assert torch.equal(native.mark_visible(means.to(device), view.to(device)).cpu(), want)


ALL_CHECKS: tuple[Callable[[str], None], ...] = tuple(
    check for name, check in sorted(globals().items()) if name.startswith("check_")
)
