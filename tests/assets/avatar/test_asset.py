"""A splat on a body through the unchanged trainer: it trains in many poses, is saved, resumed to
the same bits, and keeps to its bones."""

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.assets.avatar.asset import HOME, AvatarAsset
from gs_ssd.assets.base import TrainingStep
from gs_ssd.body.body import JOINTS, Pose
from gs_ssd.body.poses import POSES, pose
from gs_ssd.errors import UserError
from gs_ssd.job import Job
from gs_ssd.maths import rotation
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.base import BodyPicture
from gs_ssd.render.renderer import render
from gs_ssd.scene.camera import at_angles
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
SMALL = [
    "asset=avatar", "num_steps=6", "initialize.num_points=400", "avatar.surface_points=1500",
    "avatar.rebind_every=2", "densify.adaptive.max_splats=600",
    "densify.adaptive.every=2", "densify.adaptive.start_share=0",
    "output.turntable_frames=0", "output.preview_every=0",
]  # fmt: skip


def small(*overrides: str) -> configs.ExperimentConfig:
    return configs.load(SMOKE, [*SMALL, *overrides])


def avatar(*overrides: str) -> AvatarAsset:
    asset = choice.create(small(*overrides), torch.device("cpu"))
    assert isinstance(asset, AvatarAsset)
    asset.initialize(torch.Generator().manual_seed(0))
    return asset


def step(index: int) -> TrainingStep:
    return TrainingStep(index, 10, torch.Generator().manual_seed(index))


def test_it_trains_and_resumes_to_the_same_bits(tmp_path):
    config = small()
    whole = Trainer(config, tmp_path / "whole")
    before = whole.asset.gaussians.means.detach().clone()
    whole.fit()
    Trainer(config, tmp_path / "parts").fit(until=3)
    resumed = Trainer(config, tmp_path / "parts", resume=True)
    resumed.fit()
    assert len(whole.asset.gaussians) > len(before)  # densification ran
    for name, tensor in whole.asset.gaussians.parameters().items():
        assert torch.equal(tensor, resumed.asset.gaussians.parameters()[name]), name
    assert torch.equal(whole.asset.trained.labels[HOME], resumed.asset.trained.labels[HOME])


def test_the_rest_pose_is_the_splat_itself_to_the_bit():
    asset = avatar("initialize.sh_degree=1")
    shown = asset.posed(Pose.rest())
    for name, tensor in asset.gaussians.parameters().items():
        assert torch.equal(tensor, shown.parameters()[name]), name


def test_a_rigid_motion_of_the_body_is_the_camera_moved_the_other_way():
    asset = avatar("initialize.num_points=1500", "initialize.scale=0.02", "initialize.opacity=0.9")
    angle, shift = math.radians(35), torch.tensor([0.1, -0.2, 0.15])
    quats = Pose.rest().quats_wxyz.clone()
    quats[0] = rotation.quat_about(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(angle))
    moved = Pose(quats, shift)
    camera = at_angles([0.3], [1.3], radius=3.4, fov_y_rad=0.7, size=96)
    pelvis = asset.body.joint_positions[0]
    turn = rotation.quat_to_matrix(quats[0])
    motion = torch.eye(4)
    motion[:3, :3], motion[:3, 3] = turn, pelvis + shift - turn @ pelvis
    other = dataclasses.replace(camera, w2c=camera.w2c @ motion)
    grey = torch.full((1, 3), 0.5)
    with torch.no_grad():
        one = render(asset.posed(moved), camera, grey)
        two = render(asset.posed(Pose.rest()), other, grey)
    assert float(two.alpha.mean()) > 0.05
    torch.testing.assert_close(one.rgb, two.rgb, atol=1e-4, rtol=0)


def test_each_step_has_a_pose_of_its_own_and_pictures_for_people_have_the_configs():
    asset = avatar("avatar.shown=t", "avatar.poses.rest_share=0")
    camera = at_angles([0.0], [1.4], radius=3.4, fov_y_rad=0.7, size=64)
    white = torch.ones(1, 3)
    seen = []
    for index in range(4):
        asset.begin_step(step(index))
        seen.append(asset.render(camera, white, torch.Generator()).rgb.detach())
    assert all((one - two).abs().amax() > 0.05 for one, two in itertools.pairwise(seen))
    with torch.no_grad():
        shown = asset.render(camera, white).rgb
        torch.testing.assert_close(shown, render(asset.posed(POSES["t"]), camera, white).rgb)
    asset.begin_step(step(2))
    again = asset.render(camera, white, torch.Generator()).rgb
    assert torch.equal(again, seen[2])


def test_splats_start_on_the_surface_and_stay_near_it():
    asset = avatar("avatar.max_offset=0.05")
    surface = asset.binding.points[asset.trained.labels[HOME]]
    assert (asset.gaussians.means - surface).norm(dim=1).amax() < 0.05
    with torch.no_grad():
        asset.gaussians.means += torch.tensor([0.3, 0.0, 0.0])
    asset.after_step(step(0))
    offset = asset.gaussians.means - asset.binding.points[asset.trained.labels[HOME]]
    assert offset.norm(dim=1).amax() <= 0.05 + 1e-6


