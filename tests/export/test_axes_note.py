"""A note of axes belongs to one file: no kill, failure or copy makes it tell of another."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.export import formats
from gs_ssd.export.axes_note import note_of
from gs_ssd.export.axes_object import axes_object
from gs_ssd.export.formats import read_splats, write_splats


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("old", [None, "inria", "blender", "gltf"])
@pytest.mark.parametrize("new", ["inria", "blender", "gltf"])
def test_killed_at_any_moment_the_file_is_read_right_or_not_at_all(tmp_path, monkeypatch, old, new):
    """Between any two renamings or deletions, which are all that can be seen of a writing."""
    path, seen = tmp_path / "a.ply", []
    if old is not None:
        write_splats(path, axes_object(), frame=old)

    def looked_at_before(change):
        def look_and_change(*args, **options):
            seen.append(contents(tmp_path))
            return change(*args, **options)

        return look_and_change

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", looked_at_before(os.replace))
        patched.setattr(Path, "unlink", looked_at_before(Path.unlink))
        write_splats(path, axes_object(), frame=new)
    assert read_splats(path).frame == new
    assert len(seen) >= 2
    expected = axes_object().to_frame("world").means
    for files in seen:
        for file in tmp_path.iterdir():
            file.unlink()
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        if path.exists():
            try:
                means = read_splats(path).to_frame("world").means
            except UserError as error:
                assert "was written for another file" in str(error)  # noqa: PT017 -- or it is right
            else:
                np.testing.assert_allclose(means, expected, atol=1e-6)


def test_a_file_in_the_place_of_another_is_not_read_by_its_note(tmp_path):
    write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    write_splats(tmp_path / "b.ply", axes_object())
    shutil.copy(tmp_path / "b.ply", tmp_path / "a.ply")
    with pytest.raises(UserError, match=r"a\.ply\.axes\.json was written for another file"):
        read_splats(tmp_path / "a.ply")
    assert read_splats(tmp_path / "a.ply", up="-y").frame == "inria"
    note_of(tmp_path / "a.ply").write_text('{"frame": "blender"}')  # as older versions wrote it
    assert read_splats(tmp_path / "a.ply").frame == "blender"


@pytest.mark.parametrize(
    "damage",
    [
        *(
            b"",
            b"{",
            b"{}",
            b'{"sha256": 1}',
            b"3",
            b"[]",
            b"\xff",
            b"[" * 4000,
            b'{"frame": "sideways"}',
            b'{"frame": []}',
        ),
        *(b'{"offset": [1, 2]}', b'{"offset": [NaN, 0, 0]}', b'{"offset": [1e400, 0, 0]}'),
        *(b'{"offset": 3}', b'{"offset": "abc"}', b'{"offset": [%d, 0, 0]}' % 10**400),
    ],
)
def test_a_damaged_note_is_refused_and_not_taken_for_none(damage, tmp_path):
    write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    note_of(tmp_path / "a.ply").write_bytes(damage)
    with pytest.raises(UserError, match=r"a\.ply\.axes\.json is damaged, so the axes of a\.ply"):
        read_splats(tmp_path / "a.ply")
    assert read_splats(tmp_path / "a.ply", up="-y").frame == "inria"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_note_that_is_a_pipe_is_refused(tmp_path):
    write_splats(tmp_path / "a.ply", axes_object())
    os.mkfifo(note_of(tmp_path / "a.ply"))
    with pytest.raises(UserError, match="not a plain file"):
        read_splats(tmp_path / "a.ply")


@pytest.mark.parametrize("before", [None, "gltf"])
def test_a_writing_that_fails_leaves_file_and_note_as_they_were(tmp_path, monkeypatch, before):
    if before is not None:
        write_splats(tmp_path / "a.ply", axes_object(), frame=before)
    left = contents(tmp_path)

    def full(*_, **__):
        raise UserError("cannot write a.ply: No space left on device")

    monkeypatch.setattr(formats, "write_ply", full)
    with pytest.raises(UserError, match="No space left"):
        write_splats(tmp_path / "a.ply", axes_object(), frame="blender")
    assert contents(tmp_path) == left
