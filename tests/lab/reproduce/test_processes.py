"""Parts side by side: the order of the results, errors, and what becomes of the processes."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from gs_ssd.lab.reproduce.processes import in_order


def _where(item):
    return item, os.getpid(), torch.get_num_threads()


def _fail(item):
    raise ValueError(f"no {item}")


def test_results_come_in_the_order_of_the_items_from_processes_of_one_thread():
    results = list(in_order(_where, [3, 1, 2], workers=2))
    assert [item for item, *_ in results] == [3, 1, 2]
    assert os.getpid() not in {process for _, process, _ in results}
    assert {threads for *_, threads in results} == {1}


def test_one_worker_or_one_item_stays_in_this_process():
    assert [process for _, process, _ in in_order(_where, [1, 2], workers=1)] == [os.getpid()] * 2
    assert [process for _, process, _ in in_order(_where, [1], workers=2)] == [os.getpid()]


def test_an_error_of_a_part_arrives():
    with pytest.raises(ValueError, match="no 1"):
        list(in_order(_fail, [1, 2], workers=2))


def test_the_processes_end_with_a_caller_that_was_killed(tmp_path):
    script = tmp_path / "many.py"
    script.write_text(
        "import os, sys, time\n"
        "from gs_ssd.lab.reproduce.processes import in_order\n"
        "def say(item):\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    list(in_order(say, [1, 2], 2))\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as caller:
        children = [int(caller.stdout.readline()) for _ in range(2)]
        caller.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, children))


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
