"""`gs-ssd export`, `view` and `gallery` from the command line: what they write, say and refuse."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gs_ssd.cli import main
from gs_ssd.errors import UserError
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats
from gs_ssd.export.ply import write_ply
from gs_ssd.export.targets import TARGETS
from gs_ssd.viewer import runs


@pytest.fixture
def run_folder(tmp_path):
    """What a finished run leaves."""
    folder = tmp_path / "out" / "a-red-mug"
    folder.mkdir(parents=True)
    write_splats(folder / "point_cloud.ply", axes_object())
    (folder / "config.yaml").write_text(
        "prompt: a red <mug>\nseed: 3\nguidance:\n  estimator: ssd\n"
    )
    (folder / "metrics.jsonl").write_text(
        '{"step": 0}\n{"step": 9, "num_splats": 18, "seconds_per_step": 0.51234}\n'
    )
    Image.fromarray(np.full((64, 128, 3), 90, np.uint8)).save(folder / "views.png")
    (folder / "index.html").write_text("<p>page")
    return folder


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "usd"])
def test_every_target(run_folder, capsys, target):
    assert main(["export", str(run_folder), "--for", target]) == 0
    path = run_folder / f"a-red-mug.{target}{TARGETS[target].suffix}"
    assert path.is_file()
    first, hint = capsys.readouterr().out.splitlines()
    assert "18 splats" in first
    assert "{" not in hint.replace("{ renderer }", "").replace("{ url", "")
    if path.suffix == ".ply":
        back = read_splats(path)
        assert back.frame == TARGETS[target].frame
        assert back.sh_degree == (3 if TARGETS[target].pad_sh3 else 1)


def test_usd_target(run_folder, capsys):
    pytest.importorskip("pxr", reason="usd-core is not installed")
    assert main(["export", str(run_folder), "--for", "usd", "--for", "web"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_options_and_counts(run_folder, tmp_path, capsys):
    words = [
        "--drop-invisible",
        "--drop-floaters",
        "--max-splats",
        "12",
        "--recenter",
        "--height",
        "0.5",
        "--axes",
        "zup",
    ]
    assert (
        main(["export", str(run_folder), "-o", str(tmp_path / "x.ply"), "--pad-sh3", *words]) == 0
    )
    out = capsys.readouterr().out
    assert "12 of 18 splats kept; removed: 0 invisible, 0 floaters, 6 above the limit" in out
    assert "degree 3, axes zup" in out
    back = read_splats(tmp_path / "x.ply").to_frame("gltf")
    assert np.ptp(back.means[:, 1]) < 0.55
    assert (
        main(["export", str(tmp_path / "x.ply"), "-o", str(tmp_path / "y.spz"), "--sh-degree", "0"])
        == 0
    )
    assert read_splats(tmp_path / "y.spz").sh_degree == 0


def test_html_and_the_word_axes(tmp_path, capsys):
    assert main(["export", "axes", "-o", str(tmp_path / "a.html"), "--title", "hello"]) == 0
    assert "<title>hello</title>" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--for", "web"], "no such run or file"),
        (["axes", "-o", "a.stl"], "unknown format"),
        (["axes", "-o", "a.obj"], "a.obj: .obj holds a mesh, not splats; add --mesh"),
        (["axes", "-o", "a.ply", "--up", "north"], "signed axis"),
        (["axes", "-o", "/proc/none/a.ply"], "cannot write"),
        (["axes", "-o", "a.ply", "--max-splats", "0"], "positive"),
        (["axes", "--for", "web", "--mesh"], "--mesh needs -o"),
        (["axes", "--for", "web", "--texture"], "add --mesh"),
    ],
)
def test_mistakes_exit_2_in_a_sentence(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_glb_with_infinite_positions_is_refused(tmp_path, capsys):
    assert main(["export", "axes", "-o", str(tmp_path / "a.ply")]) == 0
    splats = read_splats(tmp_path / "a.ply")
    splats.means[3, 0] = np.inf
    write_ply(tmp_path / "b.ply", splats)
    words = ["export", str(tmp_path / "b.ply"), "-o", str(tmp_path / "b.glb")]
    assert main([*words, "--keep-non-finite"]) == 2
    assert "glTF cannot hold NaN" in capsys.readouterr().err
    assert not (tmp_path / "b.glb").exists()
    assert main(words) == 0


def test_unfinished_run(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("prompt: x")
    assert main(["export", str(tmp_path), "--for", "web"]) == 2
    assert "not finished" in capsys.readouterr().err


def test_gallery(run_folder, tmp_path, capsys):
    assert main(["gallery", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "gallery.html").read_text()
    assert "a red &lt;mug&gt;" in text
    assert 'href="a-red-mug/index.html"' in text
    assert "turntable.mp4" not in text  # it is not there
    assert "<dt>estimator</dt><dd>ssd</dd>" in text
    assert "<dt>s/step</dt><dd>0.512</dd>" in text
    assert "data:image/webp;base64," in text
    assert not re.search(r"https?://|\{\{", text)
    assert main(["gallery", str(tmp_path / "nothing")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["gallery", str(tmp_path / "empty")]) == 2


def test_gallery_survives_broken_runs(run_folder, tmp_path):
    (run_folder / "config.yaml").write_text("{{{:")
    (run_folder / "metrics.jsonl").write_text("[1, 2\n")
    (run_folder / "views.png").write_bytes(b"no picture")
    assert main(["gallery", str(run_folder), "-o", str(tmp_path / "g.html")]) == 0
    assert "a-red-mug" in (tmp_path / "g.html").read_text()


def test_gallery_looks_into_no_hidden_folder_and_says_that_a_way_is_long(
    run_folder, tmp_path, monkeypatch, caplog
):
    shutil.copytree(run_folder, tmp_path / "out" / ".trash" / "old")
    monkeypatch.setattr(runs, "PATIENCE_S", -1.0)
    assert [run.folder for run in runs.find_runs([tmp_path / "out"])] == [run_folder]
    assert caplog.text.count("holds many folders") == 1
    monkeypatch.setattr(runs, "MOST_FOLDERS", 1)
    with pytest.raises(UserError, match="holds more than 1 folders; name the runs' own folder"):
        runs.find_runs([tmp_path / "out"])


def test_names_that_are_no_text_come_onto_a_page(run_folder, tmp_path):
    """Linux takes any bytes in a name."""
    folder = Path(os.fsdecode(os.fsencode(run_folder.parent) + b"/caf\xe9"))
    run_folder.rename(folder)
    (folder / "config.yaml").unlink()
    assert main(["gallery", str(folder.parent), "-o", str(tmp_path / "g.html")]) == 0
    assert 'href="out/caf%E9/point_cloud.ply"' in (tmp_path / "g.html").read_text(encoding="utf-8")
    assert main(["export", str(folder), "-o", str(tmp_path / "p.html")]) == 0
    assert "caf\ufffd" in (tmp_path / "p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [["export", "axes", "-o", "p.html"], ["export", "axes", "-o", "p.glb"], ["gallery", "out"]],
)
def test_a_title_that_is_no_text_is_refused(words, run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--title", "caf\udce9"]) == 2
    assert "bytes that are no text" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
