"""Where a training step waits for the device: everything that reads a tensor's value on the host,
and no more of it.

On a GPU each such read stalls the host until the device has caught up. Here, on the CPU, the reads
are counted where they are dispatched, so that a new one is seen without a GPU.
"""

import collections
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gs_ssd
from gs_ssd import config as configs
from gs_ssd import prior as priors
from gs_ssd.trainer import Trainer

CONFIGS = Path(__file__).parents[1] / "configs"
OURS = (Path(gs_ssd.__file__).parent, "diff_gaussian_rasterization")
READS = {
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "masked_select",
    "_unique2",
    "bincount",
    "equal",
}

HOST_ONLY = {
    "distill.py:_coin": "the CPU generator's own number",
    "prompts.py:at": "the cameras' angles, before they go to the device",
    "job.py:_move": "Adam's step counters, which stay on the host",
    "viewpoints.py:sample": "the CPU generator's own numbers",
}
"""Reads of tensors that never were on the device."""
ALLOWED = {"job.py:_is_sound": 1}
"""Reads of the device per step: whether the gradient is finite, on which depends whether Adam
moves. Logging reads four numbers more, every `output.log_every` steps."""


class Reads(TorchDispatchMode):
    """Counts reads by the place in our code that asked."""

    def __init__(self):
        super().__init__()
        self.seen = collections.Counter()

    def note(self):
        frame = sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if OURS[0] in path.parents or OURS[1] in path.parts:
                self.seen[f"{path.name}:{frame.f_code.co_name}"] += 1
                return
            frame = frame.f_back
        self.seen["elsewhere"] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in READS or by_mask:
            self.note()
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch):
    """A dispatch mode that also sees the ways past the dispatcher: tolist, numpy, cpu."""
    mode = Reads()
    for method in ("tolist", "numpy", "cpu"):
        original = getattr(torch.Tensor, method)

        def watched(self, *args, _original=original, **kwargs):
            mode.note()
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method, watched)
    return mode


@pytest.mark.parametrize("config", ["presets/object", "presets/creature", "quickstart"])
def test_a_step_reads_the_device_once(config, tiny_stable_diffusion, tmp_path, reads):
    options = ("device=cpu", "prompt=a red mug", "num_steps=100", "viewpoints.image_size=32",
        "initialize.shape=ball",
               "initialize.num_points=80", "output.preview_every=0",
               f"prior.model={tiny_stable_diffusion}")  # fmt: skip
    experiment = configs.load(CONFIGS / f"{config}.yaml", options)
    trainer = Trainer(experiment, tmp_path, prior=priors.load(experiment.prior, "cpu"))
    trainer.step()
    reads.seen.clear()
    with reads:
        for _ in range(3):
            trainer.step()
    assert {
        place: count / 3 for place, count in reads.seen.items() if place not in HOST_ONLY
    } == ALLOWED
