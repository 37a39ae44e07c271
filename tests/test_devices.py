"""A device by its name; host to device: queued where that is safe and of use, the same numbers everywhere."""

import pytest
import torch

from gs_ssd import devices
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "meta", "mps"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match=f"device={name}") as caught:
        devices.choose(name)
    assert len(str(caught.value)) < 200


def test_the_cpu_is_always_there():
    assert devices.choose("cpu").type == "cpu"
    assert devices.choose("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize(("device", "queued"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_a_copy_to_a_gpu_is_queued(monkeypatch, device, queued):
    seen = {}
    numbers = torch.arange(3.0)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: seen.update(where=where, **how) or self)
    to_device(numbers, torch.device(device), torch.float16)
    assert seen == {"where": (torch.device(device), torch.float16), "non_blocking": queued}


def test_numbers_and_dtype():
    kept = to_device(torch.tensor([1, 2]), torch.device("cpu"))
    assert (kept.dtype, kept.tolist()) == (torch.int64, [1, 2])
    assert to_device(torch.tensor([1.5]), torch.device("cpu"), torch.float64).dtype == torch.float64


@pytest.mark.cuda
def test_a_queued_copy_is_there_when_it_is_used():
    host = torch.arange(1_000_000)
    device = to_device(host, torch.device("cuda"))
    host.zero_()
    assert torch.equal(device.cpu(), torch.arange(1_000_000))
