"""What only a CUDA device can show: streams, waiting, several devices, graphs.

Needs torch alone (no pytest), as `checks.py` does. A check takes a CUDA device, raises where it
fails, and returns why it was left out where the machine cannot show it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from checks import cameras_of, options_of, run, splats_of
from diff_gaussian_rasterization import RenderedViews, render_views
from scenes import Scene, random_scene, relative
from torch import Tensor

SLEEP_CYCLES = 200_000_000  # a tenth of a second: the host has long queued all that follows


def on_device(scene: Scene, device: str) -> dict[str, Tensor]:
    return {name: value.to(device, torch.float32) for name, value in scene.tensors().items()}


def rendered(scene: Scene, inputs: dict[str, Tensor]) -> RenderedViews:
    return render_views(**inputs, width=scene.width, height=scene.height, sh_degree=scene.sh_degree)


def check_the_host_waits_once(device: str) -> None:
    """For the number of pairs, in dgr_project; torch, which is watched here, never waits."""
    scene = random_scene(72, count=400, views=2)
    inputs = on_device(scene, device)
    inputs["means"].requires_grad_()
    torch.cuda.synchronize(device)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        rendered(scene, inputs).rgb.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(before)


def check_another_stream(device: str) -> None:
    """Work goes to torch's current stream.

    The means, then the image's gradient, hold wrong numbers until a copy on that stream, behind a
    long sleep, has put them right; work on any other stream would read the wrong ones.
    """
    scene = random_scene(70, count=400, views=2)
    inputs = on_device(scene, device)
    right = torch.ones(2, 3, scene.height, scene.width, device=device)
    leaf = inputs["means"].clone().requires_grad_()
    want = rendered(scene, inputs | {"means": leaf})
    want.rgb.backward(right)
    late, incoming = (10 * inputs["means"]).requires_grad_(), 10 * right
    torch.cuda.synchronize(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        torch.cuda._sleep(SLEEP_CYCLES)
        with torch.no_grad():
            late.copy_(inputs["means"])
        have = rendered(scene, inputs | {"means": late})
        torch.cuda._sleep(SLEEP_CYCLES)
        incoming.copy_(right)
        have.rgb.backward(incoming)
    torch.cuda.synchronize(device)
    for name in want._fields:
        assert torch.equal(getattr(have, name), getattr(want, name)), name
    assert relative(late.grad, leaf.grad) < 2e-6, "gradient"


def check_another_device(device: str) -> str | None:
    """A device that is not the current one renders the same, and is not the current one
    afterwards."""
    if torch.cuda.device_count() < 2:
        return "needs two CUDA devices"
    scene = random_scene(71, count=200)
    arguments = (
        splats_of(scene),
        cameras_of(scene),
        options_of(scene),
        {"rgb": torch.ones(1, 3, 48, 64)},
    )
    current = torch.cuda.current_device()
    want, have = (run(*arguments, f"cuda:{index}", True) for index in (0, 1))
    assert torch.cuda.current_device() == current
    assert torch.equal(have.images.rgb, want.images.rgb)
    assert all(relative(have.grads[name], grad) < 2e-6 for name, grad in want.grads.items())
    return None


def check_a_graph_cannot_be_captured(device: str) -> None:
    """A sentence says so, the capture itself goes on, and so do renders after it."""
    scene = random_scene(73, count=200)
    inputs = on_device(scene, device)
    want, message = rendered(scene, inputs), "no error"
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = 2 * inputs["means"]
        try:
            rendered(scene, inputs)
        except RuntimeError as error:
            message = str(error)
    assert "cannot be captured" in message, message
    graph.replay()
    assert torch.equal(doubled, 2 * inputs["means"])
    have = rendered(scene, inputs)
    for name in want._fields:
        assert torch.equal(getattr(have, name), getattr(want, name)), name


DEVICE_CHECKS: tuple[Callable[[str], str | None], ...] = (
    check_the_host_waits_once, check_another_stream, check_another_device,
    check_a_graph_cannot_be_captured,
)  # fmt: skip