def test_a_splat_that_comes_to_another_bone_is_dropped_and_one_that_slides_along_its_limb_is_not():
    asset = avatar("avatar.rebind_every=1", "avatar.max_offset=1.0", "densify.policy=none")
    bones = asset.surface.bones
    arm = (bones == JOINTS.index("right_elbow")).nonzero()[0, 0]
    thigh = (bones == JOINTS.index("left_hip")).nonzero()[0, 0]
    upper = (bones == JOINTS.index("right_shoulder")).nonzero()[0, 0]
    with torch.no_grad():
        for row, there in ((0, thigh), (1, upper), (2, arm)):
            asset.trained.labels[HOME][row] = arm
            asset.gaussians.means[row] = asset.surface.points[there]
    count = len(asset.gaussians)
    done = asset.after_step(step(0))
    assert done["lost"] == 1
    assert len(asset.gaussians) == count - 1
    assert asset.trained.labels[HOME][:2].tolist() == [int(upper), int(arm)]


def test_children_inherit_the_bone_of_the_splat_that_they_are_made_of():
    asset = avatar("densify.policy=mcmc", "densify.mcmc.every=1", "densify.mcmc.noise=0",
                   "densify.mcmc.budget=480", "densify.mcmc.growth=0.2")  # fmt: skip
    with torch.no_grad():
        asset.gaussians.logit_opacities[:50] = -9.0  # dead: they move to living ones
    done = asset.after_step(step(0))
    assert (done["relocated"], done["added"]) == (50, 80)
    home = asset.trained.labels[HOME]
    assert len(home) == 480
    here = asset.surface.bones[asset.binding.nearest(asset.gaussians.means)]
    agree = (asset.body.adjacent()[asset.surface.bones[home], here]).float().mean()
    assert agree == 1.0


class ToldThePose(AnalyticPrior):
    """The analytic prior with a picture of the body, which it keeps."""

    def predict_noise(self, x_t, t, condition):
        self.seen = condition.image
        return super().predict_noise(x_t, t, condition)


def told_the_pose(kind: str, size: int) -> ToldThePose:
    prior = ToldThePose.discs()
    prior.body_picture = BodyPicture(kind, size)
    return prior


@pytest.mark.parametrize(("kind", "channels"), [("regions", 5), ("openpose", 3)])
def test_a_prior_is_shown_the_body_where_the_pictures_have_it(kind, channels):
    if kind == "openpose":
        pytest.importorskip("cv2", reason="needs opencv-python-headless")
    prior = told_the_pose(kind, 48)
    job = Job(small("avatar.poses.rest_share=0"), prior)
    job.step()
    assert prior.seen.shape[1:] == (channels, 48, 48)
    picture = prior.seen.amax(dim=1)
    assert 0.01 < float((picture > 0.1).float().mean()) < 0.3


def test_view_prompts_follow_the_bodys_facing():
    asset = avatar()
    camera = at_angles([0.5], [1.4], radius=3.4, fov_y_rad=0.7, size=64)
    assert torch.equal(asset.towards(camera).azimuth_rad, camera.azimuth_rad)
    asset._pose = pose({"pelvis": [("z", 90.0)]})  # to its left, which is -x
    told = asset.towards(camera)
    torch.testing.assert_close(told.azimuth_rad, torch.tensor([0.5 + math.pi / 2]))
    assert torch.equal(told.w2c, camera.w2c)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["avatar.poses.rest_share=0.9", "avatar.poses.named_share=0.3"], "add up to"),
        (["avatar.body=smpl"], r"avatar\.body"),
        (["avatar.poses.named=[moonwalk]"], r"avatar\.poses\.named"),
        (["avatar.poses.files=[nowhere.bvh]"], r"nowhere\.bvh: no such file"),
    ],
)
def test_bad_settings_are_refused_by_name(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        avatar(*overrides)


def test_a_prior_that_needs_a_body_refuses_an_asset_without_one():
    config = configs.load(SMOKE, [])
    with pytest.raises(UserError, match=r"regions.*set asset=avatar"):
        Job(config, told_the_pose("regions", 32))
    with pytest.raises(UserError, match=r"guidance\.flip"):
        Job(small("guidance.flip=0.5"), told_the_pose("openpose", 32))


def test_a_checkpoint_of_another_surface_or_kind_is_refused():
    state = avatar().state_dict()
    other = choice.create(small("avatar.surface_points=900"), torch.device("cpu"))
    with pytest.raises(UserError, match=r"avatar\.surface_points"):
        other.load_state_dict(state)
    fresh = choice.create(small(), torch.device("cpu"))
    with pytest.raises(UserError, match="bound to no surface"):
        fresh.load_state_dict({**state, HOME: state[HOME][:-1]})
