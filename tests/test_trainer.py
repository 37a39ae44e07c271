"""The loop on the analytic prior: it learns, it resumes to the same bits, it stops well, it refuses
by name."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.events import Stepped
from gs_ssd.export.ply_reader import read_ply
from gs_ssd.interrupts import Interrupted
from gs_ssd.job import generator_at
from gs_ssd.run import checkpoint
from gs_ssd.scene import viewpoints
from gs_ssd.scene.gaussians import PARAMETERS
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[1] / "configs" / "smoke.yaml"


def smoke(*overrides: str) -> ExperimentConfig:
    small = [
        "output.turntable_frames=0",
        "output.preview_every=0",
        "output.checkpoint_every=2",
        *overrides,
    ]
    return configs.load(SMOKE, small)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same_bits(one: Trainer, other: Trainer) -> None:
    for name in PARAMETERS:
        a, b = getattr(one.asset.gaussians, name), getattr(other.asset.gaussians, name)
        assert torch.equal(a, b), name
        state_a, state_b = (
            one.asset.trained.optimizer.state[a],
            other.asset.trained.optimizer.state[b],
        )
        assert all(torch.equal(state_a[key], state_b[key]) for key in state_a), name
    theirs = other.asset.trained.statistics
    assert all(
        torch.equal(value, theirs[key]) for key, value in one.asset.trained.statistics.items()
    )


@pytest.mark.parametrize(
    ("policy", "estimator"),
    [("adaptive", "ssd"), ("mcmc", "ssd"), ("adaptive", "vsd"), ("adaptive", "ism")],
)
def test_two_steps_resumed_to_four_equal_four_uninterrupted_bit_for_bit(
    tmp_path, policy, estimator
):
    """Splats, Adam, statistics, random numbers, the widening of the cameras, and VSD's critic
    through a file."""
    options = [
        f"guidance.estimator={estimator}",
        "viewpoints.widening.every_share=0.01",
        f"densify.policy={policy}",
        "densify.adaptive.every=1",
        "densify.adaptive.start_share=0",
        "num_steps=4",
    ]
    options += [
        "densify.mcmc.every=1",
        "densify.mcmc.budget=330",
        "densify.mcmc.noise=1e3",
        "densify.adaptive.stop_share=0.8",
    ]
    config = smoke(*options)
    whole = Trainer(config, tmp_path / "whole")
    whole.fit()
    Trainer(config, tmp_path / "parts").fit(until=2)
    resumed = Trainer(config, tmp_path / "parts", resume=True)
    assert resumed.completed == 2
    resumed.fit()
    assert len(whole.asset.gaussians) != 300  # the population changed on the way
    same_bits(whole, resumed)
    first, last = (
        viewpoints.ranges_at(resumed.job.viewpoints, step, resumed.config.num_steps)
        for step in (0, 3)
    )
    assert first.fov_rad[0] > last.fov_rad[0]  # the ranges did widen on the way
    untimed = [
        [{**row, "seconds_per_step": 0, "peak_memory_mib": 0} for row in rows(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert untimed[0] == untimed[1]
    assert (tmp_path / "whole/point_cloud.ply").read_bytes() == (
        tmp_path / "parts/point_cloud.ply"
    ).read_bytes()


def test_a_red_disc_becomes_red_and_a_run_leaves_what_it_promises(tmp_path):
    trainer = Trainer(smoke("output.turntable_frames=4", "output.preview_every=20"), tmp_path)
    written = trainer.fit()
    names = {path.name for path in written}
    assert names == {
        "point_cloud.ply",
        "turntable.mp4",
        "turntable.webp",
        "index.html",
        "views.png",
    }
    assert all(path.stat().st_size > 500 for path in written)
    previews = {path.name for path in (tmp_path / "previews").glob("*.png")}
    assert previews == {
        f"{kind}_{step:06d}.png" for kind in ("step", "guidance") for step in (20, 40)
    }
    metrics = rows(tmp_path)
    assert [row["step"] for row in metrics] == list(range(40))
    assert {"num_splats", "grad_norm", "t", "alpha_mean", "seconds_per_step"} <= set(metrics[0])
    peaks = [row["peak_memory_mib"] for row in metrics]
    assert peaks == sorted(peaks)
    assert 0 <= peaks[0] < 4000
    assert len({row["grad_norm"] for row in metrics[:20]}) == 20
    asset = read_ply(tmp_path / "point_cloud.ply")
    assert len(asset) == metrics[-1]["num_splats"]
    solid = asset.opacities > 0.3
    red, green, blue = np.average(asset.colors[solid], axis=0)
    assert red > green + 0.15
    assert red > blue + 0.15
    assert configs.load(tmp_path / "config.yaml") == trainer.config


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_bits(tmp_path, number):
    config = smoke("num_steps=4", "output.checkpoint_every=0")
    whole = Trainer(config, tmp_path / "whole")
    whole.fit()
    stopped = Trainer(config, tmp_path / "parts")
    step = stopped.job.step

    def step_and_be_told() -> Stepped:
        if stopped.completed == 1:
            os.kill(os.getpid(), number)
        return step()

    stopped.job.step = step_and_be_told
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stop:
        stopped.fit()
    assert (stop.value.signal_number, stop.value.step) == (number, 2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = Trainer(config, tmp_path / "parts", resume=True)
    resumed.fit()
    same_bits(whole, resumed)


def stopped_at_once(trainer: Trainer) -> None:
    trainer.fit(listeners=[lambda event: trainer.stop()])


def test_an_interrupted_run_has_the_frames_and_sheets_of_an_uninterrupted_one(tmp_path):
    config = smoke("num_steps=4", "output.process_frames=4", "output.preview_every=2")

    parts = tmp_path / "parts"
    with pytest.raises(Interrupted):
        stopped_at_once(Trainer(config, parts))
    with pytest.raises(Interrupted):
        stopped_at_once(Trainer(config, parts, resume=True))
    assert sorted(path.name for path in (parts / "process").iterdir()) == [
        "000001.png",
        "000002.png",
    ]
    Trainer(config, parts, resume=True).fit()
    Trainer(config, tmp_path / "whole").fit()
    for name in ("process.mp4", "previews/step_000002.png", "previews/guidance_000002.png"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_until_no_step_trains_none(tmp_path):
    trainer = Trainer(smoke("num_steps=4"), tmp_path)
    before = {
        name: tensor.detach().clone()
        for name, tensor in trainer.asset.gaussians.parameters().items()
    }
    assert trainer.fit(until=0) == []
    assert trainer.completed == 0
    assert all(torch.equal(before[name], getattr(trainer.asset.gaussians, name)) for name in before)
    resumed = Trainer(smoke("num_steps=4"), tmp_path, resume=True)
    resumed.fit()
    assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2, 3]


def test_tensorboard_shows_what_a_resumed_run_did_once_a_step(tmp_path):
    """Numbers that mean something, sheets of the views, and what guidance saw (x0, |gradient|),
    across a resume."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = smoke(
        "num_steps=4",
        "output.tensorboard=true",
        "output.preview_every=2",
        "regularize.opacity=[[0, 0.1]]",
    )
    Trainer(config, tmp_path).fit(
        until=3
    )  # a step beyond the newest checkpoint that a kill would leave
    (tmp_path / "checkpoints" / "step_000003.pt").unlink()
    Trainer(config, tmp_path, resume=True).fit()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    metrics = rows(tmp_path)
    shown = {
        "grad_norm",
        "t",
        "num_splats",
        "alpha_mean",
        "opacity",
        "seconds_per_step",
        "peak_memory_mib",
    }
    assert shown <= set(events.Tags()["scalars"])
    for name in ("grad_norm", "alpha_mean", "opacity"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(row["step"], pytest.approx(row[name], rel=1e-5)) for row in metrics]
        assert len({value for _, value in points}) == 4  # never a constant
    for name, size in {"views": (4 * 128, 2 * 128), "guidance": (5 * 192, 2 * 192)}.items():
        images = events.Images(name)
        assert [image.step for image in images] == [1, 3]
        assert {(image.width, image.height) for image in images} == {size}


