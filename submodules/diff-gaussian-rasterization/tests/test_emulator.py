"""The host emulation itself: that it computes what CUDA defines, and stops at what CUDA leaves
undefined."""

import ctypes
import subprocess
import sys

import pytest
from emulated import CSRC, compile_emulated

if not (CSRC / "cuda" / "api.cu").is_file():
    pytest.skip("the CUDA sources are not there", allow_module_level=True)

SOURCE = """
#include "cuda/platform.cuh"
using namespace dgr;
struct Words { int words[256]; };

__global__ void reverse(int* out, bool with_barrier) {
    DGR_SHARED(Words, shared);
    const int i = threadIdx.x;
    shared.words[i] = i;
    if (with_barrier) __syncthreads();
    out[blockIdx.x * 256 + i] = shared.words[255 - i];
}
__global__ void vote_and_shuffle(int* out) {
    const int lane = lane_of_thread();
    int sum = lane;
    for (int bit = 16; bit > 0; bit /= 2) sum += __shfl_xor_sync(kAllLanes, sum, bit);
    const unsigned odd = __ballot_sync(kAllLanes, lane % 2);
    out[threadIdx.x] = sum + __popc(odd) + __ffs(odd)
        + __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x), 3);
}
__global__ void count_threads(int* out) {
    out[threadIdx.x] = __syncthreads_count(threadIdx.x < 100);
    __syncthreads();
    atomicAdd(out, 1000);
}
__global__ void half_a_warp() { if (lane_of_thread() < 16) __ballot_sync(kAllLanes, true); }
__global__ void two_operations() {
    if (lane_of_thread() < 16) __ballot_sync(kAllLanes, true);
    else __shfl_sync(kAllLanes, 1, 0);
}
__global__ void half_a_block() { if (threadIdx.x < 128) __syncthreads(); }

extern "C" DGR_API void run_reverse(int* out, bool barrier) {
  launch(reverse, 2, 256, nullptr, out, barrier);
}
extern "C" DGR_API void run_vote_and_shuffle(int* out) {
  launch(vote_and_shuffle, 1, 64, nullptr, out);
}
extern "C" DGR_API void run_count_threads(int* out) { launch(count_threads, 1, 256, nullptr, out); }
extern "C" DGR_API void run_half_a_warp() { launch(half_a_warp, 1, 256, nullptr); }
extern "C" DGR_API void run_two_operations() { launch(two_operations, 1, 256, nullptr); }
extern "C" DGR_API void run_half_a_block() { launch(half_a_block, 1, 256, nullptr); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulator")
    source = folder / "kernels.cpp"
    source.write_text(SOURCE)
    return ctypes.CDLL(str(compile_emulated([source], folder / "kernels.so", f"-I{CSRC}")))


def test_shared_memory_and_barrier(library, monkeypatch):
    for order in ("forward", "backward", "shuffled"):
        monkeypatch.setenv("DGR_EMULATION_ORDER", order)
        out = (ctypes.c_int * 512)()
        library.run_reverse(out, True)
        assert list(out) == [255 - i for i in range(256)] * 2


def test_a_missing_barrier_shows(library, monkeypatch):
    """Words that nobody has written yet read as 0xffffffff."""
    for order in ("forward", "backward", "shuffled"):
        monkeypatch.setenv("DGR_EMULATION_ORDER", order)
        out = (ctypes.c_int * 512)()
        library.run_reverse(out, False)
        assert -1 in out


def test_warp_operations(library):
    out = (ctypes.c_int * 64)()
    library.run_vote_and_shuffle(out)
    assert list(out) == [496 + 16 + 2 + 3] * 32 + [496 + 16 + 2 + 35] * 32


def test_counting_barrier_and_atomics(library):
    out = (ctypes.c_int * 256)()
    library.run_count_threads(out)
    assert list(out) == [100 + 256_000] + [100] * 255


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        ("half_a_warp", "deadlock"),
        ("two_operations", "meet in different operations"),
        ("half_a_block", "deadlock"),
    ],
)
def test_undefined_behaviour_stops(library, kernel, sentence):
    code = f"import ctypes; ctypes.CDLL({library._name!r}).run_{kernel}()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert sentence in done.stderr
