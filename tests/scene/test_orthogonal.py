"""Groups of four cameras a quarter turn apart, alike in all else, jitter included."""

import dataclasses
import math

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import viewpoints
from gs_ssd.scene.camera import in_groups
from gs_ssd.scene.viewpoints import CloseupConfig, ViewpointConfig, Viewpoints

JITTERED = Viewpoints(
    num_views=8, azimuths="orthogonal", jitter_position=0.3, jitter_target=0.2, jitter_up=0.1
)


def sample(config, seed=0, step=0):
    return viewpoints.sample(config, step, 100, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0, 99])
def test_groups_are_rigid_turns_of_one_camera(seed, step):
    cameras = sample(JITTERED, seed, step)
    assert in_groups(cameras, 4)
    for group in (cameras[:4], cameras[4:]):
        for view in range(4):
            angle = view * math.pi / 2
            # Azimuth grows from +y towards +x: clockwise as seen from above.
            cos, sin = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
            torch.testing.assert_close(
                group.positions[view], turn @ group.positions[0], rtol=1e-4, atol=1e-5
            )
    assert not torch.allclose(cameras.radius[:1], cameras.radius[4:5])


def test_all_sides_are_seen_and_no_start_is_preferred():
    starts = torch.cat([sample(JITTERED, seed).azimuth_rad[::4] for seed in range(200)])
    quarters = torch.histc(starts, bins=4, min=-math.pi, max=math.pi)
    assert quarters.min() > 60  # of 400


def test_closeups_are_of_whole_groups():
    config = dataclasses.replace(
        JITTERED, closeup=CloseupConfig(share=((0.0, 0.5),), fov_y_deg=(5, 6), look_at_jitter=0.2)
    )
    cameras = sample(config)
    assert cameras.closeup.reshape(2, 4).sum(dim=1).tolist() in ([0, 4], [4, 0])
    assert in_groups(cameras, 4)


def test_a_law_of_the_number_of_views_counts_whole_groups():
    config = dataclasses.replace(JITTERED, num_views_law=((0.0, 9.0), (1.0, 1.0)))
    counts = [len(sample(config, step=step)) for step in (0, 50, 99)]
    assert counts == [8, 4, 4]
    assert all(in_groups(sample(config, step=step), 4) for step in (0, 50, 99))


def test_views_come_in_fours():
    with pytest.raises(UserError, match=r"viewpoints\.num_views=6 is no multiple"):
        viewpoints.resolve(ViewpointConfig(num_views=6, azimuths="orthogonal"), {}, 64)
