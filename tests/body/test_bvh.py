"""BVH files: a T-posed skeleton with other names, axes and proportions drives the mannequin."""

import math

import pytest
import torch

from gs_ssd.body import bvh, mannequin
from gs_ssd.body.body import KEYPOINTS
from gs_ssd.errors import UserError

TREE = {
    "Hips": (None, (0, 0, 0)),
    "Spine": ("Hips", (0, 10, 0)),
    "Neck": ("Spine", (0, 40, 0)),
    "Head": ("Neck", (0, 10, 0)),
    **{
        f"{side}{bone}": (f"{side}{parent}" if parent[0] != "=" else parent[1:], (sign * x, y, z))
        for side, sign in (("Right", -1), ("Left", 1))
        for bone, parent, (x, y, z) in (
            ("Arm", "=Spine", (18, 35, 0)),
            ("ForeArm", "Arm", (28, 0, 0)),
            ("Hand", "ForeArm", (25, 0, 0)),
            ("UpLeg", "=Hips", (10, 0, 0)),
            ("Leg", "UpLeg", (0, -42, 0)),
            ("Foot", "Leg", (0, -40, 0)),
        )
    },
}


def text(frames, tree=TREE, prefix="mixamorig:"):
    """A BVH file of this tree; `frames` maps bones to (z, x, y) degrees, and "Hips" may have a
    position."""
    order = []

    def node(name, depth):
        order.append(name)
        parent, offset = tree[name]
        channels = "3 Zrotation Xrotation Yrotation"
        if parent is None:
            channels = "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
        children = [child for child, (above, _) in tree.items() if above == name]
        body = (
            "".join(node(child, depth + 1) for child in children) or "End Site { OFFSET 0 1 0 }\n"
        )
        kind = "ROOT" if parent is None else "JOINT"
        return (
            f"{kind} {prefix}{name}\n{{\nOFFSET {offset[0]} {offset[1]} {offset[2]}\nCHANNELS"
            f" {channels}\n{body}}}\n"
        )

    head = "HIERARCHY\n" + node("Hips", 0)
    lines = []
    for frame in frames:
        numbers = [*frame.get("position", (0, 90, 0))]
        for name in order:
            numbers += frame.get(name, (0, 0, 0))
        lines.append(" ".join(map(str, numbers)))
    return f"{head}MOTION\nFrames: {len(frames)}\nFrame Time: 0.0333333\n" + "\n".join(lines) + "\n"


@pytest.fixture
def motion_file(tmp_path):
    def write(frames, **options):
        path = tmp_path / "motion.bvh"
        path.write_text(text(frames, **options))
        return path

    return write


def keypoints(path):
    body = mannequin.create()
    return [body.keypoints(body.transforms(pose)) for pose in bvh.poses(bvh.read(path), body)]


def of(points, name):
    return points[KEYPOINTS.index(name)]


def test_the_files_zero_pose_is_a_t_pose_on_the_a_posed_mannequin(motion_file):
    (points,) = keypoints(motion_file([{}]))
    for side, sign in (("right", 1), ("left", -1)):
        arm = of(points, f"{side}_wrist") - of(points, f"{side}_shoulder")
        assert torch.allclose(arm / arm.norm(), torch.tensor([sign * 1.0, 0, 0]), atol=1e-5)
        leg = of(points, f"{side}_ankle") - of(points, f"{side}_hip")
        assert torch.allclose(leg / leg.norm(), torch.tensor([0, 0, -1.0]), atol=1e-5)


def test_turns_keep_their_meaning(motion_file):
    frames = [{"RightUpLeg": (0, -90, 0)}, {"LeftArm": (0, 0, -90)}, {"Hips": (0, 0, 90)}]
    kick, reach, turned = keypoints(motion_file(frames))
    leg = of(kick, "right_ankle") - of(kick, "right_hip")
    assert torch.allclose(
        leg / leg.norm(), torch.tensor([0, 1.0, 0]), atol=1e-5
    )  # forwards, +z in the file
    arm = of(reach, "left_wrist") - of(reach, "left_shoulder")
    assert torch.allclose(arm / arm.norm(), torch.tensor([0, 1.0, 0]), atol=1e-5)
    # Turned about the file's y by 90 degrees, what faced +z faces +x there: -x here, to its left.
    face = of(turned, "nose") - of(turned, "neck")
    assert face[0] < -0.1
    assert abs(float(face[1])) < 0.02


def test_the_path_is_scaled_to_our_legs(motion_file):
    first, second = keypoints(motion_file([{}, {"position": (0, 90, 82)}]))
    legs = (of(first, "right_hip") - of(first, "right_knee")).norm() + (
        of(first, "right_knee") - of(first, "right_ankle")
    ).norm()
    shift = of(second, "neck") - of(first, "neck")
    assert torch.allclose(
        shift, torch.tensor([0, 1.0, 0]) * legs, atol=1e-4
    )  # 82 is the file's leg length


def test_bone_names_of_other_programs_are_known(motion_file):
    renamed = {"RightArm": "rShldr"}
    other = {
        renamed.get(name, name): (renamed.get(above, above), offset)
        for name, (above, offset) in TREE.items()
    }
    with pytest.raises(UserError, match=r"no bone for right_shoulder; it has .*rShldr"):
        keypoints(motion_file([{}], tree=other))
    cmu = {"RightArm": "r_shoulder", "RightForeArm": "r_elbow", "RightHand": "r_wrist"}
    other = {
        cmu.get(name, name): (cmu.get(above, above), offset)
        for name, (above, offset) in TREE.items()
    }
    assert len(keypoints(motion_file([{}], tree=other, prefix=""))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("HIERARCHY", "HELLO"), "not a BVH file"),
        (lambda t: t.replace("Frames: 1", "Frames: 3"), "need"),
        (lambda t: t.replace("0.0333333", "nan"), "not a number"),
        (lambda t: t.replace("0.0333333", "0"), "1 frames, 0 seconds each; both must be above 0"),
        (lambda t: t.replace("Frames: 1", "Frames: 0"), "0 frames, .* both must be above 0"),
        (lambda t: t.replace("Zrotation", "Wrotation"), "unknown channels wrotation"),
        (lambda t: t.replace("OFFSET 0 10 0", "OFFSET 0 ten 0"), "damaged near 'OFFSET 0 ten 0'"),
        (lambda t: t.replace("}\nMOTION", "\nMOTION"), "ends early"),
        (lambda t: t.replace("CHANNELS 3", "SURPRISE 3", 1), "'SURPRISE'"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(change, message, motion_file):
    path = motion_file([{}])
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        bvh.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.bvh: no such file"):
        bvh.read(tmp_path / "none.bvh")


def test_angles_of_the_file_are_degrees(motion_file):
    (points,) = keypoints(motion_file([{"RightLeg": (0, 30, 0)}]))
    shin = of(points, "right_ankle") - of(points, "right_knee")
    thigh = of(points, "right_knee") - of(points, "right_hip")
    cosine = float(shin @ thigh / shin.norm() / thigh.norm())
    assert cosine == pytest.approx(math.cos(math.radians(30)), abs=1e-5)


def test_a_byte_order_mark_is_no_damage(motion_file):
    path = motion_file([{}, {}])
    plain = bvh.read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(bvh.read(path).bones) == len(plain.bones)
