"""Ctrl-C, SIGTERM and a closed terminal outside the loop: everything temporary goes, and the code
says by what."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gs_ssd import cli, interrupts
from gs_ssd.files import TEMPORARY

SMOKE = str(Path(__file__).parents[1] / "configs" / "smoke.yaml")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_exception_once_and_handlers_are_as_before(number):
    closed = []

    def stopped():
        with interrupts.raised():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                closed.append(signal.getsignal(number))

    with pytest.raises(interrupts.Terminated) as stop:
        stopped()
    assert stop.value.signal_number == number
    assert closed == [signal.SIG_DFL]  # a second one kills
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_a_program_handles_or_ignores_itself_stays(monkeypatch):
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with interrupts.raised(), interrupts.collected() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_that_a_library_sets_do_not_outlive_its_call():
    def of_the_user(_number, _frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, of_the_user)
    try:
        with interrupts.kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is of_the_user
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_library_that_fails_while_it_cleans_up_hides_no_signal(number, code, monkeypatch, capfd):
    # argparse does: interrupted while it formats the usage, it "restores" what it never saved
    def interrupted(_parser):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(argparse.ArgumentParser, "format_usage", interrupted)
    assert cli.main(["serve", "--port", "0"]) == code
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_that_no_signal_caused_comes_out_as_it_is():
    with pytest.raises(AttributeError), interrupts.raised():
        raise AttributeError


def test_outside_the_main_thread_nothing_is_touched():
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(cli.main(["export", "axes", "-o", "/nonexistent/a.stl"]))
    )
    thread.start()
    thread.join()
    assert codes == [2]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_view_removes_its_folder(tmp_path, number, code):
    command = [sys.executable, "-m", "gs_ssd.cli", "view", "axes", "--no-browser"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert "http://127.0.0.1" in process.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        error = process.communicate(timeout=20)[1]
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
    assert process.returncode == (
        0 if number == signal.SIGINT else code
    )  # Ctrl-C is how one ends it


def test_while_results_are_written_the_checkpoint_is_named_and_no_temporary_stays(tmp_path, capfd):
    run = tmp_path / "run"

    def stop_when_the_video_is_being_written():
        deadline = time.monotonic() + 60
        # The encoder has its file: Python drops what a signal raises while a process forks.
        while not list(run.glob(f"{TEMPORARY}*/*.mp4")) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_the_video_is_being_written, daemon=True).start()
    words = ["num_steps=2", "output.turntable_frames=300"]
    assert cli.main(["train", "--config", SMOKE, "--out", str(run), *words]) == 143
    said = capfd.readouterr()
    assert f"gs-ssd train --resume --out {run}" in said.out
    assert "stopped by SIGTERM" in said.err
    assert "Traceback" not in said.err
    assert list(run.rglob(f"{TEMPORARY}*")) == []
    assert not (run / "turntable.mp4").exists()
    assert cli.main(["train", "--resume", "--out", str(run), "output.turntable_frames=2"]) == 0
    assert (run / "turntable.mp4").is_file()


@pytest.mark.parametrize("target", ["| true", "> /dev/full"])
def test_an_output_that_nobody_takes_is_no_traceback(target):
    command = (
        f"{sys.executable} -m gs_ssd.cli train --config {SMOKE} --dry-run {target}; exit"
        " ${PIPESTATUS[0]}"
    )
    ended = subprocess.run(
        ["bash", "-c", command], check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == (2 if "full" in target else 141)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert ("No space left" in ended.stderr) is ("full" in target)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_request_that_python_dropped_is_kept():
    """An exception in a finalizer is printed and dropped; so are those in the callbacks around a
    fork."""

    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # the handler runs here

    done = []

    def go_on():
        with interrupts.raised():
            Finalized()
            done.append(True)

    with pytest.raises(interrupts.Terminated):
        go_on()
    assert done
