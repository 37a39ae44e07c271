"""One writer at a time in a folder, with the system's lock and without: who comes second, who died,
who takes over."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from gs_ssd import locks
from gs_ssd.errors import UserError
from gs_ssd.locks import NAME, held, owner_of
from gs_ssd.processes import is_running

HOLD = """
import sys, time
from gs_ssd.locks import held
with held(sys.argv[1], "a test"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["flock", "no flock", "no flock and no links"])
def _file_system(request, monkeypatch):
    """With the system's lock, and as on file systems that have none (this process only)."""

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    if request.param != "flock":
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    if request.param == "no flock and no links":
        monkeypatch.setattr(os, "link", refuse)


@contextlib.contextmanager
def holder(folder):
    """Another process that holds it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("_file_system")
def test_it_is_there_within_and_gone_after(tmp_path):
    folder = tmp_path / "run"
    with held(folder, "a test"):
        assert owner_of(folder).pid == os.getpid()
        (folder / "result").write_text("")
    assert os.listdir(folder) == ["result"]
    assert owner_of(folder) is None


@pytest.mark.parametrize(
    "left", [b"", b'{"pid": 99999999, "host": "HOST", "what": "killed", "since": 1.0}']
)
def test_one_that_has_the_lock_and_has_not_signed_yet_is_waited_for(tmp_path, left):
    path = tmp_path / NAME
    path.write_bytes(left.replace(b"HOST", socket.gethostname().encode()))
    signed = json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "what": "the first",
            "since": time.time(),
        }
    )
    with path.open("r+b") as file:
        locks.fcntl.flock(file, locks.fcntl.LOCK_EX)
        threading.Timer(0.3, path.write_text, [signed]).start()
        with (
            pytest.raises(UserError, match=rf"in use by process {os.getpid()} \(the first, since"),
            held(tmp_path, "a"),
        ):
            pass


@pytest.mark.usefixtures("_file_system")
def test_the_second_is_told_who_the_first_is(tmp_path):
    with (
        holder(tmp_path) as process,
        pytest.raises(
            UserError, match=rf"is in use by process {process.pid} \(a test, since"
        ) as refusal,
        held(tmp_path, "another"),
    ):
        pass
    assert "choose another folder" in str(refusal.value)
    with held(tmp_path, "another"):
        assert owner_of(tmp_path).what == "another"


@pytest.mark.usefixtures("_file_system")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_died_holds_nothing(tmp_path, number):
    with holder(tmp_path) as process:
        process.send_signal(number)
        process.wait()
        assert (tmp_path / NAME).exists()
        with held(tmp_path, "the next"):
            assert owner_of(tmp_path).what == "the next"
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("_file_system")
def test_a_number_that_another_process_has_by_now_holds_nothing(tmp_path):
    long_ago = {
        "pid": os.getppid(),
        "host": locks.socket.gethostname(),
        "what": "a test",
        "since": 1e9,
    }
    (tmp_path / NAME).write_text(json.dumps(long_ago))
    with held(tmp_path, "now"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("_file_system")
@pytest.mark.parametrize("content", ["", "{", "null", '{"pid": "x"}'])
def test_a_file_that_nobody_signed_holds_nothing(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    os.utime(tmp_path / NAME, (1e9, 1e9))
    with held(tmp_path, "now"):
        pass


def test_without_flock_a_file_of_another_machine_is_believed_and_the_way_out_is_told(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(locks, "fcntl", None)
    other = {"pid": 1, "host": "elsewhere", "what": "gs-ssd train", "since": 1e9}
    (tmp_path / NAME).write_text(json.dumps(other))
    with (
        pytest.raises(UserError, match=rf"process 1 on elsewhere .* delete .*{NAME}"),
        held(tmp_path, "now"),
    ):
        pass
    assert json.loads((tmp_path / NAME).read_text()) == other


@pytest.mark.usefixtures("_file_system")
def test_the_same_thread_may_take_it_again_and_another_may_not(tmp_path):
    refused = []

    def second():
        try:
            with held(tmp_path, "b"):
                pass
        except UserError as error:
            refused.append(str(error))

    with held(tmp_path, "a"):
        with held(tmp_path / ".." / tmp_path.name, "a"):
            pass
        assert owner_of(tmp_path) is not None
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "another thread" in refused[0]


def test_a_folder_that_was_made_for_it_and_left_empty_goes_again(tmp_path):
    with held(tmp_path / "a" / "b", "a test"):
        pass
    assert os.listdir(tmp_path) == []
    with held(tmp_path / "a" / "b", "a test"):
        (tmp_path / "a" / "b" / "c").write_text("")
    assert os.listdir(tmp_path / "a" / "b") == ["c"]


@pytest.mark.parametrize("bad", ["a file", "read only"])
def test_a_folder_that_cannot_be_is_a_sentence(tmp_path, bad):
    folder = tmp_path / "x"
    folder.write_text("") if bad == "a file" else None
    folder = folder / "y" if bad == "a file" else "/proc/none"
    with (
        pytest.raises(UserError, match=r"cannot write into .* choose another folder"),
        held(folder, "a test"),
    ):
        pass


RACE = """
import sys
from pathlib import Path
from gs_ssd import locks
from gs_ssd.errors import UserError
if sys.argv[2] == "without":
    locks.fcntl = None
inside, count = Path(sys.argv[1]) / "inside", 0
while count < 12:
    try:
        with locks.held(sys.argv[1], "a race"):
            inside.mkdir()  # fails if two are in
            inside.rmdir()
            count += 1
    except UserError:
        pass
"""


@pytest.mark.parametrize("flock", ["with", "without"])
def test_of_many_at_once_one_is_in(tmp_path, flock):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, tmp_path, flock], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    errors = [racer.communicate(timeout=120)[1].decode() for racer in racers]
    assert errors == [""] * 4
    assert os.listdir(tmp_path) == []


def test_a_process_is_known_by_its_number_and_its_time():
    assert is_running(os.getpid(), time.time())
    assert not is_running(os.getpid(), 1e9)  # then the number was another's
    assert not is_running(0, time.time())
    assert not is_running(2**40, time.time())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert not is_running(ended.pid, time.time())
