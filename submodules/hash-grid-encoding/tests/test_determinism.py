"""The same bits for every number of threads, and every instruction set within rounding of the
reference."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fields import GRID, losses, relative, some_field, some_points, some_rays, some_tables
from hash_grid_encoding import encode, native


def everything(seed: int) -> list[torch.Tensor]:
    """All kernels: a field with the orientation loss and all its gradients, and many points."""
    samples, field = some_rays(seed, count=600), some_field(seed).to(torch.float32)
    picture, orientation = losses(field, samples, None)
    found = [picture, orientation, *torch.autograd.grad(picture + orientation, field), *samples]
    points, tables = some_points(20000, seed), some_tables(GRID, seed).requires_grad_()
    features = encode(points, tables, GRID)
    return [*found, features, *torch.autograd.grad(features.square().sum(), tables)]


def test_threads_do_not_change_a_bit():
    torch.set_num_threads(1)
    want = everything(1)
    for threads in (1, 2, 3, 8, 40):
        torch.set_num_threads(threads)
        for number, (a, b) in enumerate(zip(everything(1), want, strict=True)):
            assert torch.equal(a, b), (threads, number)


def test_concurrent_callers():
    torch.set_num_threads(2)
    points, tables = some_points(5000, 2), some_tables(GRID, 3)
    want = encode(points, tables, GRID)
    with ThreadPoolExecutor(4) as pool:
        assert all(
            torch.equal(have, want)
            for have in pool.map(lambda _: encode(points, tables, GRID), range(16))
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_fork():
    torch.set_num_threads(2)
    points, tables = some_points(9000, 4), some_tables(GRID, 5)
    want = encode(points, tables, GRID)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        have = encode(points, tables, GRID)
        torch.set_num_threads(
            1
        )  # torch's own threads are lost too, and its comparison would wait for them
        os._exit(0 if torch.equal(have, want) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set(level, monkeypatch, tmp_path):
    """HGE_CPU forces a lower instruction set; a copy of the library makes its choice anew."""
    copy = shutil.copy(native.library()._name, tmp_path / f"libhge_{level}.so")
    monkeypatch.setenv("HGE_CPU", level)
    lib = native.load(Path(copy))
    if lib.hge_backend_name().decode() != level:
        pytest.skip(f"this machine runs {lib.hge_backend_name().decode()}, not {level}")
    monkeypatch.setattr(native, "library", lambda: lib)
    samples = some_rays(6, count=100)
    field = some_field(7)
    native_field, exact = field.to(torch.float32), field.to(torch.float64)
    have = torch.autograd.grad(sum(losses(native_field, samples, None)), native_field)
    want = torch.autograd.grad(sum(losses(exact, samples, "reference")), exact)
    assert all(relative(a, b) < 2e-5 for a, b in zip(have, want, strict=True))
    for count in (1, 7, 9, 15, 16, 31, 33, 500):
        points, tables = some_points(count, 8), some_tables(GRID, 9)
        found = []
        for backend, dtype in ((None, torch.float32), ("reference", torch.float64)):
            leaf = tables.to(dtype).requires_grad_()
            features = encode(points.to(dtype), leaf, GRID, backend=backend)
            found.append([features, *torch.autograd.grad(features.square().sum(), leaf)])
        assert all(relative(a, b) < 3e-6 for a, b in zip(*found, strict=True))
