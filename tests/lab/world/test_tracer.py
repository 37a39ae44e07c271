"""The ray tracer against closed forms, and the world's axes."""

import math

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.lab import world
from gs_ssd.lab.world.sculptor import Sculptor

WHITE = (1.0, 1.0, 1.0)
SIZE = 96


def camera(azimuth=0.0, elevation=0.0, radius=4.0, fov=40.0):
    return world.orbit(torch.tensor([azimuth]), torch.tensor([elevation]), radius, fov)


def traced(sculptor: Sculptor, views: world.Views, size=SIZE, supersample=2) -> world.Picture:
    layers = world.stack([sculptor.parts])
    return world.trace(layers, views.w2c, views.tan_half_fov, size, size, supersample=supersample)


def pixels_per_unit(depth: float, fov=40.0, size=SIZE) -> float:
    return size / 2 / (depth * math.tan(math.radians(fov / 2)))


@pytest.mark.parametrize("radius", [0.4, 1.0])
def test_silhouette_of_a_sphere_is_its_tangent_cone(radius):
    sculptor = Sculptor()
    sculptor.ellipsoid((0, 0, 0), radius, WHITE)
    alpha = traced(sculptor, camera(33.0, 21.0), supersample=4).alpha
    tangent = math.tan(math.asin(radius / 4.0)) / math.tan(math.radians(20)) * SIZE / 2
    assert alpha.sum().item() == pytest.approx(math.pi * tangent**2, rel=0.01)
    rows = alpha[0, 0].amax(1).nonzero()
    assert (rows.max() - rows.min() + 1).item() == pytest.approx(2 * tangent, abs=2)


def test_depth_is_the_nearest_surface():
    sculptor = Sculptor()
    sculptor.box((0, 0, 0), (0.5, 0.5, 0.5), WHITE)
    sculptor.ellipsoid((0, 0.7, 0), 0.3, WHITE)  # stands out of the face towards the camera
    picture = traced(sculptor, camera(), size=97, supersample=1)
    assert picture.depth[0, 0, 48, 48].item() == pytest.approx(4.0 - 1.0, abs=1e-4)
    aside = 48 + round(0.4 * pixels_per_unit(3.5, size=97))
    assert picture.depth[0, 0, 48, aside].item() == pytest.approx(3.5, abs=1e-4)
    assert picture.depth[picture.alpha == 0].abs().max() == 0


@pytest.mark.parametrize(
    ("build", "area"),
    [
        (lambda s: s.box((0, 0, 0), (0.5, 0.01, 0.3), WHITE), 4 * 0.5 * 0.3),
        (lambda s: s.gable((0, 0, 0), (0.5, 0.01, 0.3), WHITE), 2 * 0.5 * 0.3),
        (lambda s: s.sail((0, 0, 0), (0.5, 0.01, 0.3), WHITE), 2 * 0.5 * 0.3),
        (lambda s: s.ellipsoid((0, 0, 0), (0.5, 0.01, 0.3), WHITE), math.pi * 0.5 * 0.3),
        (lambda s: s.frustum((0, -0.01, 0), (0, 0.01, 0), (0.5, 0.5), WHITE), math.pi * 0.25),
        (
            lambda s: s.torus((0, 0, 0), (0.5, 0.5, 0.1), 0.3, WHITE, (90, 0, 0)),
            math.pi * 0.25 * (1.3**2 - 0.7**2),
        ),
    ],
    ids=["box", "gable", "sail", "ellipsoid", "disc", "ring"],
)
def test_area_of_flat_solids(build, area):
    sculptor = Sculptor()
    build(sculptor)
    alpha = traced(sculptor, camera(radius=20.0, fov=6.0), supersample=4).alpha
    assert alpha.sum().item() / pixels_per_unit(20.0, 6.0) ** 2 == pytest.approx(area, rel=0.02)


def test_a_cone_narrows_linearly_and_a_hollow_one_shows_its_inside():
    sculptor = Sculptor()
    sculptor.frustum((0, 0, -0.5), (0, 0, 0.5), (0.6, 0.0), WHITE)
    width = traced(sculptor, camera(radius=20.0, fov=6.0), supersample=4).alpha[0, 0].sum(1)
    unit = pixels_per_unit(20.0, 6.0)
    for z in (-0.25, 0.0, 0.25):
        assert width[round(SIZE / 2 - z * unit)].item() / unit == pytest.approx(
            2 * 0.6 * (0.5 - z), abs=0.05
        )

    above, depth = camera(elevation=89.9), {}
    for hollow in (False, True):
        mug = Sculptor()
        mug.frustum((0, 0, -0.5), (0, 0, 0.5), (0.6, 0.6), WHITE, hollow=hollow)
        depth[hollow] = traced(mug, above, size=97, supersample=1).depth[0, 0, 48, 48].item()
    assert depth[False] == pytest.approx(3.5, abs=0.01)
    assert depth[True] == pytest.approx(4.5, abs=0.01)


