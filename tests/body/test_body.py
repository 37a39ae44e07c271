"""The mannequin, its poses and skinning."""

import dataclasses
import math

import pytest
import torch

from gs_ssd.body import mannequin, poses
from gs_ssd.body.body import JOINTS, KEYPOINTS, Pose, Transforms
from gs_ssd.body.skinning import skin_gaussians, skin_points
from gs_ssd.errors import UserError
from gs_ssd.maths import harmonics, rotation
from gs_ssd.render.renderer import render
from gs_ssd.scene import camera
from gs_ssd.scene.gaussians import Gaussians


@pytest.fixture(scope="module")
def body():
    return mannequin.create()


def splat_on(body, count=400, degree=1):
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(body.vertices), generator=generator)[:count]
    bases = harmonics.num_bases(degree) - 1
    gaussians = Gaussians(
        means=body.vertices[chosen],
        log_scales=torch.randn(count, 3, generator=generator) * 0.3 - 3.5,
        quats_wxyz=torch.randn(count, 4, generator=generator),
        logit_opacities=torch.randn(count, generator=generator),
        sh_dc=torch.randn(count, 1, 3, generator=generator),
        sh_rest=torch.randn(count, bases, 3, generator=generator) * 0.3,
    )
    return gaussians, body.weights[chosen]


def test_the_mannequin_stands_upright_facing_plus_y_and_is_symmetric(body):
    low, high = body.vertices.amin(0), body.vertices.amax(0)
    assert 1.7 < float(high[2] - low[2]) < 1.9
    nose, heel = (
        body.keypoint_positions[KEYPOINTS.index("nose")],
        body.keypoint_positions[KEYPOINTS.index("neck")],
    )
    assert nose[1] > heel[1] + 0.1  # the face looks towards +y
    assert body.keypoint_positions[KEYPOINTS.index("right_wrist")][0] > 0.4
    mirrored = body.keypoint_positions * torch.tensor([-1.0, 1.0, 1.0])
    swapped = [
        KEYPOINTS.index(n.replace("right", "?").replace("left", "right").replace("?", "left"))
        for n in KEYPOINTS
    ]
    assert torch.equal(mirrored[swapped], body.keypoint_positions)


def test_faces_look_outwards_and_every_capsule_is_closed(body):
    a, b, c = body.vertices[body.faces].unbind(1)
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert volume > 0.03  # inward faces would give a negative volume
    edges = torch.cat([body.faces[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))])
    forward = {tuple(edge) for edge in edges.tolist()}
    assert len(forward) == len(edges)
    assert all((end, start) in forward for start, end in forward)


def test_weights_sum_to_one_and_are_shared_at_joints_only(body):
    assert torch.allclose(body.weights.sum(1), torch.ones(len(body.vertices)), atol=1e-6)
    assert float(body.weights.min()) >= 0
    assert float((body.weights > 0).sum(1).max()) <= 3


def test_the_identity_pose_returns_the_canonical_splat_bit_for_bit(body):
    gaussians, weights = splat_on(body, degree=3)
    same = skin_gaussians(gaussians, weights, body.transforms(Pose.rest()))
    for name, tensor in gaussians.parameters().items():
        assert torch.equal(getattr(same, name), tensor), name
    assert torch.equal(body.keypoints(body.transforms(Pose.rest())), body.keypoint_positions)


def rigid(turn, shift):
    count = len(JOINTS)
    rest = torch.zeros(count, 3)
    return Transforms(
        rotation.quat_to_matrix(turn).expand(count, 3, 3),
        turn.expand(count, 4),
        rest,
        rest + torch.tensor(shift),
    )


