"""The CPU backend cross-built for aarch64 (portable sources, NEON through vector extensions) and
run by qemu-user: its native test, and the tests of the CPU backend over again, through a server
process that the emulator runs.
"""

import shutil
import subprocess
from dataclasses import replace

import pytest
import test_cpu
import test_determinism
import test_dropin
import test_finite_differences
import test_oracle
import test_properties
import test_quirks
import torch
from diff_gaussian_rasterization import native
from emulated import CSRC
from remote import RemoteLibrary
from scenes import random_scene, relative, render_with_gradients
from test_dropin import scene  # noqa: F401 - a fixture of the tests taken over

COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
MISSING = [name for name in (COMPILER, "cmake") if not shutil.which(name)] + ["qemu-aarch64"] * (
    not EMULATOR
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        bool(MISSING),
        reason=(
            f"no {', no '.join(MISSING)} (Debian: apt install g++-aarch64-linux-gnu qemu-user"
            " cmake)"
        ),
    ),
]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """CMake's own build for that processor."""
    folder = tmp_path_factory.mktemp("aarch64")
    options = {
        "CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": COMPILER, "DGR_TESTS": "ON", "DGR_CUDA": "OFF",
    }  # fmt: skip
    defines = [f"-D{name}={value}" for name, value in options.items()]
    subprocess.run(
        ["cmake", "-S", CSRC.parent, "-B", folder, *defines], check=True, stdout=subprocess.DEVNULL
    )
    subprocess.run(["cmake", "--build", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def emulate(program) -> list[str]:
    return [EMULATOR, "-L", "/usr/aarch64-linux-gnu", str(program)]


@pytest.fixture(scope="session")
def aarch64_library(build):
    library = RemoteLibrary(emulate(build / "dgr_abi_server"))
    yield library
    library.close()


@pytest.fixture(autouse=True)
def _aarch64_instead_of_this_machine(aarch64_library, monkeypatch):
    monkeypatch.setattr(native, "library", lambda _: aarch64_library)


SKIPPED = {
    # About this machine's own library and processes:
    "test_after_fork", "test_every_instruction_set", "test_cuda_without_its_backend",
    # Bit for bit; below to rounding:
    "test_order_of_the_splats_does_not_matter",
}  # fmt: skip

for _module in (
    test_cpu, test_determinism, test_dropin, test_finite_differences, test_oracle, test_properties,
    test_quirks,
):  # fmt: skip
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and callable(_test) and _name not in SKIPPED:
            globals()[f"{_name}_of_{_module.__name__.removeprefix('test_')}"] = _test


@pytest.mark.parametrize("seed", range(5))
def test_order_of_the_splats(seed):
    """GCC fuses multiplication and addition in one half of a vector and not in the other, so a
    Gaussian's place decides the last bit of some of its gradients; on x86-64 nothing."""
    ordered = random_scene(60 + seed, count=40, width=40, height=30, sh_degree=1)
    shuffle = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    permuted = {
        name: value[shuffle] for name, value in ordered.tensors().items() if len(value) == 40
    }
    want, want_grads = render_with_gradients(ordered, "cpu", torch.float32)
    have, grads = render_with_gradients(replace(ordered, **permuted), "cpu", torch.float32)
    assert torch.equal(have.rgb, want.rgb)
    for name in permuted:
        assert relative(grads[name], want_grads[name][shuffle]) < 1e-6, name


def test_native(build):
    done = subprocess.run(
        emulate(build / "dgr_native_test"), capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout) == (0, "portable\nok\n"), done.stderr


def test_program_is_for_aarch64(build, aarch64_library):
    header = (build / "dgr_abi_server").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64
    assert aarch64_library.dgr_backend_name() == b"portable"
