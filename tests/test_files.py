"""Files are written whole or not at all."""

import os

import pytest

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path


def test_success_replaces_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with atomic_path(target) as path:
        assert path.suffix == ".txt"
        path.write_text("new")
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["a.txt"]


def test_failure_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="boom"), atomic_path(target) as path:
        path.write_text("half")
        raise RuntimeError("boom")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_a_user_error(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(UserError, match=r"a\.txt.*No space left"), atomic_path(target):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_an_impossible_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"), atomic_path(tmp_path / "file" / "a.txt"):
        pass
