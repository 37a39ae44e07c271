"""The CUDA backend on a real GPU, against the float64 reference."""

import pytest
import torch
from checks import ALL_CHECKS, IMAGES, cameras_of, options_of, run, splats_of
from diff_gaussian_rasterization import render_views
from scenes import random_scene, relative

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_check(check):
    check("cuda")


def test_the_host_waits_once():
    """For the number of pairs, in dgr_project; torch, which is watched here, never waits."""
    scene = random_scene(72, count=400, views=2).to(torch.float32)
    inputs = {name: value.cuda().requires_grad_(name == "means") for name, value in scene.tensors().items()}
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        render_views(**inputs, width=scene.width, height=scene.height).rgb.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_another_stream():
    """Work goes to torch's current stream: behind a long kernel there, and not to the default stream."""
    scene = random_scene(70, count=400, views=2)
    arguments = splats_of(scene), cameras_of(scene), options_of(scene), {"rgb": torch.ones(2, 3, 48, 64)}, "cuda", True
    want = run(*arguments)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        have = run(*arguments)
    for name in IMAGES:
        assert torch.equal(getattr(have.images, name), getattr(want.images, name)), name


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_another_device():
    scene = random_scene(71, count=200)
    arguments = splats_of(scene), cameras_of(scene), options_of(scene), {"rgb": torch.ones(1, 3, 48, 64)}
    want, have = (run(*arguments, device, True) for device in ("cuda:0", "cuda:1"))
    assert torch.equal(have.images.rgb, want.images.rgb)
    assert all(relative(have.grads[name], grad) < 2e-6 for name, grad in want.grads.items())