def test_a_rigid_motion_looks_like_the_camera_moved_the_other_way(body):
    gaussians, weights = splat_on(body, degree=3)
    turn = torch.nn.functional.normalize(torch.tensor([0.8, 0.3, -0.4, 0.2]), dim=0)
    shift = [0.1, -0.05, 0.08]
    moved = skin_gaussians(gaussians, weights, rigid(turn, shift))
    cameras = camera.ring(3, 1.2, 3.0, 0.8, 64)
    motion = torch.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation.quat_to_matrix(turn), torch.tensor(shift)
    other = dataclasses.replace(cameras, w2c=cameras.w2c @ motion)
    background = torch.full((3, 3), 0.5)
    seen, expected = render(moved, cameras, background), render(gaussians, other, background)
    assert float((expected.rgb - 0.5).abs().max()) > 0.2  # there is something to see
    assert torch.allclose(seen.rgb, expected.rgb, atol=1e-4)


def test_a_bent_elbow_moves_the_forearm_rigidly_and_leaves_the_rest(body):
    bent = poses.pose({"right_elbow": [("x", 90.0)]})
    after = skin_points(body.vertices, body.weights, body.transforms(bent))
    elbow, wrist = JOINTS.index("right_elbow"), JOINTS.index("right_wrist")
    forearm = body.weights[:, elbow] + body.weights[:, wrist] > 0.9999
    untouched = body.weights[:, [elbow, wrist]].sum(1) == 0
    assert torch.equal(after[untouched], body.vertices[untouched])
    distance = torch.pdist(after[forearm][:50])
    assert torch.allclose(distance, torch.pdist(body.vertices[forearm][:50]), atol=1e-5)
    moved = body.keypoints(body.transforms(bent))[KEYPOINTS.index("right_wrist")]
    rest = body.keypoint_positions[KEYPOINTS.index("right_wrist")]
    assert moved[1] > rest[1] + 0.1  # forwards


def test_the_t_pose_has_level_arms(body):
    points = body.keypoints(body.transforms(poses.POSES["t"]))
    for side in ("right", "left"):
        shoulder, elbow, wrist = (
            points[KEYPOINTS.index(f"{side}_{n}")] for n in ("shoulder", "elbow", "wrist")
        )
        assert abs(float(shoulder[2] - wrist[2])) < 1e-5
        assert abs(float(shoulder[2] - elbow[2])) < 1e-5


@pytest.mark.parametrize("clip", poses.CLIPS)
def test_clips_are_closed_and_move_smoothly(clip, body):
    at, seconds = poses.CLIPS[clip]
    assert seconds > 0
    tracks = torch.stack([body.keypoints(body.transforms(at(i / 48))) for i in range(49)])
    assert torch.allclose(tracks[0], tracks[-1], atol=1e-5)
    steps = (tracks[1:] - tracks[:-1]).norm(dim=-1)
    assert 0.005 < float(steps.max()) < 0.12
    ankles = tracks[:, [KEYPOINTS.index("right_ankle"), KEYPOINTS.index("left_ankle")]]
    assert float(ankles[..., 2].min()) > -0.92  # no foot below the ground


def test_walking_legs_alternate(body):
    hips = [JOINTS.index("right_hip"), JOINTS.index("left_hip")]
    right, left = poses.walk(0.25).quats_wxyz[hips]
    assert right[1] == pytest.approx(-float(left[1]))
    assert abs(float(right[1])) == pytest.approx(math.sin(math.radians(14)), abs=1e-5)


def test_poses_and_bodies_that_do_not_fit_are_refused_by_name(body):
    with pytest.raises(UserError, match="17 quaternions"):
        Pose(torch.zeros(3, 4), torch.zeros(3))
    with pytest.raises(UserError, match="no joint 'tail'"):
        poses.pose({"tail": [("x", 10.0)]})
    with pytest.raises(UserError, match="topology"):
        dataclasses.replace(body, vertices=body.vertices[:100], weights=body.weights[:100])
    with pytest.raises(UserError, match="do not sum to one"):
        dataclasses.replace(body, weights=body.weights * 0.5)
    with pytest.raises(UserError, match="no joint left_ankle"):
        dataclasses.replace(body, joint_names=(*body.joint_names[:-1], "other"))
