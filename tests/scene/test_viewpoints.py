"""Where the cameras stand: LucidDreamer's widening table, the angle law, strata, the prior's own
ranges."""

import dataclasses
import math

import pytest
import torch
from pydantic import ValidationError

from gs_ssd.errors import UserError
from gs_ssd.scene import camera, viewpoints
from gs_ssd.scene.viewpoints import ViewpointConfig


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


FACE = viewpoints.resolve(ViewpointConfig(azimuth_deg=(-80.0, 80.0)), {}, 512)


@pytest.mark.parametrize(
    ("iteration", "fov", "radius", "azimuth"),
    [  # the recipe's table
        (1, (0.32, 0.60), (5.20, 5.50), 80),
        (499, (0.32, 0.60), (5.20, 5.50), 80),
        (500, (0.24, 0.60), (4.94, 5.225), 120),
        (1000, (0.18, 0.60), (4.693, 5.0), 180),
        (1500, (0.16, 0.60), (4.458, 5.0), 180),
        (2000, (0.16, 0.60), (4.235, 5.0), 180),
        (3500, (0.16, 0.60), (3.631, 5.0), 180),
        (4000, (0.16, 0.60), (3.5, 5.0), 180),
        (5000, (0.16, 0.60), (3.5, 5.0), 180),
    ],
)
def test_widening_follows_the_recipes_table(iteration, fov, radius, azimuth):
    ranges = viewpoints.ranges_at(FACE, iteration - 1, 5000)
    assert ranges.fov_rad == pytest.approx(fov, abs=1e-3)
    assert ranges.radius == pytest.approx(radius, abs=1e-3)
    assert ranges.azimuth_rad == pytest.approx((-math.radians(azimuth), math.radians(azimuth)))
    assert ranges.polar_rad == pytest.approx((math.radians(45), math.radians(105)))


@pytest.mark.parametrize(
    ("azimuth", "late"),
    [  # the range of the first step, and what widening makes of it in the end
        ((0.0, 360.0), (0.0, 360.0)),
        ((90.0, 270.0), (90.0, 270.0)),
        ((-270.0, -90.0), (-270.0, -90.0)),
        ((20.0, 80.0), (20.0, 180.0)),
        ((-60.0, 200.0), (-180.0, 200.0)),
    ],
)
def test_widening_never_takes_azimuths_away(azimuth, late):
    config = viewpoints.resolve(ViewpointConfig(azimuth_deg=azimuth), {}, 64)
    before = viewpoints.ranges_at(config, 0, 5000).azimuth_rad
    for step in range(499, 5000, 500):
        low, high = viewpoints.ranges_at(config, step, 5000).azimuth_rad
        assert low <= before[0]
        assert high >= before[1]
        before = low, high
    assert before == pytest.approx([math.radians(end) for end in late])


def test_polar_angles_beyond_their_limits_stay_where_they_are():
    law = viewpoints.WideningConfig(polar_limits_deg=(60.0, 90.0))
    config = viewpoints.resolve(ViewpointConfig(polar_deg=(45.0, 100.0), widening=law), {}, 64)
    assert (
        viewpoints.ranges_at(config, 4999, 5000).polar_rad
        == viewpoints.ranges_at(config, 0, 5000).polar_rad
    )
    inside = dataclasses.replace(config, polar_deg=(70.0, 80.0))
    assert viewpoints.ranges_at(inside, 4999, 5000).polar_rad == pytest.approx(
        (math.radians(60), math.radians(90))
    )


def test_cameras_stay_in_their_ranges_look_at_the_object_and_repeat_with_the_generator():
    for step in (0, 700, 4500):
        cameras = viewpoints.sample(FACE, step, 5000, seeded(step))
        again = viewpoints.sample(FACE, step, 5000, seeded(step))
        assert torch.equal(cameras.w2c, again.w2c)
        ranges = viewpoints.ranges_at(FACE, step, 5000)
        for values, (low, high) in (
            (cameras.radius, ranges.radius),
            (cameras.polar_rad, ranges.polar_rad),
        ):
            assert ((values >= low) & (values <= high)).all()
        origin = cameras.w2c[:, :3, 3]
        assert (origin[:, 2] > 3).all()
        assert (origin[:, :2].norm(dim=-1) < 0.5).all()  # off the axis by the jitter alone


