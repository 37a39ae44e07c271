"""Poses of a training: shares, determinism, and joints that stay within what they can do."""

import math

import pytest
import torch

from gs_ssd.body import mannequin, pose_law
from gs_ssd.body.body import JOINTS, Pose
from gs_ssd.body.pose_law import PoseConfig, PoseLaw
from gs_ssd.body.poses import POSES


@pytest.fixture(scope="module")
def body():
    return mannequin.create()


def test_shares_of_the_sorts_of_poses(body):
    law = PoseLaw(PoseConfig(rest_share=0.25, named_share=0.25, clip_share=0.25), body)
    generator = torch.Generator().manual_seed(0)
    named = [pose.quats_wxyz for name, pose in POSES.items() if name != "a"]
    rest = hand_written = 0
    for _ in range(400):
        quats = law.draw(generator).quats_wxyz
        rest += torch.equal(quats, Pose.rest().quats_wxyz)
        hand_written += any(torch.equal(quats, other) for other in named)
    assert 0.2 < rest / 400 < 0.36  # "a" is among the named ones too
    assert 0.15 < hand_written / 400 < 0.3


def test_a_draw_depends_on_the_generator_alone_and_takes_the_same_numbers_of_it(body):
    law = PoseLaw(PoseConfig(), body)
    one, two = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    for _ in range(8):
        a, b = law.draw(one), law.draw(two)
        assert torch.equal(a.quats_wxyz, b.quats_wxyz)
        assert torch.equal(a.translation, b.translation)
    rest = PoseLaw(PoseConfig(rest_share=1, named_share=0, clip_share=0), body)
    free = PoseLaw(PoseConfig(rest_share=0, named_share=0, clip_share=0), body)
    one, two = torch.Generator().manual_seed(6), torch.Generator().manual_seed(6)
    rest.draw(one)
    free.draw(two)
    assert torch.equal(one.get_state(), two.get_state())


def test_random_poses_keep_their_joints_within_range_and_a_foot_on_the_ground(body):
    law = PoseLaw(PoseConfig(rest_share=0, named_share=0, clip_share=0, spread=1), body)
    generator = torch.Generator().manual_seed(1)
    ankles = [JOINTS.index("right_ankle"), JOINTS.index("left_ankle")]
    for _ in range(50):
        pose = law.draw(generator)
        knee = pose.quats_wxyz[JOINTS.index("right_knee")]
        angle = math.degrees(2 * math.atan2(float(knee[1]), float(knee[0])))
        assert -95.1 <= angle <= 0.1  # it bends backwards alone
        moved = body.transforms(pose)
        height = (moved.position - moved.rest_position)[ankles, 2]
        assert abs(float(height.amin())) < 1e-5


def test_no_spread_is_the_rest_pose(body):
    count = pose_law._num_turns()
    pose = pose_law.random_pose(body, [0.0] * count)
    torch.testing.assert_close(pose.quats_wxyz, Pose.rest().quats_wxyz)


def test_left_mirrors_right(body):
    count = pose_law._num_turns()
    ranges = pose_law._all_ranges()
    shares = {}
    for name, turns in ranges.items():
        for axis, (low, high) in turns.items():
            shares[name, axis] = (low, high)
    assert len(shares) == count
    assert shares["left_shoulder", "y"] == (-38, 125)
    assert shares["left_shoulder", "x"] == shares["right_shoulder", "x"]
