"""Options of `gs-ssd export` that would change nothing are refused, and those that do are not."""

import pytest

from gs_ssd.cli import main


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--axes", "zup", "-o", "x.html"], "--axes would change nothing in a page"),
        (["--axes", "zup", "--for", "web"], "--axes would change nothing in a page"),
        (["--keep-offset", "--pad-sh3", "-o", "x.html"], "--keep-offset, --pad-sh3 would"),
        (["--spz-version", "3", "-o", "x.glb"], "--spz-version would change nothing in .glb files"),
        (["--viewer", "supersplat", "-o", "x.glb"], "--viewer would change nothing in .glb files"),
        (["--voxels", "64", "-o", "x.ply"], "--voxels would change nothing in .ply files"),
        (["--fps", "3", "-o", "x.ply"], "--fps would change nothing in .ply files"),
        (["--mesh", "--axes", "zup", "-o", "x.glb"], "--axes would change nothing in a mesh"),
        (
            ["--clip", "walk", "--height", "2", "-o", "f/x.ply"],
            "--height would change nothing in a",
        ),
        (["--clip", "walk", "--axes", "zup", "-o", "f/x.ply"], "--axes would change nothing in a"),
        (["--rigged", "--recenter", "-o", "x.glb"], "--recenter would change nothing in a rigged"),
        (["--pose", "sit", "--up", "-y", "-o", "x.glb"], "--up would change nothing"),
        (["--crop", "0", "-o", "x.glb"], "--crop is 0"),
        (["--max-splats", "-3", "-o", "x.glb"], "--max-splats is -3"),
    ],
)
def test_what_would_change_nothing_is_refused(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "axes", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["--for", "web", "--for", "unity", "--axes", "zup"],
        ["--for", "three", "--spz-version", "2"],
        ["-o", "x.spz", "--spz-version", "3", "--axes", "inria", "--pad-sh3"],
        ["-o", "x.html", "--crop", "50", "--sh-degree", "0", "--up", "+y"],
    ],
)
def test_what_changes_something_is_taken(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "axes", *words]) == 0
    assert list(tmp_path.iterdir())