def test_background_shows_where_nothing_is_hit():
    views = camera()
    blue = torch.tensor([[0.0, 0.0, 1.0]])
    picture = world.render("ball", "red", views.w2c, views.tan_half_fov, 32, 32, background=blue)
    assert picture.rgb[0, :, 0, 0].tolist() == [0, 0, 1]
    torch.testing.assert_close(
        world.render(
            "ball", "red", views.w2c, views.tan_half_fov, 32, 32, background=torch.zeros(1, 3)
        ).rgb
        + (1 - picture.alpha) * blue[:, :, None, None],
        picture.rgb,
    )


def test_pictures_do_not_depend_on_what_else_is_in_the_batch():
    views = world.turntable(4)
    together = world.render("car", "red", views.w2c, views.tan_half_fov, 24, 24).rgb
    alone = torch.cat(
        [
            world.render("car", "red", w2c[None], fov[None], 24, 24).rgb
            for w2c, fov in zip(views.w2c, views.tan_half_fov, strict=True)
        ]
    )
    torch.testing.assert_close(together, alone)


def centroid_x(mask: torch.Tensor) -> float:
    """Mean column of a mask `[H,W]`, from -1 (left) to 1 (right)."""
    columns = torch.linspace(-1, 1, mask.shape[1])
    return ((mask.sum(0) * columns).sum() / mask.sum()).item()


def test_the_duck_faces_plus_y_and_its_right_side_is_seen_from_plus_x():
    """From azimuth 90 (+x, the duck's own right) the beak points to the right of the picture, from
    270 to the left."""

    def beak(azimuth: float) -> torch.Tensor:
        views = camera(azimuth, 0.0, 3.4)
        rgb = world.render(
            "duck", "blue", views.w2c, views.tan_half_fov, 64, 64, background=torch.zeros(1, 3)
        ).rgb[0]
        return ((rgb[0] > 0.4) & (rgb[2] < 0.2)).float()  # the only orange part

    assert centroid_x(beak(90.0)) > 0.3
    assert centroid_x(beak(270.0)) < -0.3
    assert beak(0.0).sum() > 10
    assert beak(180.0).sum() == 0
    eye = camera(90.0, 0.0, 3.0).w2c[0].inverse()[:3, 3]
    torch.testing.assert_close(eye, torch.tensor([3.0, 0.0, 0.0]), atol=1e-5, rtol=0)


def test_cameras_see_up_as_up():
    views = camera(20.0, 30.0)
    points = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, -0.5, 1.0]])
    top, bottom = (views.w2c[0] @ points.T).T
    assert top[1] < 0 < bottom[1]  # OpenCV: y down
    assert top[2] > 0
    assert torch.det(views.w2c[0, :3, :3]).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", world.kinds())
def test_every_kind_fills_the_frame_and_stays_inside(kind):
    views = world.turntable(4)
    alpha = world.render(kind, "red", views.w2c, views.tan_half_fov, 48, 48, supersample=1).alpha
    border = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., 0], alpha[..., -1]], -1)
    assert border.sum() == 0
    covered = [mask[0].amax(1 - axis).nonzero() for mask in alpha for axis in (0, 1)]
    spans = [(c.max() - c.min() + 1).item() / 48 for c in covered]
    assert 0.47 <= max(spans) <= 0.85


def test_canonical_shapes_are_fixed_and_seeds_vary_them():
    views = world.turntable(1)

    def picture(seed):
        return world.render("robot", "green", views.w2c, views.tan_half_fov, 32, 32, seed=seed).rgb

    assert torch.equal(picture(None), picture(None))
    assert torch.equal(picture(3), picture(3))
    assert not torch.equal(picture(3), picture(4))


@pytest.mark.parametrize(("kind", "color"), [("zebra", "red"), ("duck", "mauve")])
def test_unknown_names_are_told_with_the_known_ones(kind, color):
    with pytest.raises(UserError, match=r"unknown (kind|colour).*(mushroom|purple)"):
        world.sculpt(kind, color)


def test_photographs_repeat_from_their_generator_and_obey_the_law():
    def shot():
        return world.photograph("mug", 6, 16, torch.Generator().manual_seed(5))

    first, second = shot(), shot()
    assert torch.equal(first.rgb, second.rgb)
    assert torch.equal(first.color, second.color)
    law = world.CameraLaw(high_share=0.0, closeup_share=0.0)
    views = world.draw_views(500, law, torch.Generator().manual_seed(0))
    low, high = law.elevation_deg
    assert low <= views.elevation_deg.min() < low + 5
    assert high - 5 < views.elevation_deg.max() <= high
    eye = views.w2c.inverse()[:, :3, 3]
    expected = torch.rad2deg(torch.atan2(eye[:, 0], eye[:, 1]))
    off = (expected - views.azimuth_deg + 180) % 360 - 180
    assert off.abs().max() < 4  # only the look-at jitter
