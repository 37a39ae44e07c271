"""The radiance field, its occupancy grid and its renderer: what must hold before anything is
trained."""

import dataclasses
import math

import pytest
import torch

from gs_ssd import memory
from gs_ssd.assets.nerf import renderer
from gs_ssd.assets.nerf.config import NerfConfig
from gs_ssd.assets.nerf.field import PARAMETERS, Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.regularizers import orientation
from gs_ssd.errors import UserError
from gs_ssd.render import regularizers
from gs_ssd.scene import camera

CPU = torch.device("cpu")
SMALL = NerfConfig(
    levels=4, log2_entries=10, base_resolution=4, hidden=16, cells=16, steps=256, blob_radius=0.5
)
RING = camera.ring(3, math.radians(70), 3.0, math.radians(40), 24)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_field(config: NerfConfig = SMALL) -> tuple[Field, Occupancy]:
    field = Field(config, CPU)
    field.initialize(generator())
    occupancy, rng = Occupancy(config.cells, CPU), generator(1)
    for _ in range(8):
        occupancy.update(field.density, renderer.step_length(field), config.least_alpha, rng)
    return field, occupancy


def test_the_first_shape_is_the_blob():
    """A ray through the middle of softplus(10 (1 - r / .5)): opacity and depth against their
    integrals."""
    config = dataclasses.replace(SMALL, least_alpha=0.0, least_light=0.0)
    field, _ = a_field(config)
    everywhere = Occupancy(config.cells, CPU)
    eye = camera.at_angles([0.3], [1.2], radius=2.0, fov_y_rad=0.01, size=1)
    seen = renderer.render(field, everywhere, eye, torch.zeros(1, 3))
    r = torch.arange(-2.0, 2.0, 1e-4, dtype=torch.float64)
    inside = (r.abs() < 2) & (r > -1.5) & (r < 1.5)
    sigma = torch.where(inside, torch.nn.functional.softplus(10 * (1 - r.abs() / 0.5)), 0.0)
    light = torch.exp(-sigma.cumsum(0) * 1e-4)
    depth = float((light * sigma * (r + 2)).sum() * 1e-4)
    assert seen.alpha.item() == pytest.approx(1 - float(light[-1]), abs=2e-3)
    assert seen.depth.item() == pytest.approx(depth, abs=5e-3)
    assert seen.rgb.flatten().tolist() == pytest.approx(
        [0.5 * seen.alpha.item()] * 3, abs=1e-3
    )  # grey