def test_the_end_of_a_run_says_how_much_memory_it_took(tmp_path, caplog):
    with caplog.at_level("INFO"):
        Trainer(smoke("num_steps=1"), tmp_path).fit()
    assert re.search(r"peak memory: \d+ MiB", caplog.text)


def test_training_works_in_a_thread_where_signals_cannot_be_caught(tmp_path):
    trainer = Trainer(smoke("num_steps=1"), tmp_path)
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert (tmp_path / "point_cloud.ply").is_file()


def test_a_step_with_nan_is_skipped_counted_and_in_the_end_refused(tmp_path, caplog):
    trainer = Trainer(smoke("max_bad_steps=3"), tmp_path)
    trainer.step()
    before = {
        name: tensor.detach().clone()
        for name, tensor in trainer.asset.gaussians.parameters().items()
    }
    real = trainer.job.distillation.step

    def poisoned(*args: object, **named: object):
        result = real(*args, **named)
        return dataclasses.replace(result, loss=result.loss * float("nan"))

    trainer.job.distillation.step = poisoned
    assert trainer.step().metrics["bad_steps"] == 1
    assert all(torch.equal(before[name], getattr(trainer.asset.gaussians, name)) for name in before)
    assert "step 2: the gradient is not finite" in caplog.text
    trainer.job.distillation.step = real
    assert trainer.step().metrics["bad_steps"] == 1
    trainer.job.distillation.step = poisoned
    with pytest.raises(UserError, match="3 steps in a row"):
        for _ in range(3, 9):
            trainer.step()


