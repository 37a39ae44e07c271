"""A job is a generator of steps without folder or signals; a trainer yields what happens; many
share one prior."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd import prior as priors
from gs_ssd.events import Finished, Previewed, Saved, Stepped, Stopped, Trained
from gs_ssd.job import Job
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.run import checkpoint
from gs_ssd.trainer import Trainer

ROOT = Path(__file__).parents[1]
SMOKE = ROOT / "configs" / "smoke.yaml"


def smoke(*overrides):
    return configs.load(
        SMOKE, ["num_steps=4", "output.turntable_frames=0", "output.preview_every=0", *overrides]
    )


def test_a_job_needs_no_folder_and_leaves_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(smoke(), AnalyticPrior.discs())
    assert [stepped.completed for stepped in job.steps(until=2)] == [1, 2]
    assert [stepped.completed for stepped in job.steps()] == [3, 4]
    with pytest.raises(ValueError, match="all 4 steps"):
        job.step()
    assert list(tmp_path.iterdir()) == []


def test_a_job_goes_on_from_the_state_of_another():
    prior = AnalyticPrior.discs()
    whole, first = (Job(smoke("guidance.estimator=vsd"), prior) for _ in range(2))
    list(whole.steps())
    list(first.steps(until=2))
    second = Job(smoke("guidance.estimator=vsd"), prior, state=first.state_dict())
    list(second.steps())
    assert torch.equal(whole.asset.gaussians.means, second.asset.gaussians.means)


def test_steps_driven_by_hand_end_in_a_checkpoint_of_their_number(tmp_path):
    trainer = Trainer(smoke(), tmp_path)
    for _ in range(3):
        trainer.step()
    assert checkpoint.load(trainer.save()).step == trainer.completed == 3


def test_a_trainer_says_what_happens_in_its_order(tmp_path):
    trainer = Trainer(smoke("output.preview_every=2", "output.checkpoint_every=3"), tmp_path)
    events = list(trainer.events())
    kinds = [(type(event), event.completed) for event in events]
    assert kinds == [
        (Stepped, 1), (Stepped, 2), (Previewed, 2), (Stepped, 3), (Saved, 3), (Stepped, 4),
        (Previewed, 4), (Saved, 4), (Trained, 4), (Finished, 4),
    ]  # fmt: skip
    for event in events:
        paths = getattr(event, "paths", ()) or ([event.path] if isinstance(event, Saved) else [])
        assert all(path.exists() for path in paths)


def test_a_caller_stops_a_run_which_saves_itself_and_goes_on_later(tmp_path):
    trainer, seen = Trainer(smoke(), tmp_path), []
    for event in trainer.events():
        seen.append(type(event))
        if isinstance(event, Stepped) and event.completed == 2:
            trainer.stop()
    assert seen == [Stepped, Stepped, Saved, Stopped]
    resumed = Trainer(smoke(), tmp_path, resume=True)
    assert resumed.completed == 2
    assert [type(event) for event in resumed.events()][-1] is Finished


def test_a_caller_that_leaves_lets_go_of_the_files(tmp_path):
    events = Trainer(smoke(), tmp_path).events()
    assert isinstance(next(events), Stepped)
    events.close()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1
    assert not list(tmp_path.glob("checkpoints/*"))


JOBS = [("seed=1", "prompt=a red disc"), ("seed=2", "prompt=a blue disc", "guidance.estimator=vsd")]


def test_many_jobs_with_one_prior_in_one_process_are_those_of_many_processes(tmp_path):
    """Nothing of a job stays behind in the prior, in PyTorch's own generator or in the process."""
    fast = ["num_steps=6", "output.turntable_frames=0", "output.preview_every=0", "finish.steps=3",
            "finish.image_size=32"]  # fmt: skip
    for nth, job in enumerate(JOBS):
        command = [
            sys.executable,
            str(ROOT / "train.py"),
            "--config",
            str(SMOKE),
            "--out",
            str(tmp_path / f"own{nth}"),
        ]
        subprocess.run([*command, *job, *fast], check=True, capture_output=True, cwd=ROOT)
    prior = priors.load(smoke().prior, "cpu")
    for nth, job in enumerate(JOBS):
        Trainer(configs.load(SMOKE, [*job, *fast]), tmp_path / f"shared{nth}", prior=prior).fit()
        torch.rand(7)  # whatever else the process draws
    for nth in range(len(JOBS)):
        own, shared = (
            (tmp_path / f"{kind}{nth}" / "point_cloud.ply").read_bytes()
            for kind in ("own", "shared")
        )
        assert own == shared


def test_a_job_runs_in_a_thread(tmp_path):
    kinds = []
    trainer = Trainer(smoke(), tmp_path)
    thread = threading.Thread(
        target=lambda: kinds.extend(type(event) for event in trainer.events())
    )
    thread.start()
    thread.join()
    assert kinds[-1] is Finished
