"""`gs-ssd export` of an avatar: frames, poses, pages, rigged meshes, and what is refused."""

import numpy as np
import pytest
import torch

from gs_ssd import cli
from gs_ssd.body import clips, mannequin, surface
from gs_ssd.body.poses import POSES
from gs_ssd.export import ply
from gs_ssd.export.avatar_file import FILE, bind, write_avatar
from gs_ssd.export.formats import read_splats
from gs_ssd.export.splats import from_gaussians
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig


@pytest.fixture(scope="module")
def avatar():
    body = mannequin.create(rings=3, sides=6)
    skin = surface.sample(body, 500, torch.Generator().manual_seed(0))
    splat = initialize.from_points(skin.points, None, InitializeConfig(scale=0.02, opacity=0.9))
    return bind(from_gaussians(splat), skin.weights, body)


@pytest.fixture
def folder(avatar, tmp_path):
    (tmp_path / "run").mkdir()
    write_avatar(tmp_path / "run" / FILE, avatar)
    ply.write_ply(tmp_path / "run" / "point_cloud.ply", avatar.splats.to_frame("inria"))
    (tmp_path / "run" / "config.yaml").write_text("prompt: a person in red\n")
    return tmp_path / "run"


def export(*words):
    return cli.main(["export", *map(str, words)])


def test_a_shorter_motion_leaves_no_frame_of_a_longer_one(folder, tmp_path):
    frames = tmp_path / "frames"
    assert export(folder, "--clip", "walk", "--fps", "10", "-o", frames / "f.ply") == 0
    longer = {path.name for path in frames.iterdir()}
    (frames / "f_mine.ply").touch()
    assert export(folder, "--clip", "walk", "--fps", "3", "-o", frames / "f.ply") == 0
    left = {path.name for path in frames.iterdir()} - {"f_mine.ply"}
    assert left < longer
    assert (frames / "f_mine.ply").exists()


def test_a_clip_is_a_folder_of_frames(folder, avatar, tmp_path, capsys):
    assert export(folder, "--clip", "walk", "--fps", "10", "-o", tmp_path / "walk" / "f.ply") == 0
    names = sorted(path.name for path in (tmp_path / "walk").iterdir())
    assert names == [f"f_{number:04d}.ply" for number in range(11)]
    assert "11 frames of walk at 10 per second" in capsys.readouterr().out
    motion = clips.sample("walk", 10.0, avatar.skeleton)
    third = read_splats(tmp_path / "walk" / "f_0003.ply").to_frame("world")
    np.testing.assert_allclose(third.means, avatar.posed(motion.poses[3]).means, atol=1e-5)


def test_a_pose_goes_to_any_target(folder, avatar, tmp_path):
    assert export(folder, "--pose", "sit", "-o", tmp_path / "sit.spz") == 0
    assert export(folder, "--pose", "t", "--for", "blender") == 0
    sitting = read_splats(tmp_path / "sit.spz").to_frame("world")
    wanted = avatar.posed(POSES["sit"]).means
    assert abs(np.sort(sitting.means[:, 2]) - np.sort(wanted[:, 2])).max() < 1e-3
    assert [path.name for path in folder.glob("*.blender.*")]


def test_a_page_and_a_rigged_mesh(folder, tmp_path, capsys):
    assert export(folder, "--clip", "wave", "-o", tmp_path / "wave.html") == 0
    assert '"clips": [{"name": "wave"' in (tmp_path / "wave.html").read_text()
    assert export(folder / FILE, "--rigged", "-o", tmp_path / "person.glb") == 0
    assert (tmp_path / "person.glb").read_bytes()[:4] == b"glTF"
    assert "17 joints, walk, wave" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--clip", "jump", "-o", "x.ply"], "no clip 'jump'; choose walk, wave"),
        (["--clip", "walk", "-o", "x.foo"], "unknown format .foo"),
        (["--clip", "walk", "--fps", "0", "-o", "x.ply"], "--fps 0"),
        (["--clip", "walk", "--for", "web"], "need -o"),
        (["--pose", "t", "--clip", "walk", "-o", "x.ply"], "leave one of them out"),
        (["--rigged", "--mesh", "-o", "x.glb"], "leave --mesh out"),
        (["--rigged", "-o", "x.ply"], "written as .glb"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert export(folder, *words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("x*"))


def test_a_splat_without_a_body_does_not_move(folder, tmp_path, capsys):
    assert export(folder / "point_cloud.ply", "--pose", "t", "-o", tmp_path / "a.ply") == 2
    assert "does not move; name the folder of a run with asset=avatar" in capsys.readouterr().err
    (folder / FILE).unlink()
    assert export(folder, "--clip", "walk", "-o", tmp_path / "a.ply") == 2
    assert "runs with asset=avatar leave one" in capsys.readouterr().err


def test_the_page_of_another_run_is_not_replaced(folder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.yaml", "index.html"):
        (other / name).write_text("of the other run")
    assert export(folder, "--clip", "wave", "-o", other / "index.html") == 2
    assert f"is of the run in {other}" in capsys.readouterr().err
    assert (other / "index.html").read_text() == "of the other run"
    assert export(folder, "--clip", "wave", "-o", folder / "index.html") == 0  # its own
