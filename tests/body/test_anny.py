"""Anny as an avatar's body: the package's own skinning is the reference, and poses mean the same as
on the mannequin. Making it takes minutes where the package has no cache yet."""

import importlib.util
import math
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from gs_ssd import cli
from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.body import anny_body, bvh, mannequin, openpose, poses, surface
from gs_ssd.body.body import JOINTS, KEYPOINTS, Pose
from gs_ssd.body.skinning import skin_points
from gs_ssd.body.visibility import visible
from gs_ssd.errors import UserError
from gs_ssd.maths import rotation
from gs_ssd.prior.outfit import REGIONS
from gs_ssd.scene.camera import at_angles

CHAINS = [(f"{s}_{a}", f"{s}_{b}") for s in ("right", "left") for a, b in anny_body.LIMBS]


def marked(test):
    """Of a test that needs the package."""
    return pytest.mark.slow(pytest.mark.readers(pytest.mark.timeout(1500)(test)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The body, made anew in a cache of its own, and what the package itself says."""
    anny = pytest.importorskip("anny", reason="needs the package anny (`make readers`)")
    paths = importlib.import_module("anny.paths")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        own = paths.get_anny_cache_path()
        if not own.is_dir():  # one cache for the two models of this file
            paths.set_anny_cache_path(tmp_path_factory.mktemp("anny"))
        body = anny_body.create()
        model = anny.Anny(
            topology=anny_body.TOPOLOGY, skinning_method="lbs", phenotype_blendshapes="original"
        )
        yield body, model
        paths.set_anny_cache_path(own)


@pytest.fixture
def body(made):
    return made[0]


def at(points, name):
    return points[KEYPOINTS.index(name)]


@marked
def test_it_stands_as_the_mannequin_does(body):
    other = mannequin.create()
    for side in (torch.amin, torch.amax):
        ours, theirs = (float(side(b.vertices[:, 2])) for b in (body, other))
        assert ours == pytest.approx(theirs, abs=1e-4)
    for start, end in CHAINS:
        ours, theirs = (
            functional.normalize(b.joint_positions[JOINTS.index(end)]
                                 - b.joint_positions[JOINTS.index(start)], dim=0)
            for b in (body, other)
        )  # fmt: skip
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    keypoints = body.keypoint_positions
    assert at(keypoints, "nose")[1] > at(keypoints, "neck")[1] + 0.08  # it faces +y
    assert at(keypoints, "right_wrist")[0] > 0.4
    a, b, c = body.vertices[body.faces].unbind(1)
    assert 0.05 < float((a * torch.linalg.cross(b, c)).sum() / 6) < 0.12  # faces look outwards


@marked
@pytest.mark.parametrize("name", ["sit", "cheer", "hands_on_hips"])
def test_skinning_agrees_with_the_packages_own(made, name):
    """Every bone of the package follows the joint of ours that owns it."""
    _, model = made
    theirs = anny_body.at_rest()
    moved = theirs.transforms(poses.POSES[name])
    axes = anny_body.FROM_BLENDER.double()
    motion = torch.eye(4).double().repeat(len(JOINTS), 1, 1)
    motion[:, :3, :3] = axes @ moved.rotation.double() @ axes.T
    still = (motion[:, :3, :3] @ (axes @ moved.rest_position.double().T).T[..., None])[..., 0]
    motion[:, :3, 3] = moved.position.double() @ axes.T - still
    ancestor, label = [], list(model.bone_labels)
    for bone in label:  # walk up to a bone that is one of ours
        while bone not in anny_body.BONES.values():
            bone = label[model.bone_parents[label.index(bone)]]
        ancestor.append(JOINTS.index({b: j for j, b in anny_body.BONES.items()}[bone]))
    rest = model()["rest_bone_poses"][0]
    seen = model(
        pose_parameters=(motion[ancestor] @ rest)[None], pose_parameterization="world"
    )["vertices"][0]  # fmt: skip
    ours = skin_points(theirs.vertices, theirs.weights, moved)
    torch.testing.assert_close(ours, (seen @ axes).float(), atol=2e-5, rtol=0)


@marked
@pytest.mark.parametrize("name", ["t", "sit", "reach", "walk", "wave"])
def test_a_pose_turns_its_limbs_as_the_mannequins(body, name):
    pose = poses.CLIPS[name][0](0.3) if name in poses.CLIPS else poses.POSES[name]
    places = [b.transforms(pose).position for b in (body, mannequin.create())]
    for start, end in CHAINS:
        ours, theirs = (
            functional.normalize(p[JOINTS.index(end)] - p[JOINTS.index(start)], dim=0)
            for p in places
        )
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)
    rest = skin_points(body.vertices, body.weights, body.transforms(Pose.rest()))
    assert torch.equal(rest, body.vertices)


@marked
def test_a_t_posed_bvh_file_spreads_its_arms(body, tmp_path):
    path = tmp_path / "t.bvh"
    path.write_text(_bvh())
    (frame,) = bvh.poses(bvh.read(path), body)
    points = body.keypoints(body.transforms(frame))
    for side, sign in (("right", 1), ("left", -1)):
        arm = at(points, f"{side}_wrist") - at(points, f"{side}_shoulder")
        assert sign * float(arm[0]) > 0.999 * float(arm.norm())
        leg = at(points, f"{side}_ankle") - at(points, f"{side}_hip")
        assert -float(leg[2]) > 0.999 * float(leg.norm())


def _bvh() -> str:
    def joint(kind, name, offset, *inner):
        inside = "".join(inner) or "End Site { OFFSET 0 1 0 }\n"
        channels = "CHANNELS 3 Zrotation Xrotation Yrotation\n"
        return f"{kind} {name}\n{{\nOFFSET {offset}\n{channels}{inside}}}\n"

    limbs = [
        joint("JOINT", f"{side}{top}", root,
              joint("JOINT", f"{side}{middle}", bone, joint("JOINT", f"{side}{tip}", bone)))
        for side, sign in (("Right", -1), ("Left", 1))
        for top, middle, tip, root, bone in (
            ("Arm", "ForeArm", "Hand", f"{18 * sign} 45 0", f"{26 * sign} 0 0"),
            ("UpLeg", "Leg", "Foot", f"{10 * sign} 0 0", "0 -42 0"),
        )
    ]  # fmt: skip
    tree = joint("ROOT", "Hips", "0 0 0", *limbs)
    numbers = " ".join(["0"] * (3 * tree.count("CHANNELS")))
    return f"HIERARCHY\n{tree}MOTION\nFrames: 1\nFrame Time: 0.04\n{numbers}\n"


@marked
def test_a_back_view_has_no_face_and_a_front_view_has_all_of_it(body):
    cameras = at_angles([0.0, math.pi], [math.pi / 2] * 2, radius=3.35, fov_y_rad=0.63, size=256)
    for moved in (Pose.rest(), poses.walk(0.2)):
        seen = visible(body, body.transforms(moved), cameras)
        face = [KEYPOINTS.index(name) for name in ("nose", "right_eye", "left_eye")]
        assert seen[0, face].all()
        assert not seen[1, face].any()
        assert seen[:, KEYPOINTS.index("right_wrist")].all()


@marked
def test_the_skeleton_picture_is_drawn_where_the_body_is(body):
    pytest.importorskip("cv2", reason="needs opencv-python-headless")
    cameras = at_angles([0.0], [math.pi / 2], radius=3.35, fov_y_rad=0.63, size=128)
    picture = openpose.draw_views(body, body.transforms(poses.POSES["t"]), cameras)
    rows = (picture[0].amax(0) > 0).nonzero()
    assert 90 < int(rows[:, 1].amax() - rows[:, 1].amin()) < 120  # from hand to hand


@marked
def test_points_lie_on_its_outside_and_wear_what_they_should(body):
    skin = surface.sample(body, 6000, torch.Generator().manual_seed(0))
    some = torch.randperm(len(skin), generator=torch.Generator().manual_seed(1))[:600]
    out = surface.winding(body, skin.points[some] + surface.OUTWARDS * skin.normals[some])
    assert float((out.abs() < 0.5).float().mean()) > 0.97  # the rest: sockets, fingers that touch
    where = {name: skin.points[skin.regions == index] for index, name in enumerate(REGIONS)}
    assert where["hair"][:, 2].amin() > 0.6
    assert where["shoes"][:, 2].amax() < -0.65
    assert -0.1 < where["shirt"][:, 2].amin() < where["trousers"][:, 2].amax() < 0.25
    face = (skin.points - at(body.keypoint_positions, "nose")).norm(dim=1) < 0.03
    eyes = (skin.points - at(body.keypoint_positions, "right_eye")).norm(dim=1) < 0.02
    assert (skin.regions[face | eyes] == REGIONS.index("skin")).all()


@marked
def test_it_comes_from_the_cache_at_once_and_a_damaged_file_is_made_again(
    body, monkeypatch, caplog
):
    (path,) = anny_body.cache_folder().glob("anny-*.npz")
    theirs = anny_body.at_rest()
    monkeypatch.setattr(anny_body, "at_rest", lambda: pytest.fail("made again"))
    began = time.process_time()
    again = anny_body.create()
    assert time.process_time() - began < 1.0
    for name in anny_body.ARRAYS:
        assert torch.equal(getattr(again, name), getattr(body, name)), name
    whole = path.read_bytes()
    monkeypatch.setattr(anny_body, "at_rest", lambda: theirs)
    for damaged in (whole[:5000], b"", whole[:9000] + b"\0" * 100 + whole[9100:]):
        path.write_bytes(damaged)
        caplog.clear()
        assert torch.equal(anny_body.create().vertices, body.vertices)
        assert "is damaged" in caplog.text
        assert torch.equal(anny_body.create().weights, body.weights)
    assert sorted(path.parent.iterdir()) == [path]


@marked
def test_an_avatar_trains_on_it_and_its_checkpoint_is_not_the_mannequins(body):
    smoke = Path(__file__).parents[2] / "configs" / "smoke.yaml"
    words = ["asset=avatar", "initialize.num_points=300", "avatar.surface_points=2000"]

    def asset(name):
        config = configs.load(smoke, [*words, f"avatar.body={name}"])
        found = choice.create(config, torch.device("cpu"))
        found.initialize(torch.Generator().manual_seed(0))
        return found

    mine = asset("anny")
    assert mine.rigged().skeleton.joint_names == JOINTS
    assert torch.equal(mine.posed(Pose.rest()).means, mine.gaussians.means)
    with pytest.raises(UserError, match=r"'anny'.*'mannequin'"):
        asset("mannequin").load_state_dict(mine.state_dict())


def test_a_limb_that_is_bent_at_rest_is_straightened():
    body = mannequin.create(rings=3, sides=6)
    bent = poses.pose({"right_elbow": [("x", 40.0)], "left_hip": [("y", 12.0)]})
    other = anny_body.posed(body, bent)
    back = anny_body.posed(other, anny_body.in_a_pose(other))
    for start, end in CHAINS:
        bones = [
            b.joint_positions[JOINTS.index(end)] - b.joint_positions[JOINTS.index(start)]
            for b in (body, back)
        ]
        turn = rotation.quat_between(*bones)
        assert float(turn[0]) == pytest.approx(1.0, abs=1e-5)


def test_where_the_package_is_missing_one_sentence_says_what_to_do(monkeypatch, capsys, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "anny" else find(name, *a)
    )
    out = tmp_path / "run"
    words = ["--config", "configs/quickstart_avatar.yaml", "--out", str(out)]
    monkeypatch.chdir(Path(__file__).parents[2])
    assert cli.main(["train", *words, "avatar.body=anny"]) == 2
    assert "pip install 'gs-ssd[avatar]'" in capsys.readouterr().err
    assert cli.main(["train", *words, "avatar.body=anni"]) == 2
    assert "avatar.body" in (said := capsys.readouterr().err)
    assert "mannequin" in said
    assert "anny" in said
    assert not out.exists()
