"""The CUDA kernels, run on the CPU by csrc/emulation: every test of the CPU backend over again, the
checks of a GPU, and three orders of the threads. Says that the kernels' logic is right; nothing
about a real GPU's speed or compiler.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import pytest
import test_cpu
import test_dropin
import test_finite_differences
import test_inputs
import test_oracle
import test_properties
import test_quirks
import torch
from checks import ALL_CHECKS, cameras_of, options_of, splats_of
from diff_gaussian_rasterization import native, render_views
from emulated import CSRC, build_backend, runtime_of
from scenes import random_scene, relative, render_with_gradients
from test_dropin import scene  # noqa: F401 - a fixture of the tests taken over
from test_inputs import VALID_PROBLEM

if not (CSRC / "cuda" / "api.cu").is_file():
    pytest.skip("the CUDA sources are not there", allow_module_level=True)

ORDERS = ("forward", "backward", "shuffled")
FAILING = random_scene(61, count=300, width=40, height=30)


@pytest.fixture(scope="session")
def emulated_library(tmp_path_factory):
    return native.load(build_backend(tmp_path_factory.mktemp("emulated")))


@pytest.fixture(autouse=True)
def _kernels_instead_of_the_cpu_backend(emulated_library, monkeypatch):
    assert emulated_library.dgr_backend_name() == b"emulated"
    monkeypatch.setattr(native, "library", lambda _: emulated_library)


SKIPPED = {"test_cuda_without_its_backend"}  # is about the loader that the fixture above replaces

for _module in (
    test_cpu,
    test_dropin,
    test_finite_differences,
    test_inputs,
    test_oracle,
    test_properties,
    test_quirks,
):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and callable(_test) and _name not in SKIPPED:
            globals()[f"{_name}_of_{_module.__name__.removeprefix('test_')}"] = _test


@pytest.mark.parametrize(
    "check", ALL_CHECKS, ids=lambda check: check.__name__.removeprefix("check_")
)
def test_check(check):
    check("cpu")


@pytest.mark.parametrize("mode", ["tight", "tiles16"])
def test_order_of_threads(mode, monkeypatch):
    """A kernel that lacks a barrier, or reads what nobody wrote, gives other images when threads
    take other turns."""
    crowd = random_scene(
        60, count=700, width=50, height=40, views=2, scales=(0.05, 0.4), sh_degree=1
    )
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
    assert b"is invalid" in emulated_library.dgr_message(native.DEVICE_ERROR)


# All that a render makes, in order; the page-locked memory is allocated by the first one of a
# thread alone.
FORWARD_CALLS = (
    "cudaPointerGetAttributes", "cudaGetDevice", "cudaSetDevice", "sort_pairs_bytes",
    "exclusive_sum_bytes", "cudaStreamIsCapturing", "launch", "cudaHostAlloc",
    "cudaEventCreateWithFlags", "cudaMemcpyAsync", "cudaEventRecord", "sort_pairs", "exclusive_sum",
    "cudaEventSynchronize", "cudaEventDestroy", "cudaMemsetAsync",
)  # fmt: skip


@pytest.mark.parametrize("call", FORWARD_CALLS)
def test_a_failing_call_is_reported_once(emulated_library, call):
    """And leaves nothing behind: neither an error that CUB would find in the next render, nor
    another device."""
    want, want_grads = render_with_gradients(FAILING, "cpu", torch.float32)

    def fail_and_go_on():
        runtime = runtime_of(emulated_library)
        runtime.device = 1  # not that of the memory: it has to be changed, and restored
        runtime.failing = call.encode()
        with pytest.raises(RuntimeError, match="CUDA: emulated"):
            render_with_gradients(FAILING, "cpu", torch.float32)
        assert (runtime.failing, runtime.last_error, runtime.device) == (b"", 0, 1)
        return render_with_gradients(FAILING, "cpu", torch.float32)

    with ThreadPoolExecutor(1) as fresh_thread:  # which has no page-locked memory yet
        have, have_grads = fresh_thread.submit(fail_and_go_on).result()
    assert torch.equal(have.rgb, want.rgb)
    assert all(relative(have_grads[name], grad) < 2e-6 for name, grad in want_grads.items())


@pytest.mark.parametrize(
    "call", ["cudaPointerGetAttributes", "cudaGetDevice", "cudaMemsetAsync", "launch"]
)
def test_a_failing_call_of_the_backward_pass_is_reported_once(emulated_library, call):
    inputs = {
        name: value.requires_grad_(name == "means")
        for name, value in FAILING.to(torch.float32).tensors().items()
    }
    runtime = runtime_of(emulated_library)
    out = render_views(**inputs, width=FAILING.width, height=FAILING.height)
    runtime.failing = call.encode()
    with pytest.raises(RuntimeError, match="CUDA: emulated"):
        out.rgb.sum().backward(retain_graph=True)
    assert runtime.last_error == 0
    out.rgb.sum().backward()
    assert inputs["means"].grad.abs().max() > 0


def test_an_error_left_behind_does_not_shrink_a_workspace(emulated_library):
    """CUB, asked for its share, would take it for its own, and 0 bytes for the answer."""
    inputs = FAILING.to(torch.float32)
    problem = native.describe(splats_of(inputs), cameras_of(inputs), options_of(inputs))
    sizes = []
    for left in (0, 1):
        runtime_of(emulated_library).last_error = left
        sizes.append(emulated_library.dgr_geometry_bytes(ctypes.byref(problem)))
        runtime_of(emulated_library).last_error = left
        sizes.append(emulated_library.dgr_binning_bytes(ctypes.byref(problem), 1000))
    assert sizes[:2] == sizes[2:]
    assert all(sizes)


def test_a_workspace_that_is_too_small_is_refused(emulated_library):
    inputs = FAILING.to(torch.float32)
    problem, pairs = (
        native.describe(splats_of(inputs), cameras_of(inputs), options_of(inputs)),
        ctypes.c_int64(),
    )
    size = emulated_library.dgr_geometry_bytes(ctypes.byref(problem))
    geometry, radii = (
        torch.empty(size, dtype=torch.uint8),
        torch.empty(len(inputs.means), dtype=torch.int32),
    )
    for bytes_, sentence in (
        (size, b"no error"),
        (size - 1, b"CUDA: emulated"),
        (256, b"is invalid"),
    ):
        status = emulated_library.dgr_project(
            ctypes.byref(problem),
            geometry.data_ptr(),
            bytes_,
            radii.data_ptr(),
            ctypes.byref(pairs),
            None,
        )
        assert sentence in emulated_library.dgr_message(status)


def test_a_graph_cannot_be_captured(emulated_library):
    runtime_of(emulated_library).capturing = 1
    with pytest.raises(RuntimeError, match="cannot be captured into a CUDA graph"):
        render_with_gradients(FAILING, "cpu", torch.float32)
    runtime_of(emulated_library).capturing = 0
    render_with_gradients(FAILING, "cpu", torch.float32)
