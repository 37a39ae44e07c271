"""A device by its name; host to device: queued where that is safe and of use, the same numbers
everywhere."""

import importlib

import pytest
import torch

from gs_ssd import devices, trainer
from gs_ssd.config import ExperimentConfig
from gs_ssd.devices import to_device
from gs_ssd.errors import UserError
from gs_ssd.render import device as rendering_device


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "meta", "mps"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(UserError, match=f"device={name}") as caught:
        devices.choose(name)
    assert len(str(caught.value)) < 200


def test_the_cpu_is_always_there():
    assert devices.choose("cpu").type == "cpu"
    assert devices.choose("auto").type in ("cpu", "cuda")


@pytest.fixture
def machine_with_gpu(monkeypatch):
    """Make torch claim a GPU; returns a function that sets the rasterizer's backends."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a fine GPU")
    monkeypatch.setattr(devices.torch, "empty", lambda *_, **__: None)
    rasterizer = importlib.import_module("diff_gaussian_rasterization")
    return lambda *backends: monkeypatch.setattr(rasterizer, "available_backends", lambda: backends)


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_gpu_without_the_cuda_backend_is_refused_with_the_command_that_helps(
    name, machine_with_gpu
):
    machine_with_gpu("cpu", "reference")
    with pytest.raises(UserError, match=rf"^device={name} .*compile\.py --install .*device=cpu$"):
        rendering_device.choose(name)
    assert rendering_device.choose("cpu").type == "cpu"
    machine_with_gpu("cpu", "cuda", "reference")
    assert rendering_device.choose(name).type == "cuda"


def test_it_is_refused_before_a_model_is_loaded(machine_with_gpu, monkeypatch, tmp_path):
    machine_with_gpu("cpu", "reference")
    monkeypatch.setattr(trainer, "load_prior", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match="CUDA backend"):
        trainer.Trainer(ExperimentConfig(prompt="a red mug"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_auto_says_what_it_chose_and_why(machine_with_gpu, caplog, monkeypatch):
    caplog.set_level("INFO")
    machine_with_gpu("cpu", "cuda", "reference")
    rendering_device.choose("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rendering_device.choose("auto")
    rendering_device.choose("cpu")
    assert caplog.messages == [
        "device=auto: cuda (a fine GPU is there)",
        "device=auto: cpu (PyTorch sees no GPU)",
    ]


def test_the_rasterizer_says_its_backends():
    backends = importlib.import_module("diff_gaussian_rasterization").available_backends()
    assert {"cpu", "reference"} <= set(backends) <= {"cpu", "cuda", "reference"}


@pytest.mark.parametrize(("device", "queued"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_a_copy_to_a_gpu_is_queued(monkeypatch, device, queued):
    seen = {}
    numbers = torch.arange(3.0)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *where, **how: seen.update(where=where, **how) or self
    )
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
