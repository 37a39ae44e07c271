"""The measure of avatars: the body itself in the true colours is right, and faults are seen."""

import dataclasses

import numpy as np
import pytest
import torch

from gs_ssd.body import mannequin, surface
from gs_ssd.export.avatar_file import bind
from gs_ssd.export.splats import SH_C0, from_gaussians
from gs_ssd.lab.evaluate import avatars
from gs_ssd.lab.world.person import Outfit
from gs_ssd.prior.outfit import REGIONS
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig

OUTFIT = Outfit()


@pytest.fixture(scope="module")
def skin():
    return surface.sample(mannequin.create(), 9000, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def true_avatar(skin):
    colors = torch.tensor([OUTFIT.of(region) for region in range(len(REGIONS))])[skin.regions]
    config = InitializeConfig(scale=0.006, opacity=0.95, keep_colors=True)
    splat = initialize.from_points(skin.points, 0.8 * colors, config)
    return bind(from_gaussians(splat), skin.weights, mannequin.create())


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(avatars, "VIEWS", 3)
    monkeypatch.setattr(avatars, "SIZE", 64)
    poses = {name: avatars.UNSEEN[name] for name in ("kick", "star")}
    monkeypatch.setattr(avatars, "UNSEEN", poses)


def painted(avatar, rows, rgb):
    sh = avatar.splats.sh.copy()
    sh[rows, 0] = (np.array(rgb) - 0.5) / SH_C0
    return dataclasses.replace(avatar, splats=dataclasses.replace(avatar.splats, sh=sh))


def test_the_body_in_the_true_colours_passes(true_avatar):
    found = avatars.measure(true_avatar, OUTFIT)
    assert found.silhouette_iou > 0.85
    assert found.worst_pose_iou > 0.8
    assert found.colors_right == 1.0
    assert found.color_error < 0.15
    assert found.limbs_apart
    assert found.gaps_open > 0.9


def test_a_wrong_shirt_and_a_stiff_body_are_seen(true_avatar, skin):
    green = painted(true_avatar, (skin.regions == REGIONS.index("shirt")).numpy(), (0.1, 0.5, 0.1))
    wrong = avatars.measure(green, OUTFIT)
    right = avatars.measure(true_avatar, OUTFIT)
    assert wrong.colors_right == pytest.approx(2 / 3)
    assert wrong.color_error > right.color_error + 0.1
    stiff = dataclasses.replace(true_avatar, joints=np.zeros_like(true_avatar.joints))
    assert avatars.measure(stiff, OUTFIT).silhouette_iou < right.silhouette_iou - 0.15


def test_limbs_that_fuse_are_seen(true_avatar):
    generator = np.random.default_rng(0)
    splats = true_avatar.splats
    between = splats.means.copy()
    rows = generator.choice(len(between), 2500, replace=False)
    between[rows] = generator.uniform([0.1, -0.05, -0.1], [0.5, 0.05, 0.4], (2500, 3))
    fused = dataclasses.replace(true_avatar, splats=dataclasses.replace(splats, means=between))
    found = avatars.measure(fused, OUTFIT)
    assert not found.limbs_apart
    assert found.gaps_open < 0.8
