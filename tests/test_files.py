"""Files are written whole or not at all."""

import errno
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gs_ssd import files
from gs_ssd.errors import UserError
from gs_ssd.files import TEMPORARY, atomic_path, slug, sweep, temporary_folder


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
    with (
        pytest.raises(UserError, match="choose another folder"),
        atomic_path(tmp_path / "file" / "a.txt"),
    ):
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
    monkeypatch.setattr(
        files, "sync", lambda path: seen.append((path.name, (tmp_path / "a.txt").exists()))
    )
    with atomic_path(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert seen == [(path.name, False), (tmp_path.name, True)]


def test_a_disk_that_refuses_is_said_and_the_old_file_stays(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("old")

    def refuse(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with (
        pytest.raises(UserError, match="Input/output error"),
        atomic_path(tmp_path / "a.txt") as path,
    ):
        path.write_text("new")
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red mushroom!", "a-red-mushroom"),
        ("ein gr\u00fcner Kaktus", "ein-gr\u00fcner-kaktus"),
        ("\u7ea2\u8272\u7684\u8611\u83c7", "\u7ea2\u8272\u7684\u8611\u83c7"),
        ("\u0439\u043e\u0433\u0443\u0440\u0442", "\u0439\u043e\u0433\u0443\u0440\u0442"),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940",
            "\u0939\u093f\u0928\u094d\u0926\u0940",
        ),  # vowel signs are marks
        ("\uff21\uff22\uff23 \u2460", "abc-1"),  # full width
        ("../../etc/passwd", "etc-passwd"),
        ("a\\b:c*d?e", "a-b-c-d-e"),
        ("CON", "con-"),
        ("?!", "run"),
        ("\U0001f344", "run"),
        ("", "run"),
    ],
)
def test_a_text_becomes_a_name_in_the_letters_of_its_script(text, name):
    assert slug(text) == name


@given(st.text(max_size=400))
def test_any_text_becomes_a_name_that_a_file_system_takes(text):
    name = slug(text)
    assert 0 < len(name.encode()) <= 120
    assert name == Path(name).name == unicodedata.normalize("NFC", name)
    assert not set(name) & set('<>:"/\\|?* .')
    assert not any(unicodedata.category(character)[0] in "CZ" for character in name)


def test_long_texts_with_one_beginning_have_names_of_their_own():
    assert slug("ab " * 200 + "0") != slug("ab " * 200 + "1")


def test_a_folder_of_a_killed_process_is_swept_with_what_is_in_it(tmp_path):
    left = tmp_path / f"{TEMPORARY}999999999-abc"
    left.mkdir()
    (left / f"{TEMPORARY}999999999-video.mp4").write_bytes(b"half")
    with temporary_folder(tmp_path) as mine:
        assert sweep(tmp_path) == 1
        assert not left.exists()
        assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir()], ids=["pipe", "folder"])
def test_what_is_no_plain_file_is_refused_and_stays_what_it_is(tmp_path, make):
    """Renaming a file to /dev/null would leave a machine without one."""
    make(tmp_path / "a.txt")
    kind = (tmp_path / "a.txt").stat().st_mode
    with pytest.raises(UserError, match=r"a\.txt: it is a"), atomic_path(tmp_path / "a.txt") as new:
        new.write_text("new")
    assert (tmp_path / "a.txt").stat().st_mode == kind
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(tmp_path, there):
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk" / "real.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to(tmp_path / "disk" / "real.txt")
    with atomic_path(tmp_path / "a.txt") as new:
        new.write_text("new")
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "disk" / "real.txt").read_text() == "new"
    assert os.listdir(tmp_path / "disk") == ["real.txt"]


def test_permissions_are_those_of_the_umask_or_of_the_file_that_is_replaced(tmp_path):
    before = os.umask(0o077)
    try:
        with atomic_path(tmp_path / "a.txt") as new:
            new.write_text("new")
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600
        (tmp_path / "a.txt").chmod(0o640)
        with atomic_path(tmp_path / "a.txt") as new:
            new.write_text("newer")
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def closed(monkeypatch, folder):
    """A folder that may not be looked into (root may look into any, so permissions will not do)."""
    listed = Path.iterdir

    def refuse(path):
        if path == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)


def test_a_closed_folder_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert [path.name for path in files.entries(tmp_path)] == ["a", "b"]
    assert files.entries(tmp_path / "none") == files.entries(tmp_path / "a") == []
    closed(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"cannot look into .*: Permission denied"):
        files.entries(tmp_path)


def test_a_name_that_leads_nowhere_is_a_user_error(tmp_path):
    """And the reason is that of the writing, not of the cleaning up after it."""
    (tmp_path / "loop").symlink_to("loop")
    with (
        pytest.raises(UserError, match=r"cannot write .*x\.ply: .*symbolic links"),
        atomic_path(tmp_path / "loop" / "x.ply"),
    ):
        pass