def test_without_jitter_a_camera_stands_where_its_angles_say():
    plain = dataclasses.replace(FACE, jitter_position=0.0, jitter_target=0.0, jitter_up=0.0)
    cameras = viewpoints.sample(plain, 0, 5000, seeded(3))
    expected = torch.stack(
        [
            cameras.radius * cameras.polar_rad.sin() * cameras.azimuth_rad.sin(),
            cameras.radius * cameras.polar_rad.sin() * cameras.azimuth_rad.cos(),
            cameras.radius * cameras.polar_rad.cos(),
        ],
        dim=-1,
    )
    torch.testing.assert_close(cameras.positions, expected)
    torch.testing.assert_close(cameras.w2c[:, :2, 3], torch.zeros(4, 2), atol=1e-6, rtol=0)


def test_stratified_azimuths_fall_one_into_each_slice():
    config = viewpoints.resolve(ViewpointConfig(num_views=8), {}, 64)
    for seed in range(20):
        azimuth = viewpoints.sample(config, 0, 5000, seeded(seed)).azimuth_rad
        slices = ((azimuth + math.pi) / (2 * math.pi) * 8).floor()
        assert slices.sort().values.tolist() == list(range(8))


def test_the_angle_law_is_the_recipes():
    generator = seeded(1)
    u = torch.rand(200_000, generator=generator)
    values = viewpoints.angle_quantile(u, -1.0, 3.0, 1.5)
    sign = torch.rand(200_000, generator=generator).sub(0.5).sign()
    recipe = 1.0 + sign * torch.rand(200_000, generator=generator) ** 1.5 * 2.0
    shares = torch.linspace(0.01, 0.99, 50)
    torch.testing.assert_close(values.quantile(shares), recipe.quantile(shares), atol=0.03, rtol=0)


def test_a_shared_field_of_view_is_one_a_step():
    shared = dataclasses.replace(FACE, fov="shared")
    tan = viewpoints.sample(shared, 0, 5000, seeded(0)).tan_half_fov
    assert (tan == tan[0, 0]).all()
    assert viewpoints.sample(FACE, 0, 5000, seeded(0)).tan_half_fov[:, 0].unique().numel() == 4


def test_a_priors_own_cameras_fill_what_is_open_and_do_not_widen():
    metadata = {"camera": {"radius": [3.0, 3.9], "fov_y_deg": [38, 44], "elevation_deg": [-15, 60]}}
    config = viewpoints.resolve(ViewpointConfig(radius=(3.2, 3.3)), metadata, 64)
    assert config.radius == (3.2, 3.3)
    assert config.polar_deg == (30.0, 105.0)
    assert config.fov_y_deg == (38.0, 44.0)
    assert config.image_size == 64
    assert viewpoints.ranges_at(config, 4999, 5000) == viewpoints.ranges_at(config, 0, 5000)


