"""Points on a body's outer surface, the regions they belong to, and the picture of those."""

import math

import pytest
import torch

from gs_ssd.body import mannequin, parts_picture, surface
from gs_ssd.body.body import JOINTS, Pose
from gs_ssd.body.poses import POSES, pose
from gs_ssd.prior.outfit import REGIONS
from gs_ssd.render.renderer import render
from gs_ssd.scene import initialize
from gs_ssd.scene.camera import at_angles
from gs_ssd.scene.initialize import InitializeConfig


@pytest.fixture(scope="module")
def body():
    return mannequin.create()


@pytest.fixture(scope="module")
def skin(body):
    return surface.sample(body, 12_000, torch.Generator().manual_seed(0))


def test_winding_numbers_count_the_capsules_around_a_point(body):
    points = torch.tensor([
        [0.0, 0.0, 0.30],  # where the trunk's capsules overlap
        [0.12, 0.005, -0.30],  # in one thigh
        [0.5, 0.0, 0.5],  # beside the head
        [0.0, 0.0, -0.4],  # between the legs
    ])  # fmt: skip
    found = surface.winding(body, points)
    assert found[0] > 1.9
    torch.testing.assert_close(found[1:], torch.tensor([1.0, 0.0, 0.0]), atol=1e-3, rtol=0)


def test_points_lie_on_the_outside_only_and_weights_sum_to_one(body, skin):
    assert surface.winding(body, skin.points + surface.OUTWARDS * skin.normals).abs().amax() < 0.5
    assert surface.winding(body, skin.points - surface.OUTWARDS * skin.normals).amin() > 0.5
    torch.testing.assert_close(skin.weights.sum(dim=1), torch.ones(len(skin)))
    assert 0.5 < len(skin) / 12_000 < 0.9  # the rest lay inside a neighbouring capsule


def test_regions_are_where_people_wear_them(skin):
    where = {name: skin.points[skin.regions == index] for index, name in enumerate(REGIONS)}
    assert all(len(points) > 100 for points in where.values())
    assert where["hair"][:, 2].amin() > 0.6
    assert where["shoes"][:, 2].amax() < -0.7
    assert where["trousers"][:, 2].amax() < 0.25
    face = skin.points[(skin.regions == REGIONS.index("skin")) & (skin.points[:, 2] > 0.66)]
    assert face[:, 1].mean() > 0.05
    behind = where["hair"][where["hair"][:, 1] < -0.03]
    assert len(behind) > 50


def cameras(*azimuths: float, size: int = 64):
    polar = [1.4] * len(azimuths)
    return at_angles(azimuths, polar, radius=3.35, fov_y_rad=math.radians(38), size=size)


@pytest.mark.parametrize("name", ["a", "sit", "lunge"])
def test_the_picture_of_regions_covers_what_the_rasterizer_covers(body, skin, name):
    from gs_ssd.body.skinning import skin_gaussians

    moved = body.transforms(POSES[name])
    seen = cameras(0.0, 1.0, 2.5)
    picture = parts_picture.draw(skin, moved, seen, 64)
    assert picture.amin() >= 0
    assert picture.sum(dim=1).amax() <= 1 + 1e-6
    config = InitializeConfig(opacity=0.99, scale=0.003)
    splat = skin_gaussians(initialize.from_points(skin.points, None, config), skin.weights, moved)
    fine = cameras(0.0, 1.0, 2.5, size=512)
    alpha = (render(splat, fine, torch.zeros(3, 3)).alpha[:, 0] > 0.5).float()
    theirs = torch.nn.functional.avg_pool2d(alpha, 8)
    ours = picture.sum(dim=1)
    assert (ours[theirs > 0.999] > 0.7).float().mean() > 0.995  # nothing of the body is missing
    near = torch.nn.functional.max_pool2d(theirs[:, None], 3, 1, 1)[:, 0] > 0
    assert not (ours[~near] > 0).any()  # and nothing is drawn beside it
    assert 1.0 < float(ours.sum() / theirs.sum()) < 1.4  # half a fine cell wider all round


def test_a_back_view_shows_hair_where_the_front_shows_the_face(body, skin):
    picture = parts_picture.draw(skin, body.transforms(Pose.rest()), cameras(0.0, math.pi), 64)
    head = picture[:, :, 5:14]
    face, hair = (head[:, REGIONS.index(name)].sum((1, 2)) for name in ("skin", "hair"))
    assert face[0] > 2 * face[1]  # which has a neck
    assert hair[1] > 1.5 * hair[0]


def test_an_arm_in_front_of_the_trunk_hides_it(body, skin):
    reach = body.transforms(pose({"right_shoulder": [("y", 45.0), ("x", 90.0)]}))
    picture = parts_picture.draw(skin, reach, cameras(0.0), 64)
    hanging = parts_picture.draw(skin, body.transforms(Pose.rest()), cameras(0.0), 64)
    hands = REGIONS.index("skin")
    chest = (slice(None), slice(18, 34), slice(16, 48))  # of the picture, from the right shoulder
    assert picture[(0, hands)][chest[1:]].sum() > hanging[(0, hands)][chest[1:]].sum() + 2


def test_an_adjacent_joint_is_a_parent_or_child(body):
    near = body.adjacent()
    elbow = JOINTS.index("left_elbow")
    names = {JOINTS[i] for i in near[elbow].nonzero()[:, 0]}
    assert names == {"left_shoulder", "left_elbow", "left_wrist"}
    assert torch.equal(near, near.T)
