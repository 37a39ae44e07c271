"""A field fitted to pictures of the world, and what it is turned into."""

import dataclasses
import math

import pytest
import torch

from gs_ssd.assets.nerf import renderer, to_splats
from gs_ssd.assets.nerf.config import ConversionConfig, NerfConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.errors import UserError
from gs_ssd.lab import world
from gs_ssd.maths import rotation
from gs_ssd.render import renderer as splat_renderer
from gs_ssd.scene import camera

CPU = torch.device("cpu")
CONFIG = NerfConfig(
    levels=8,
    log2_entries=12,
    base_resolution=8,
    level_scale=1.4,
    hidden=32,
    steps=96,
    blob_radius=0.6,
)
RING = camera.ring(4, math.radians(70), 3.35, math.radians(40), 48)


@pytest.fixture(scope="module")
def fitted():
    """A red mushroom, learnt from true pictures in 130 steps."""
    rng = torch.Generator().manual_seed(0)
    field, occupancy = Field(CONFIG, CPU), Occupancy(CONFIG.cells, CPU)
    field.initialize(rng)
    step = renderer.step_length(field)
    for _ in range(4):
        occupancy.update(field.density, step, CONFIG.least_alpha, rng)
    optimizer = field.optimizer()
    views = world.draw_views(24, world.CameraLaw(closeup_share=0.0), rng)
    true = world.render("mushroom", "red", views.w2c, views.tan_half_fov, 40, 40, supersample=2)
    zeros = torch.zeros(2)
    for index in range(130):
        some = torch.randperm(24, generator=rng)[:2]
        background = torch.rand(2, 3, generator=rng)
        w2c, tan = views.w2c[some], views.tan_half_fov[some]
        cameras = camera.Cameras(w2c, tan, 40, 40, zeros, zeros, zeros, zeros.bool())
        want = true.rgb[some] + (background[:, :, None, None] - 1) * (1 - true.alpha[some])
        if index % 16 == 0:
            occupancy.update(field.density, step, CONFIG.least_alpha, rng)
        seen = renderer.render(field, occupancy, cameras, background, generator=rng)
        (seen.rgb - want).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return field, occupancy


def test_it_looks_like_what_it_saw(fitted):
    rgb, alpha, depth = renderer.render_large(*fitted, RING, torch.ones(4, 3))
    true = world.render("mushroom", "red", RING.w2c, RING.tan_half_fov, 48, 48)
    assert -10 * math.log10(float((rgb - true.rgb).square().mean())) > 21
    both, either = (alpha > 0.5) & (true.alpha > 0.5), (alpha > 0.5) | (true.alpha > 0.5)
    assert both.sum() / either.sum() > 0.85
    inside = (true.alpha > 0.99) & (alpha > 0.9)
    assert (depth / alpha - true.depth)[inside].abs().mean() < 0.25


def test_as_splats(fitted):
    config = ConversionConfig(spacing=1 / 24, views=16, image_size=96, steps=60)
    splats = to_splats.convert(*fitted, config, torch.Generator().manual_seed(1))
    assert 300 < len(splats) < 9000
    ring = camera.ring(
        4, math.radians(70), 3.35, math.radians(40), 144
    )  # fine, for splats are blurred by a pixel
    rgb, alpha, _ = renderer.render_large(*fitted, ring, torch.ones(4, 3))
    seen = splat_renderer.render(splats, ring, torch.ones(4, 3))
    both, either = (alpha > 0.5) & (seen.alpha > 0.5), (alpha > 0.5) | (seen.alpha > 0.5)
    assert both.sum() / either.sum() > 0.85
    assert -10 * math.log10(float((rgb - seen.rgb).square().mean())) > 19


def test_surface_of_a_ball():
    """Points lie where half of the light is gone, with normals outwards; nothing is invented where
    nothing is."""
    config = dataclasses.replace(CONFIG, blob_density=1000.0, blob_radius=0.5, steps=384)  # hard
    field, occupancy = Field(config, CPU), Occupancy(CONFIG.cells, CPU)
    field.initialize(torch.Generator().manual_seed(0))
    points, normals, colors = to_splats.surface(
        field, occupancy, ConversionConfig(views=8, image_size=48)
    )
    radius = points.norm(dim=1)
    assert (radius - 0.49).abs().max() < 0.04
    assert ((points / radius[:, None]) * normals).sum(1).min() > 0.9
    assert torch.allclose(colors, torch.full_like(colors, 0.5), atol=0.01)
    occupancy.load(torch.zeros_like(occupancy.values), 0.01)
    with pytest.raises(UserError, match="nothing of the field is solid"):
        to_splats.surface(field, occupancy, ConversionConfig(views=4, image_size=16))


def test_discs_lie_flat():
    normals = torch.nn.functional.normalize(
        torch.randn(50, 3, generator=torch.Generator().manual_seed(2)), dim=1
    )
    normals[0], normals[1] = torch.tensor([0.0, 0, -1]), torch.tensor([0.0, 0, 1])
    splats = to_splats.discs(torch.zeros(50, 3), normals, torch.full((50, 3), 0.5), 0.1)
    axes = rotation.quat_to_matrix(splats.quats_wxyz)[:, :, 2]
    assert ((axes * normals).sum(1).abs() > 1 - 1e-5).all()
    assert (splats.scales.argmin(dim=1) == 2).all()
