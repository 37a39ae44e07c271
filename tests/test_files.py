"""Files are written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gs_ssd import files
from gs_ssd.errors import UserError
from gs_ssd.files import TEMPORARY, atomic_path, sweep


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


WRITE = """
import os, sys, time
from gs_ssd.files import atomic_path
with atomic_path(sys.argv[1]) as path:
    path.write_text("half")
    print(path, flush=True)
    time.sleep(600)
"""


def test_what_killed_processes_left_is_swept_and_what_others_write_now_is_not(tmp_path):
    def writer(name):
        command = [sys.executable, "-c", WRITE, tmp_path / "checkpoints" / name]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return process, Path(process.stdout.readline().strip())

    (killed, left), (alive, writing) = writer("step_000001.pt"), writer("step_000002.pt")
    killed.kill()
    killed.wait()
    mine = tmp_path / "checkpoints" / ".gs-ssd-tmp-notes"
    mine.write_text("not a temporary of ours: no process's number")
    try:
        assert left.exists()
        assert sweep(tmp_path) == 1
        assert not left.exists()
        assert writing.exists()
        assert mine.exists()
    finally:
        alive.kill()
        alive.communicate()
    assert sweep(tmp_path) == 1


def test_a_number_that_is_now_ours_does_not_protect_an_older_file(tmp_path):
    """In a container the same program has the same number again and again."""
    old = tmp_path / f"{TEMPORARY}{os.getpid()}-abc.ply"
    old.write_text("half")
    assert sweep(tmp_path) == 0
    os.utime(old, (1e9, 1e9))
    assert sweep(tmp_path) == 1


def test_content_and_name_are_on_the_disk_before_it_returns(tmp_path, monkeypatch):
    """The content is synchronised under its temporary name, the folder after the renaming."""
    seen = []
    monkeypatch.setattr(files, "sync", lambda path: seen.append((path.name, (tmp_path / "a.txt").exists())))
    with atomic_path(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert seen == [(path.name, False), (tmp_path.name, True)]


def test_a_disk_that_refuses_is_said_and_the_old_file_stays(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("old")

    def refuse(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match="Input/output error"), atomic_path(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
