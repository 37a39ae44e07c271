"""The gauge sees what was held and let go again, and does not count what was there before."""

import mmap
import sys

import numpy as np
import pytest
import torch

from gs_ssd import memory
from gs_ssd.errors import UserError
from gs_ssd.memory import MIB, Gauge, explained

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot begin a new peak")
def test_a_peak_is_remembered_and_an_older_one_forgotten():
    _hold_and_let_go(300 * MIB)
    gauge = Gauge(CPU)
    assert gauge.peak < 20 * MIB
    _hold_and_let_go(100 * MIB)
    assert 95 <= gauge.peak_mib <= 130


def _hold_and_let_go(size: int) -> None:
    """Pages straight from the system: an allocator may hand out again what it never gave back, and
    then nothing is added to what is resident."""
    with mmap.mmap(-1, size) as block:
        for _ in range(size // MIB):
            block.write(b"\1" * MIB)


@pytest.mark.cuda
def test_on_a_gpu_it_is_what_was_allocated():
    gauge = Gauge(torch.device("cuda"))
    before = torch.cuda.memory_allocated()
    block = torch.ones(100 * MIB, dtype=torch.uint8, device="cuda")
    del block
    assert gauge.peak - before == 100 * MIB


@pytest.mark.parametrize(
    "ask", [lambda: torch.empty(2**55), lambda: np.empty(2**55), lambda: bytearray(2**55)]
)
def test_what_does_not_fit_is_explained_that_names_settings(ask):
    with (
        pytest.raises(UserError, match=r"memory is full .*initialize\.num_points") as caught,
        explained(),
    ):
        ask()
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="shape"), explained():
        torch.ones(2).reshape(3)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")
def test_what_is_available_is_what_linux_says(monkeypatch, tmp_path):
    psutil = pytest.importorskip("psutil")
    found = memory.available(CPU)
    assert found is not None
    assert found <= psutil.virtual_memory().available * 1.3
    assert found > 50 * MIB  # this test runs
    account = tmp_path / "meminfo"
    account.write_text("MemTotal: 9 kB\nMemAvailable:      7 kB\n")
    assert memory._kilobytes(str(account), "MemAvailable") == 7 * 1024
    assert memory._kilobytes(str(tmp_path / "none"), "MemAvailable") is None


def test_a_group_has_what_its_limit_leaves_and_what_it_holds_of_files(tmp_path):
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\nactive_file 150\ninactive_file 250\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._left_of_group(tmp_path) == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_of_group(tmp_path) is None
