"""The gauge sees what was held and let go again, and does not count what was there before."""

import sys

import pytest
import torch

from gs_ssd.memory import MIB, Gauge

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot begin a new peak")
def test_a_peak_is_remembered_and_an_older_one_forgotten():
    earlier = torch.ones(300 * MIB, dtype=torch.uint8)
    del earlier
    gauge = Gauge(CPU)
    assert gauge.peak < 20 * MIB
    block = torch.ones(100 * MIB, dtype=torch.uint8)
    del block
    assert 95 <= gauge.peak_mib <= 130


@pytest.mark.cuda
def test_on_a_gpu_it_is_what_was_allocated():
    gauge = Gauge(torch.device("cuda"))
    before = torch.cuda.memory_allocated()
    block = torch.ones(100 * MIB, dtype=torch.uint8, device="cuda")
    del block
    assert gauge.peak - before == 100 * MIB
