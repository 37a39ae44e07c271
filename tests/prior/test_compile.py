"""`prior.compile`: the same numbers, one graph without breaks, and no new compilation for each
number of images."""

import shutil
import sys

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.condition import Condition

pytest.importorskip("diffusers")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def _afresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _question(prior, images):
    generator = torch.Generator().manual_seed(images)
    text = torch.randn(images, 16, 32, generator=generator)
    t = torch.randint(1000, (images,), generator=generator)
    return torch.randn(images, 4, 16, 16, generator=generator), t, Condition(text)


def test_one_graph_serves_every_number_of_images(folder, monkeypatch):
    """Perp-Neg's live negatives change the batch from step to step: 8 to 16 images at four
    views."""
    counter = CompileCounter()
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda module, **options: compile_module(module, backend=counter, **options),
    )
    plain, compiled = (
        load(PriorConfig(model=str(folder), compile=on), "cpu") for on in (False, True)
    )
    graphs = []
    for images in (8, 13, 9, 12, 16, 21, 10, 18):
        torch.testing.assert_close(compiled.predict_noise(*_question(plain, images)),
                                   plain.predict_noise(*_question(plain, images)))  # fmt: skip
        graphs.append(counter.frame_count)
    # The first number of images, then any; on a CPU from 16 on once more, where PyTorch takes other
    # convolutions.
    assert graphs == [1, 2, 2, 2, graphs[4], graphs[4], graphs[4], graphs[4]]
    assert graphs[4] <= 3


@pytest.mark.skipif(sys.platform != "linux", reason="inductor's C++ is tried on Linux only")
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler on the PATH")
def test_inductor_gives_the_same_numbers(folder):
    plain, compiled = (
        load(PriorConfig(model=str(folder), compile=on), "cpu") for on in (False, True)
    )
    for images in (2, 3):
        question = _question(plain, images)
        torch.testing.assert_close(
            compiled.predict_noise(*question), plain.predict_noise(*question), rtol=1e-4, atol=1e-5
        )
