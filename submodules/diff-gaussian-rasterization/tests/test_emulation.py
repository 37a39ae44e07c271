"""The CUDA kernels, run on the CPU by csrc/emulation: every test of the CPU backend over again, the checks of a GPU,
and three orders of the threads. Says that the kernels' logic is right; nothing about a real GPU's speed or compiler."""

import ctypes

import pytest
import test_cpu
import test_dropin
import test_finite_differences
import test_inputs
import test_oracle
import test_properties
import test_quirks
import torch
from checks import ALL_CHECKS
from diff_gaussian_rasterization import native
from emulated import build_backend
from scenes import random_scene, relative, render_with_gradients
from test_dropin import scene  # noqa: F401 - a fixture of the tests taken over
from test_inputs import VALID_PROBLEM

ORDERS = ("forward", "backward", "shuffled")


@pytest.fixture(scope="session")
def emulated_library(tmp_path_factory):
    return native.load(build_backend(tmp_path_factory.mktemp("emulated")))


@pytest.fixture(autouse=True)
def _kernels_instead_of_the_cpu_backend(emulated_library, monkeypatch):
    assert emulated_library.dgr_backend_name() == b"emulated"
    monkeypatch.setattr(native, "library", lambda _: emulated_library)


SKIPPED = {"test_cuda_without_its_backend"}  # is about the loader that the fixture above replaces

for _module in (test_cpu, test_dropin, test_finite_differences, test_inputs, test_oracle, test_properties, test_quirks):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and callable(_test) and _name not in SKIPPED:
            globals()[f"{_name}_of_{_module.__name__.removeprefix('test_')}"] = _test


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_check(check):
    check("cpu")


@pytest.mark.parametrize("mode", ["tight", "tiles16"])
def test_order_of_threads(mode, monkeypatch):
    """A kernel that lacks a barrier, or reads what nobody wrote, gives other images when threads take other turns."""
    crowd = random_scene(60, count=700, width=50, height=40, views=2, scales=(0.05, 0.4), sh_degree=1)
    results = []
    for order in ORDERS:
        monkeypatch.setenv("DGR_EMULATION_ORDER", order)
        results.append(render_with_gradients(crowd, "cpu", torch.float32, mode=mode))
    (want, want_grads), *others = results
    for have, have_grads in others:
        for name in want._fields:
            assert torch.equal(getattr(have, name), getattr(want, name)), name
        for name, grad in want_grads.items():
            assert relative(have_grads[name], grad) < 2e-6, name


def test_more_instances_than_32_bits_are_refused(emulated_library):
    problem = native.Problem(**VALID_PROBLEM | {"views": 2**20, "gaussians": 2**12})
    assert emulated_library.dgr_geometry_bytes(ctypes.byref(problem)) == 0
