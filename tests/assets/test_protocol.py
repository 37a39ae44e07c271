"""The protocol has a second member: billboards train, checkpoint and resume through the unchanged
trainer."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from gs_ssd import config as configs
from gs_ssd.assets.base import Asset, TrainingStep
from gs_ssd.errors import UserError
from gs_ssd.job import Job
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"

_spec = importlib.util.spec_from_file_location(
    "billboards", Path(__file__).with_name("billboards.py")
)
assert _spec is not None
billboards = importlib.util.module_from_spec(_spec)
assert _spec.loader is not None
_spec.loader.exec_module(billboards)
Billboards = billboards.Billboards


class Watched(Billboards):
    """Notes which hooks are called."""

    def __init__(self):
        self.hooks = []

    def begin_step(self, step):
        self.hooks.append(("begin", step.index))

    def after_backward(self, output, step):
        self.hooks.append(("backward", bool(self.textures.grad.any())))

    def after_step(self, step):
        self.hooks.append(("step", step.index))
        return {"touched": 1}


def smoke(*overrides):
    return configs.load(
        SMOKE, ["num_steps=4", "output.turntable_frames=0", "output.preview_every=2", *overrides]
    )


def test_billboards_train_two_steps_are_saved_and_resumed_to_the_same_bits(tmp_path):
    config = smoke("output.process_frames=2", "regularize.tv_rgb=[[0, 0.1]]")
    whole = Trainer(config, tmp_path / "whole", asset=Watched())
    start = Billboards()
    start.initialize(torch.Generator().manual_seed(0))
    written = whole.fit()
    Trainer(config, tmp_path / "parts", asset=Billboards()).fit(until=2)
    resumed = Trainer(config, tmp_path / "parts", asset=Billboards(), resume=True)
    assert resumed.completed == 2
    resumed.fit()
    assert torch.equal(whole.asset.textures, resumed.asset.textures)
    assert not torch.equal(whole.asset.textures, start.textures)
    assert {path.name for path in written} == {"billboards.pt", "views.png", "process.mp4"}
    assert torch.equal(torch.load(tmp_path / "whole/billboards.pt"), whole.asset.textures.detach())
    rows = [
        json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()
    ]
    assert [(row["num_billboards"], row["touched"]) for row in rows] == [(3, 1)] * 4
    assert all(row["grad_norm"] > 0 and row["tv_rgb"] > 0 for row in rows)
    assert Image.open(tmp_path / "whole/previews/step_000002.png").size == (4 * 128, 2 * 128)


def test_hooks_come_in_the_order_that_the_protocol_states():
    asset = Watched()
    steps = Job(smoke(), AnalyticPrior.discs(), asset=asset).steps()
    next(steps)
    assert asset.hooks == [("begin", 0), ("backward", True), ("step", 0)]
    assert asset.textures.grad is None


def test_a_gradient_that_is_not_finite_calls_no_hook_and_moves_nothing():
    asset = Watched()
    job = Job(smoke(), AnalyticPrior.discs(), asset=asset)
    asset.textures.data[0, 0, 0, 0] = torch.nan
    before = asset.textures.detach().clone()
    assert job.step().metrics["bad_steps"] == 1
    assert asset.hooks == [("begin", 0)]
    assert torch.equal(asset.textures.nan_to_num(), before.nan_to_num())


def test_a_checkpoint_of_another_kind_of_asset_is_refused(tmp_path):
    Trainer(smoke(), tmp_path, asset=Billboards()).fit(until=2)
    with pytest.raises(UserError, match="of the kind billboards, and this run optimizes a splat"):
        Trainer(smoke(), tmp_path, resume=True)


def test_an_asset_that_lacks_a_duty_cannot_be_made():
    class Unfinished(Asset):
        kind = "unfinished"

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()


def test_progress_runs_from_0_to_1():
    shares = [TrainingStep(index, 5, torch.Generator()).progress for index in range(5)]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] <= 1
