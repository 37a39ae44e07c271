"""An avatar's page in a real browser: the poses of the rasterizer, played and paused."""

import json
import math

import numpy as np
import pytest
import torch

from gs_ssd.body import clips, mannequin, surface
from gs_ssd.export.avatar_file import bind
from gs_ssd.export.splats import from_gaussians, to_gaussians
from gs_ssd.render.renderer import render
from gs_ssd.scene import initialize
from gs_ssd.scene.camera import at_angles
from gs_ssd.scene.initialize import InitializeConfig
from gs_ssd.viewer.motion import Moving
from gs_ssd.viewer.page import write_page

pytestmark = pytest.mark.browser
COLORS = [[0.9, 0.7, 0.6], [0.2, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.2, 0.8], [0.1, 0.1, 0.1]]


@pytest.fixture(scope="module")
def avatar():
    body = mannequin.create()
    skin = surface.sample(body, 3000, torch.Generator().manual_seed(0))
    colors = torch.tensor(COLORS)[skin.regions]
    config = InitializeConfig(opacity=0.9, scale=0.02, keep_colors=True, sh_degree=1)
    splat = initialize.from_points(skin.points, colors, config)
    generator = torch.Generator().manual_seed(1)
    splat.sh_rest = 0.15 * torch.randn(splat.sh_rest.shape, generator=generator)
    splat.log_scales = splat.log_scales + torch.tensor([0.5, 0.0, -1.0])
    splat.quats_wxyz = torch.randn(splat.quats_wxyz.shape, generator=generator)
    splat.logit_opacities[::9] = -8.0  # the page leaves these out, and their joints with them
    return bind(from_gaussians(splat), skin.weights, body)


@pytest.fixture
def page_file(avatar, tmp_path):
    motions = [clips.sample(name, 24.0, avatar.skeleton) for name in ("walk", "wave")]
    moving = Moving(avatar, motions)
    write_page(tmp_path / "a.html", avatar.splats, title="a person", turn=False, moving=moving)
    return tmp_path / "a.html"


@pytest.mark.parametrize(("clip", "frame"), [("walk", 7), ("wave", 5)])
def test_its_poses_are_the_rasterizers(avatar, page_file, open_page, picture, clip, frame):
    page = open_page(page_file)
    azimuth, polar, distance = 0.6, 1.35, 3.4
    view = {"azimuth": azimuth, "polar": polar, "distance": distance, "target": [0, 0, 0],
            "fovY": 0.65, "backgroundColor": [0.5, 0.5, 0.5]}  # fmt: skip
    moment = {"clip": clip, "seconds": frame / 24 + 1e-4}
    page.evaluate(f"gsViewer.set({json.dumps(view | moment)})")
    seen = picture(page).astype(float) / 255
    motion = clips.sample(clip, 24.0, avatar.skeleton)
    splat = to_gaussians(avatar.posed(motion.poses[frame]))
    camera = at_angles([azimuth], [polar], radius=distance, fov_y_rad=0.65, size=512)
    with torch.no_grad():
        ours = render(splat, camera, torch.full((1, 3), 0.5)).rgb[0].permute(1, 2, 0).numpy()
        rest = to_gaussians(avatar.splats)
        still = render(rest, camera, torch.full((1, 3), 0.5)).rgb[0].permute(1, 2, 0).numpy()
    assert np.abs(seen - ours.clip(0, 1)).mean() < 4e-3
    assert np.abs(still - ours).mean() > 4 * np.abs(seen - ours).mean()  # the pose matters


def test_it_plays_pauses_and_changes_its_motion(page_file, open_page, until):
    page = open_page(page_file)
    state = "gsViewer.state()"
    assert page.evaluate(state)["clip"] == "walk"
    assert page.evaluate(state)["playing"]
    before = page.evaluate("gsViewer.motion.elapsed")
    until(page, f"gsViewer.motion.elapsed > {before + 0.05}")
    page.keyboard.press("m")
    assert not page.evaluate(state)["playing"]
    at = page.evaluate("gsViewer.motion.elapsed")
    page.wait_for_timeout(200)
    assert page.evaluate("gsViewer.motion.elapsed") == at
    page.get_by_role("button", name="wave").click()
    assert page.evaluate(state) | {"clip": "wave", "playing": True} == page.evaluate(state)
    page.get_by_role("button", name="Play the motion").click()
    assert not page.evaluate(state)["playing"]


def test_who_asks_for_less_motion_gets_a_still(page_file, open_page):
    page = open_page(page_file, reduced_motion="reduce")
    assert page.evaluate("gsViewer.state()")["clip"] is None
    assert not page.evaluate("gsViewer.state()")["playing"]


def test_a_page_without_motions_shows_none_of_their_buttons(avatar, tmp_path, open_page):
    write_page(tmp_path / "still.html", avatar.splats, title="still", turn=False)
    page = open_page(tmp_path / "still.html")
    assert page.locator("#play").is_hidden()
    assert page.locator("#clips").is_hidden()
    page.keyboard.press("m")
    assert not page.evaluate("gsViewer.state()")["playing"]


def test_weights_are_packed_to_a_whole(avatar):
    moving = Moving(avatar, [])
    words = np.frombuffer(moving.packed(np.ones(len(avatar), bool)), "<u4").reshape(-1, 4)
    values = np.stack([words[:, 2] & 65535, words[:, 2] >> 16, words[:, 3] & 65535,
                       words[:, 3] >> 16], 1)  # fmt: skip
    assert (values.sum(1) == 65535).all()
    joints = np.stack([words[:, 0] & 65535, words[:, 0] >> 16, words[:, 1] & 65535,
                       words[:, 1] >> 16], 1)  # fmt: skip
    assert np.array_equal(joints, avatar.joints)
    np.testing.assert_allclose(values / 65535, avatar.weights, atol=6e-5)
    assert math.isclose(float(avatar.weights.sum()), len(avatar), rel_tol=1e-5)