@pytest.mark.parametrize(
    ("count", "culprit", "fix"),
    [("bad_latents", "the VAE encoded", "vae_dtype"), ("bad_predictions", "noise", "dtype")],
)
def test_the_half_precision_part_that_overflowed_is_named(tmp_path, count, culprit, fix, caplog):
    trainer = Trainer(smoke("max_bad_steps=2"), tmp_path)
    real = trainer.job.distillation.step
    one = torch.ones((), dtype=torch.long)
    trainer.job.distillation.step = lambda *args, **named: dataclasses.replace(
        real(*args, **named), **{count: one}
    )
    trainer.step()
    assert culprit in caplog.text
    with pytest.raises(UserError, match=fix):
        trainer.step()


def test_lines_are_written_as_often_as_told_and_for_the_last_step(tmp_path):
    Trainer(smoke("num_steps=5", "output.log_every=2"), tmp_path).fit()
    assert [row["step"] for row in rows(tmp_path)] == [1, 3, 4]


def test_no_splats_left_ends_the_run_with_the_checkpoint_kept(tmp_path):
    config = smoke(
        *(
            f"densify.adaptive.{setting}"
            for setting in ("prune_opacity=0.9999", "start_share=0.05", "every=3")
        )
    )
    with pytest.raises(UserError, match="no splats are left after step 3"):
        Trainer(config, tmp_path).fit()
    assert checkpoint.load(checkpoint.latest(tmp_path / "checkpoints")).step == 2


def test_the_priors_scale_changes_nothing_but_the_logged_norm(tmp_path):
    counts, splats = [], []
    for scale in (0.1, 10.0):
        config = smoke(
            f"guidance.scale={scale}",
            "densify.adaptive.stop_share=0.8",
            "regularize.tv_rgb=[[0, 0.1]]",
        )
        trainer = Trainer(config, tmp_path)
        norms = [float(trainer.step().metrics["grad_norm"]) for _ in range(30)]
        counts.append(len(trainer.asset.gaussians))
        splats.append(norms[0])
    assert splats[1] == pytest.approx(100 * splats[0], rel=1e-4)
    assert counts[0] == pytest.approx(counts[1], rel=0.02)


