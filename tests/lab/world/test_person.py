"""A person in any pose: the true object of an avatar."""

import math

import pytest
import torch

from gs_ssd.body import mannequin, parts_picture, surface
from gs_ssd.body.body import Pose
from gs_ssd.body.poses import POSES
from gs_ssd.lab.world import orbit, person
from gs_ssd.lab.world.person import Outfit
from gs_ssd.scene.camera import at_angles


@pytest.fixture(scope="module")
def body():
    return mannequin.create()


def seen(body, pose, azimuth_deg, size=64, outfit=Outfit(), **options):  # noqa: B008 -- frozen
    views = orbit(
        torch.tensor([float(a) for a in azimuth_deg]), torch.zeros(len(azimuth_deg)), 3.35, 36.0
    )
    moved = body.transforms(pose)
    white = torch.ones(1, 3)
    return person.render(
        outfit, moved, views.w2c, views.tan_half_fov, size, background=white, **options
    )


def near(rgb, color):
    """Share of the picture that has this colour, however lit."""
    unit = torch.nn.functional.normalize(torch.tensor(color), dim=0)
    length = rgb.norm(dim=0)
    return float(
        (((rgb * unit[:, None, None]).sum(0) / length.clamp_min(1e-3) > 0.985) & (length < 1.5))
        .float()
        .mean()
    )


def test_the_front_has_a_face_and_the_back_has_none(body):
    outfit = Outfit(
        skin=(0.2, 0.9, 0.2), hair=(0.9, 0.1, 0.9), shirt=(0.8, 0.1, 0.1), trousers=(0.1, 0.1, 0.8)
    )
    front, back = seen(body, Pose.rest(), [0, 180], outfit=outfit).rgb[:, :, 4:16]
    assert near(front, outfit.skin) > 1.5 * near(back, outfit.skin)
    assert near(back, outfit.hair) > near(front, outfit.hair)


def test_shirt_and_trousers_have_the_outfits_colours(body):
    outfit = Outfit(shirt=(0.9, 0.6, 0.1), trousers=(0.1, 0.6, 0.2))
    rgb = seen(body, Pose.rest(), [20], outfit=outfit).rgb[0]
    assert near(rgb[:, :32], outfit.shirt) > 0.02
    assert near(rgb[:, 32:], outfit.trousers) > 0.03
    assert near(rgb[:, 40:], outfit.shirt) == 0


@pytest.mark.parametrize("name", ["a", "sit", "lunge", "reach"])
def test_it_is_where_the_posed_body_is(body, name):
    skin = surface.sample(body, 12_000, torch.Generator().manual_seed(0))
    azimuth = [0.0, 70.0, 200.0]
    truth = seen(body, POSES[name], azimuth).alpha[:, 0] > 0.5
    cameras = at_angles(
        [math.radians(a) for a in azimuth],
        [math.pi / 2] * 3,
        radius=3.35,
        fov_y_rad=math.radians(36),
        size=64,
    )
    told = parts_picture.draw(skin, body.transforms(POSES[name]), cameras, 64).sum(1) > 0.5
    iou = (truth & told).sum((1, 2)) / (truth | told).sum((1, 2))
    assert iou.amin() > 0.75, iou


def test_arms_apart_show_background_between_arm_and_trunk(body):
    alpha = seen(body, POSES["a"], [0], size=128).alpha[0, 0]
    row = alpha[54]  # at the height of the elbows
    runs = int(((row[1:] > 0.5) & (row[:-1] <= 0.5)).sum())
    assert runs == 3  # arm, trunk, arm


def test_proportions_vary_with_the_seed_alone():
    one, two, mean = (person.rest_parts(seed) for seed in (1, 1, None))
    other = person.rest_parts(2)
    same = [(a.part.frame == b.part.frame).all() for a, b in zip(one, two, strict=True)]
    assert all(same)
    assert len(one) == len(other) == len(mean)
    assert [w.joint for w in one] == [w.joint for w in other]
    changed = [(a.part.frame != b.part.frame).any() for a, b in zip(one, other, strict=True)]
    assert any(changed)