@pytest.mark.parametrize(
    "changed", [{"every_share": 0.02}, {"angle_factor": 2.0}, {"fov_limits_deg": (10.0, 40.0)}]
)
def test_a_widening_of_ones_own_is_refused_where_the_prior_names_its_cameras(changed):
    config = ViewpointConfig(widening=viewpoints.WideningConfig(**changed))
    with pytest.raises(
        UserError, match=r"viewpoints\.widening .*viewpoints\.widening\.every_share=0"
    ):
        viewpoints.resolve(config, NEAR, 64)
    assert viewpoints.resolve(config, {}, 64).widening == config.widening
    never = dataclasses.replace(
        config, widening=dataclasses.replace(config.widening, every_share=0.0)
    )
    assert viewpoints.resolve(never, NEAR, 64).widening.every_share == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"radius": (5.0, 4.0)},
        {"num_views": 0},
        {"image_size": 4},
        {"fov_y_deg": (30.0, 175.0)},
        {"radius": (0.1, 1.0)},
    ],
)
def test_ranges_without_sense_are_refused_by_name(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        ViewpointConfig(**bad)


NEAR = {
    "camera": {
        "fov_y_deg": [38, 42],
        "closeup": {"fov_y_deg": [22, 34], "look_at_jitter": 0.3, "template": "x"},
    }
}


def with_closeups(*share: tuple[float, float]) -> ViewpointConfig:
    return viewpoints.resolve(
        ViewpointConfig(closeup=viewpoints.CloseupConfig(share=share)), NEAR, 64
    )


def test_closeups_come_when_their_law_says_and_leave_the_other_views_alone():
    config = with_closeups((0.0, 0.0), (0.5, 0.0), (1.0, 0.5))
    plain = viewpoints.resolve(ViewpointConfig(), NEAR, 64)
    counts = []
    for step in range(25):
        assert torch.equal(
            viewpoints.sample(config, 40, 100, seeded(step)).w2c, _sampled(plain, step).w2c
        )
        cameras, ordinary = viewpoints.sample(config, 75, 100, seeded(step)), _sampled(plain, step)
        near, fov = cameras.closeup, 2 * cameras.tan_half_fov[:, 1].atan().rad2deg()
        assert ((fov >= 21.99) & (fov <= 34.01))[near].all()
        assert ((fov >= 37.99) & (fov <= 42.01))[~near].all()
        assert torch.equal(cameras.w2c[~near], ordinary.w2c[~near])
        counts.append(int(near.sum()))
    assert counts == [1] * 25  # a quarter of four views
    assert not any(_sampled(plain, step).closeup.any() for step in range(5))


def _sampled(config, step):
    return viewpoints.sample(config, step, 5000, seeded(step))


def test_a_closeup_moves_camera_and_target_together_so_that_its_angles_stay_true():
    cameras = viewpoints.sample(with_closeups((0.0, 1.0)), 0, 5000, seeded(1))
    assert cameras.closeup.all()
    shift = cameras.positions - camera.orbit_position(
        cameras.azimuth_rad, cameras.polar_rad, cameras.radius
    )
    assert (shift.abs() <= 0.3).all()
    assert shift.norm(dim=-1).min() > 0.02
    seen = (cameras.w2c[:, :3, :3] @ shift[:, :, None])[:, :, 0] + cameras.w2c[:, :3, 3]
    torch.testing.assert_close(
        seen[:, :2], torch.zeros(4, 2), atol=1e-5, rtol=0
    )  # the target is on the axis
    torch.testing.assert_close(seen[:, 2], cameras.radius)


def test_closeups_that_nobody_describes_are_refused():
    config = ViewpointConfig(closeup=viewpoints.CloseupConfig(share=((0.0, 0.5),)))
    with pytest.raises(UserError, match="names no close-ups"):
        viewpoints.resolve(config, {}, 64)


@pytest.mark.parametrize(
    ("num_steps", "first"), [(5000, 500), (1000, 100), (40, 4), (7, 1), (1, 1)]
)
def test_widening_comes_at_the_same_shares_of_any_run(num_steps, first):
    before = viewpoints.first_ranges(FACE)
    changed = [
        s + 1 for s in range(num_steps) if viewpoints.ranges_at(FACE, s, num_steps) != before
    ]
    assert changed[0] == first


def test_the_number_of_views_follows_its_law():
    config = viewpoints.Viewpoints(
        num_views=3, num_views_law=((0.0, 12.0), (0.5, 12.0), (0.5, 1.0))
    )
    counts = [
        len(viewpoints.sample(config, step, 100, torch.Generator().manual_seed(step)))
        for step in (0, 49, 50, 99)
    ]
    assert counts == [12, 12, 1, 1]
