"""An avatar in a file: what is read is what was written, in any pose."""

import numpy as np
import pytest
import torch

from gs_ssd.body import clips, mannequin, surface
from gs_ssd.body.body import Pose
from gs_ssd.body.poses import POSES
from gs_ssd.body.skinning import skin_gaussians
from gs_ssd.errors import UserError
from gs_ssd.export import avatar_file
from gs_ssd.export.avatar_file import bind, read_avatar, write_avatar
from gs_ssd.export.splats import ARRAYS, from_gaussians
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig


@pytest.fixture(scope="module")
def body():
    return mannequin.create()


@pytest.fixture(scope="module")
def gaussians_and_weights(body):
    skin = surface.sample(body, 900, torch.Generator().manual_seed(3))
    splat = initialize.from_points(skin.points, None, InitializeConfig(scale=0.02, sh_degree=1))
    generator = torch.Generator().manual_seed(0)
    splat.sh_rest = torch.randn(splat.sh_rest.shape, generator=generator)
    splat.quats_wxyz = torch.randn(splat.quats_wxyz.shape, generator=generator)
    return splat, skin.weights


@pytest.fixture
def avatar(gaussians_and_weights, body):
    splat, weights = gaussians_and_weights
    return bind(from_gaussians(splat), weights, body)


def test_it_comes_back_to_the_bit_and_the_rest_pose_is_the_splat(avatar, tmp_path):
    write_avatar(tmp_path / "avatar.npz", avatar)
    again = read_avatar(tmp_path / "avatar.npz")
    assert again.skeleton.joint_names == avatar.skeleton.joint_names
    assert np.array_equal(again.joints, avatar.joints)
    assert np.array_equal(again.weights, avatar.weights)
    rest = again.posed(Pose.rest())
    for name in ARRAYS:
        assert np.array_equal(getattr(rest, name), getattr(avatar.splats, name)), name


def test_its_poses_are_those_of_the_whole_weights(avatar, gaussians_and_weights, body):
    splat, weights = gaussians_and_weights
    for name in ("t", "sit", "hands_on_hips"):
        whole = from_gaussians(skin_gaussians(splat, weights, body.transforms(POSES[name])))
        posed = avatar.posed(POSES[name])
        for array in ARRAYS:
            np.testing.assert_allclose(getattr(posed, array), getattr(whole, array), atol=1e-4)


def test_taking_some_splats_takes_their_joints(avatar):
    some = avatar.take(np.arange(0, len(avatar), 3))
    whole, part = avatar.posed(POSES["t"]), some.posed(POSES["t"])
    np.testing.assert_array_equal(part.means, whole.means[::3])


ROOT = r"npz: the body's joint 0 \(pelvis\) has the parent {}; it is the root, whose parent is -1"
FOURTH = r"npz: the body's joint 3 \(\w+\) has the parent {}; it must be an earlier joint, 0 to 2"


def with_fourth(parents, parent):
    return np.where(np.arange(len(parents)) == 3, parent, parents)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"joints": lambda joints: joints + 40}, "joints that the skeleton does not have"),
        ({"weights": lambda weights: weights * 0.5}, "do not sum to one"),
        ({"weights": lambda weights: weights[:-1]}, "weights for"),
        ({"body_weights": lambda weights: weights[:-1]}, "vertices of the body; each needs one"),
        ({"body_faces": lambda faces: faces + 9000}, "vertices that it does not have"),
        ({"joint_positions": lambda at: at[:5]}, r"avatar\.npz: the body names 17 joints"),
        ({"parents": lambda parents: parents + 1}, ROOT.format(0)),
        ({"parents": lambda parents: np.where(parents < 0, -5, parents)}, ROOT.format(-5)),
        ({"parents": lambda parents: with_fourth(parents, -1)}, FOURTH.format(-1)),
        ({"parents": lambda parents: with_fourth(parents, 3)}, FOURTH.format(3)),
        (
            {"parents": lambda parents: parents + 0.5},
            r"avatar\.npz: parents are float64, not whole",
        ),
        ({"joints": lambda joints: joints.astype(np.int64) + 2**32}, "that the skeleton does not"),
        ({"joints": lambda joints: joints + 0.5}, r"avatar\.npz: joints are float64, not whole"),
        ({"body_faces": lambda faces: faces + 0.5}, r"npz: body_faces are float64, not whole"),
        ({"means": lambda means: means[:-1]}, "damaged or no avatar"),
        (
            {"body_vertices": lambda at: at * np.nan},
            r"avatar\.npz: the positions of the body's v",
        ),
        ({"joint_positions": lambda at: at / 0.0}, r"avatar\.npz: the positions of the body's j"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_does_not_fit_is_refused_by_name(avatar, tmp_path, change, sentence):
    write_avatar(tmp_path / "avatar.npz", avatar)
    arrays = dict(np.load(tmp_path / "avatar.npz"))
    np.savez(tmp_path / "avatar.npz", **arrays | {k: f(arrays[k]) for k, f in change.items()})
    with pytest.raises(UserError, match=sentence):
        read_avatar(tmp_path / "avatar.npz")


def test_files_that_are_none_are_refused(avatar, tmp_path):
    path = tmp_path / "avatar.npz"
    with pytest.raises(UserError, match="runs with asset=avatar leave one"):
        read_avatar(path)
    write_avatar(path, avatar)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="damaged or no avatar"):
        read_avatar(path)
    np.savez(path, format="another")
    with pytest.raises(UserError, match="its format is another"):
        read_avatar(path)
    np.savez(path, format=avatar_file.FORMAT)
    with pytest.raises(UserError, match="damaged or no avatar"):
        read_avatar(path)


def test_clips_have_their_length_at_any_rate_and_loop(body):
    walk = clips.sample("walk", 24.0, body)
    assert len(walk.poses) == round(1.1 * 24)
    assert walk.loop
    again, _ = clips.poses.CLIPS["walk"]
    torch.testing.assert_close(walk.poses[0].quats_wxyz, again(1.0).quats_wxyz, atol=1e-6, rtol=0)
    assert len(clips.sample("wave", 12.0, body).poses) == round(1.6 * 12)
    with pytest.raises(UserError, match=r"no clip 'moonwalk'; choose walk, wave"):
        clips.sample("moonwalk", 24.0, body)
    with pytest.raises(UserError, match=r"nowhere\.bvh: no such file"):
        clips.sample("nowhere.bvh", 24.0, body)
    with pytest.raises(UserError, match="lower the rate"):
        clips.sample("walk", 1e5, body)
