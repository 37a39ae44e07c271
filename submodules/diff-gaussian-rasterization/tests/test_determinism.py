"""The same bits for every number of threads, run after run, and from several Python threads at
once."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from diff_gaussian_rasterization import native, render_views
from scenes import random_scene, relative, render_with_gradients


@pytest.mark.parametrize("mode", ["tight", "tiles16"])
def test_threads_do_not_change_a_bit(mode):
    scene = random_scene(
        40, count=6000, width=150, height=110, views=2, sh_degree=2, scales=(0.01, 0.1)
    )
    torch.set_num_threads(1)
    want, want_grads = render_with_gradients(scene, "cpu", torch.float32, mode=mode)
    for threads in (1, 2, 4, 2):
        torch.set_num_threads(threads)
        have, have_grads = render_with_gradients(scene, "cpu", torch.float32, mode=mode)
        for name in want._fields:
            assert torch.equal(getattr(have, name), getattr(want, name)), (threads, name)
        for name, grad in want_grads.items():
            assert torch.equal(have_grads[name], grad), (threads, name)


def test_concurrent_callers():
    """ctypes releases the interpreter lock: calls overlap, and one of them finds the pool taken."""
    scene = random_scene(41, count=800, width=90, height=70)
    torch.set_num_threads(2)
    want, want_grads = render_with_gradients(scene, "cpu", torch.float32)
    with ThreadPoolExecutor(4) as pool:
        for have, have_grads in pool.map(
            lambda _: render_with_gradients(scene, "cpu", torch.float32), range(12)
        ):
            assert torch.equal(have.rgb, want.rgb)
            assert all(torch.equal(have_grads[name], grad) for name, grad in want_grads.items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_fork():
    """A forked child has lost the pool's threads: it must start its own instead of waiting for
    them."""
    torch.set_num_threads(2)
    scene = random_scene(42, count=50).to(torch.float32)
    inputs = scene.tensors() | {"width": scene.width, "height": scene.height}
    want = render_views(**inputs).rgb
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if torch.equal(render_views(**inputs).rgb, want) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set(level, monkeypatch, tmp_path):
    """DGR_CPU forces a lower instruction set; a copy of the library makes its choice anew."""
    copy = shutil.copy(native.library("cpu")._name, tmp_path / f"libdgr_{level}.so")
    monkeypatch.setenv("DGR_CPU", level)
    lib = native.load(Path(copy))
    if lib.dgr_backend_name().decode() != level:
        pytest.skip(f"this machine runs {lib.dgr_backend_name().decode()}, not {level}")
    monkeypatch.setattr(native, "library", lambda _: lib)
    scene = random_scene(43, count=300, sh_degree=3)
    have, grads = render_with_gradients(scene, "cpu", torch.float32)
    want, want_grads = render_with_gradients(scene, "reference", torch.float64)
    assert (have.rgb - want.rgb).abs().max() < 1e-5
    assert all(relative(grads[name], grad) < 1e-5 for name, grad in want_grads.items())