def test_an_earlier_splat_starts_a_run_as_it_is(tmp_path):
    first = Trainer(smoke("num_steps=1"), tmp_path / "first")
    first.fit()
    file = tmp_path / "first" / "point_cloud.ply"
    again = Trainer(smoke("initialize.shape=splat", f"initialize.file={file}"), tmp_path / "again")
    torch.testing.assert_close(
        again.asset.gaussians.means, first.asset.gaussians.means, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(again.asset.gaussians.log_scales, first.asset.gaussians.log_scales)


def test_every_step_has_its_own_numbers_and_always_the_same():
    draws = {
        (seed, step): torch.rand(3, generator=generator_at(seed, step))
        for seed in (0, 1)
        for step in range(-1, 5)
    }
    assert len({tuple(value.tolist()) for value in draws.values()}) == len(draws)
    assert torch.equal(torch.rand(3, generator=generator_at(1, 3)), draws[1, 3])


def test_a_missing_board_leaves_nothing_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb"):
        Trainer(smoke("num_steps=2", "output.wandb=splats"), tmp_path / "run").fit()
    assert not list((tmp_path / "run").glob("*"))


def test_a_folder_with_another_runs_checkpoints_is_refused_unless_it_is_to_be_replaced(tmp_path):
    """Else the shorter run's checkpoint would be pruned as it is written, and a resume would take
    the longer run's."""
    Trainer(smoke("num_steps=4"), tmp_path).fit()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        UserError, match=r"holds the checkpoints of a run already; .*overwrite=True"
    ):
        Trainer(smoke("num_steps=3", "seed=1"), tmp_path)
    replacing = Trainer(smoke("num_steps=3", "seed=1"), tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for _ in range(3):
        replacing.step()
    replacing.save()
    assert [path.name for path in checkpoint.listing(tmp_path / "checkpoints")] == [
        "step_000003.pt"
    ]
    resumed = Trainer(smoke("num_steps=3", "seed=1"), tmp_path, resume=True)
    same_bits(replacing, resumed)


def test_a_checkpoint_of_the_first_layout_goes_on_to_the_same_bits(tmp_path, caplog):
    """Version 1 knew splats alone, and settings that are now called otherwise."""
    config = smoke("num_steps=4")
    whole = Trainer(config, tmp_path / "whole")
    whole.fit()
    Trainer(config, tmp_path / "parts").fit(until=2)
    path = checkpoint.latest(tmp_path / "parts" / "checkpoints")
    content = torch.load(path)
    state, old = content["state"], content["config"] | {"viewpoints": {"widening": {"every": 500}}}
    extra = {name: state[name] for name in ("bad_steps", "guidance")}
    torch.save({"version": 1, "step": 2, "config": old, **state["asset"], "extra": extra}, path)
    resumed = Trainer(config, tmp_path / "parts", resume=True)
    assert "cannot be compared with the run's own (the checkpoint: there is no key" in caplog.text
    resumed.fit()
    same_bits(whole, resumed)


def test_resuming_with_other_settings_warns(tmp_path, caplog):
    Trainer(smoke("num_steps=4"), tmp_path).fit(until=2)
    Trainer(smoke("num_steps=4", "guidance.M=7"), tmp_path, resume=True)
    assert "resuming with guidance.M=7 (it was 200)" in caplog.text


def test_a_checkpoint_of_another_run_is_taken_and_what_differs_is_said(tmp_path, caplog):
    """The studio's forks begin so."""
    Trainer(smoke("num_steps=4"), tmp_path / "other").fit(until=2)
    config = smoke("num_steps=4", "prompt=a green disc", "seed=5")
    (tmp_path / "fork").mkdir()
    configs.save(config, tmp_path / "fork" / "config.yaml")
    shutil.copytree(tmp_path / "other" / "checkpoints", tmp_path / "fork" / "checkpoints")
    forked = Trainer(config, tmp_path / "fork", resume=True)
    assert forked.completed == 2
    assert "resuming with prompt=a green disc (it was a red disc)" in caplog.text
    assert "resuming with seed=5 (it was 0)" in caplog.text


def mine(*, h, **_):
    return 0.5 * h


def test_a_run_with_an_estimator_of_ones_own_goes_on_with_it_alone(tmp_path):
    config = smoke("num_steps=4")
    whole = Trainer(config, tmp_path / "whole", estimator=mine)
    whole.fit()
    Trainer(config, tmp_path / "parts", estimator=mine).fit(until=2)
    kept = (tmp_path / "parts/environment.json").read_text()
    assert json.loads(kept)["estimator"] == f"{__name__}.mine"
    for other in (None, lambda *, h, **_: h):
        with pytest.raises(
            UserError, match=rf"made with the estimator {__name__}\.mine, not .*Trainer\(estimator="
        ):
            Trainer(config, tmp_path / "parts", resume=True, estimator=other)
    assert (tmp_path / "parts/environment.json").read_text() == kept
    resumed = Trainer(config, tmp_path / "parts", resume=True, estimator=mine)
    resumed.fit()
    same_bits(whole, resumed)


def test_a_run_with_a_named_estimator_does_not_go_on_with_a_function_but_may_with_another_name(
    tmp_path, caplog
):
    Trainer(smoke("num_steps=4"), tmp_path).fit(until=2)
    with pytest.raises(UserError, match=r"estimator ssd, not .*mine"):
        Trainer(smoke("num_steps=4"), tmp_path, resume=True, estimator=mine)
    Trainer(smoke("num_steps=4", "guidance.estimator=csd"), tmp_path, resume=True).fit()
    assert caplog.text.count("it was ssd") == 1


def test_the_end_of_a_killed_process_is_cut_from_the_metrics(tmp_path):
    config = smoke("num_steps=4")
    Trainer(config, tmp_path).fit(until=2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "num_splats": 1}\n{"step": 3, "num_')
    Trainer(config, tmp_path, resume=True).fit()
    assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["means", "log_scales"])
def test_splats_that_diverged_are_left_out_and_a_run_of_nothing_else_is_refused(
    tmp_path, caplog, name
):
    trainer = Trainer(smoke("num_steps=2"), tmp_path)
    trainer.fit(until=1)
    count = len(trainer.asset.gaussians)
    with torch.no_grad():
        getattr(trainer.asset.gaussians, name)[:5] = 1e38 if name == "log_scales" else torch.inf
    trainer.job.completed = 2
    trainer.fit()
    assert "5 of 300 splats diverged to infinity" in caplog.text
    assert len(trainer.asset.gaussians) == count - 5
    with torch.no_grad():
        getattr(trainer.asset.gaussians, name)[:] = torch.inf
    with pytest.raises(UserError, match="the run diverged: none of its 295 splats"):
        trainer.fit()