def test_an_empty_grid_renders_the_background():
    field, occupancy = a_field()
    occupancy.load(torch.zeros_like(occupancy.values), 0.01)
    background = torch.tensor([[0.2, 0.4, 0.6], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    seen = renderer.render(field, occupancy, RING, background, generator=generator(), slopes=True)
    assert torch.equal(seen.rgb, background[:, :, None, None].expand_as(seen.rgb))
    assert not seen.alpha.any()
    assert orientation(seen).item() == 0.0


def test_rays_meet_their_pixels():
    """A point on a pixel's ray is seen through the middle of that pixel by the camera's own
    matrices."""
    origins, directions, z = renderer.rays(RING)
    points = origins + 1.7 * directions
    points = points.view(3, 24, 24, 3)
    seen = (
        torch.einsum("vcd,vhwd->vhwc", RING.w2c[:, :3, :3], points) + RING.w2c[:, None, None, :3, 3]
    )
    assert torch.allclose(seen[..., 2], 1.7 * z.view(3, 24, 24), atol=1e-5)
    pixel = (seen[..., :2] / seen[..., 2:] / RING.tan_half_fov[:, None, None] + 1) / 2 * 24 - 0.5
    want = torch.stack(
        torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="xy"), dim=-1
    )
    assert torch.allclose(pixel, want.expand_as(pixel), atol=1e-3)


def test_rays_through_some_pixels_are_those_of_the_whole_pictures():
    cameras = dataclasses.replace(RING, width=31, height=17)
    pixels = torch.randint(3 * 17 * 31, (200,), generator=generator(4))
    origins, directions, _ = renderer.rays(cameras)
    some = renderer.rays_through(cameras, pixels)
    torch.testing.assert_close(some, (origins[pixels], directions[pixels]))


def test_large_pictures_are_those_of_render_made_of_few_rays_at_a_time(monkeypatch):
    field, occupancy = a_field()
    cameras = dataclasses.replace(RING, width=31, height=17)
    background = torch.tensor([[0.2, 0.4, 0.6], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    whole = renderer.render(field, occupancy, cameras, background)
    traced, trace = [], renderer.trace

    def count(field, occupancy, origins, directions):
        traced.append(len(origins))
        return trace(field, occupancy, origins, directions)

    monkeypatch.setattr(renderer, "trace", count)
    monkeypatch.setattr(renderer, "RAYS", 200)
    seen = renderer.render_large(field, occupancy, cameras, background)
    torch.testing.assert_close(seen, (whole.rgb, whole.alpha, whole.depth))
    assert traced == [200, 200, 127] * 3


def test_occupancy_looks_at_each_cell_once_in_parts_that_fit_memory(monkeypatch):
    """In order x, y, z, and at the same places whatever the parts."""
    asked = []

    def density(places):
        asked.append(places)
        return places @ torch.tensor([1.0, 10.0, 100.0])

    found = []
    for at_once in (1 << 17, 2048):
        monkeypatch.setattr("gs_ssd.assets.nerf.occupancy.PLACES_AT_ONCE", at_once)
        occupancy, asked[:] = Occupancy(20, CPU), []
        occupancy.update(density, 1.0, 0.5, generator(3))
        found.append(occupancy.values)
    assert [len(places) for places in asked] == [2048, 2048, 2048, 1856]
    assert torch.equal(*found)
    cell = (torch.cat(asked) * 20).long()
    assert torch.equal(cell[:, 0] * 400 + cell[:, 1] * 20 + cell[:, 2], torch.arange(8000))


def test_occupancy_hides_no_density_above_the_threshold():
    field, occupancy = a_field()
    rng, step = generator(2), renderer.step_length(field)
    places = torch.rand(20000, 3, generator=rng)
    with torch.no_grad():
        depth = field.density(places) * step
    cell = (places * SMALL.cells).long()
    marked = occupancy.occupied[cell[:, 0], cell[:, 1], cell[:, 2]]
    dense = (
        depth > 1.2 * SMALL.least_alpha
    )  # eight looks into a cell need not find its densest corner
    assert dense.sum() > 500
    assert marked[dense].float().mean() > 0.995
    assert 0.02 < occupancy.share < 0.5


def test_leaping_over_empty_cells_changes_hardly_a_pixel():
    field, occupancy = a_field()
    background = torch.ones(3, 3)
    leaping = renderer.render(field, occupancy, RING, background)
    occupancy.occupied = torch.ones_like(occupancy.occupied)
    patient = renderer.render(field, occupancy, RING, background)
    assert (leaping.rgb - patient.rgb).abs().max() < 0.03


def test_finer_steps_converge():
    found = []
    for steps in (64, 256, 1024):
        config = dataclasses.replace(SMALL, steps=steps, least_alpha=0.0)
        field, occupancy = a_field(config)
        occupancy.occupied = torch.ones_like(occupancy.occupied)
        found.append(renderer.render(field, occupancy, RING, torch.zeros(3, 3)).depth.detach())
    assert (found[1] - found[2]).abs().mean() < 0.3 * (found[0] - found[2]).abs().mean()


def test_normals_of_a_ball_face_the_camera_and_of_a_hollow_do_not(monkeypatch):
    field, occupancy = a_field()
    seen = renderer.render(field, occupancy, RING, torch.ones(3, 3), slopes=True)
    ball = orientation(seen).item()
    # Density that grows with distance: normals on the near side point inwards, away from the
    # camera.
    monkeypatch.setattr(
        field, "to_density", lambda places, _: 4 * (2 * places - 1).square().sum(dim=1)
    )
    occupancy.occupied = torch.ones_like(occupancy.occupied)
    seen = renderer.render(field, occupancy, RING, torch.ones(3, 3), slopes=True)
    assert ball < 0.05
    assert orientation(seen).item() > 10 * ball


def test_orientation_reaches_tables_and_density_weights_alone():
    field, occupancy = a_field()
    with torch.no_grad():
        field.parameters["tables"].normal_(std=0.3, generator=generator(3))
    seen = renderer.render(
        field, occupancy, RING, torch.ones(3, 3), generator=generator(4), slopes=True
    )
    grads = torch.autograd.grad(
        orientation(seen), [field.parameters[n] for n in PARAMETERS], allow_unused=True
    )
    reached = {
        name: grad is not None and bool(grad.any())
        for name, grad in zip(PARAMETERS, grads, strict=True)
    }
    assert reached == {
        "tables": True, "density_in": True, "density_out": True, "color_in": False,
        "color_out": False
    }  # fmt: skip


def test_image_regularizers():
    alpha = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    assert float(regularizers.sparsity(alpha)) == pytest.approx((0.1 + 0.26**0.5 + 1.01**0.5) / 3)
    assert float(regularizers.opaque(alpha)) == pytest.approx(
        (math.log(2) + 2 * 0.0079072) / 3, rel=1e-3
    )


def test_stratified_samples_differ_and_repeat():
    field, occupancy = a_field()
    pictures = [
        renderer.render(field, occupancy, RING, torch.ones(3, 3), generator=generator(seed)).rgb
        for seed in (5, 5, 6)
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])


def test_density_that_is_not_finite_is_refused():
    field, occupancy = a_field()
    with torch.no_grad():
        field.parameters["tables"].fill_(float("nan"))
    with pytest.raises(
        UserError, match=r"density of the field is not finite; lower nerf\.table_rate"
    ):
        renderer.render(field, occupancy, RING, torch.ones(3, 3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 20}, r"nerf\.hidden=20 must be a multiple of 8"),
        ({"level_scale": 4.0, "levels": 16}, r"nerf\.levels"),
    ],
    ids=str,
)
def test_shapes_that_cannot_be(changes, words):
    with pytest.raises(UserError, match=words):
        Field(dataclasses.replace(SMALL, **changes), CPU)


def test_tables_beyond_the_memory_are_refused_before_they_are_made(monkeypatch):
    tables = 8 * Field(SMALL, CPU).grid.num_entries
    monkeypatch.setattr(memory, "available", lambda _: 4 * tables - 1)
    with pytest.raises(
        UserError, match=r"tables of nerf\.log2_entries=\d+ and nerf\.levels=\d+ take"
    ):
        Field(SMALL, CPU)
    for enough in (4 * tables, None):  # or a system that does not say
        monkeypatch.setattr(memory, "available", lambda _, enough=enough: enough)
        Field(SMALL, CPU)


def test_a_field_of_another_config_is_refused():
    field, _ = a_field()
    with pytest.raises(UserError, match="restore nerf"):
        Field(dataclasses.replace(SMALL, log2_entries=11), CPU).load(field.parameters)
