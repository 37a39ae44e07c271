"""`prior.variety`: another seed makes another object, from the first splat on; without it nothing
changes."""

import re
from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd import prior as priors
from gs_ssd.errors import UserError
from gs_ssd.job import PROPORTIONS_STREAM, Job, generator_at
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.proportions import NUMBERS, SPREADS
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[1] / "configs" / "smoke.yaml"


def run_of(*overrides):
    """A cone of two steps on the bundled prior, from its own shape."""
    words = ["prompt=a red cone", "prior.model=bundled", "initialize.shape=text", "num_steps=2"]
    silent = ["output.turntable_frames=0", "output.preview_every=0", "output.checkpoint_every=1"]
    return configs.load(SMOKE, [*words, *silent, "initialize.num_points=2000", *overrides])


@pytest.fixture(scope="module")
def prior():
    return priors.load(priors.PriorConfig(), "cpu")


def tallness(job):
    """Logarithm of height over width of a job's first splat."""
    x, y, z = job.asset.gaussians.means.detach().std(0).log()
    return (z - (x + y) / 2).item()


def test_seeds_have_the_proportions_that_are_drawn_for_them(prior):
    many = "initialize.num_points=20000"
    mean = tallness(Job(run_of(many), prior))
    assert tallness(Job(run_of(many, "seed=1"), prior)) == pytest.approx(mean, abs=0.02)
    for seed in (1, 2, 5):
        drawn = torch.randn(NUMBERS, generator=generator_at(seed, PROPORTIONS_STREAM))
        job = Job(run_of(many, f"seed={seed}", "prior.variety=3"), prior)
        expected = 3 * (drawn[0] * SPREADS[0]).item()
        # taper and bulge of a cone move its width, too: by some of their size
        others = 3 * (drawn[2:].abs() @ torch.tensor(SPREADS[2:])).item()
        assert tallness(job) - mean == pytest.approx(expected, abs=0.02 + others)
        assert job.prior is not prior


def test_without_variety_the_run_has_the_prior_itself(prior):
    assert Job(run_of("prior.variety=0"), prior).prior is prior


def test_two_seeds_make_two_objects_and_one_seed_one(prior):
    runs = [Job(run_of(f"seed={seed}", "prior.variety=1"), prior) for seed in (3, 3, 4)]
    for job in runs:
        list(job.steps())
    one, again, other = (job.asset.gaussians.means.detach() for job in runs)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_resumed_run_keeps_its_proportions(prior, tmp_path):
    config = run_of("seed=3", "prior.variety=2")
    whole = Job(config, prior)
    list(whole.steps())
    half = Trainer(config, tmp_path, prior=prior)
    half.step()
    half.save()
    rest = Trainer(config, tmp_path, prior=prior, resume=True)
    rest.step()
    assert torch.equal(whole.asset.gaussians.means, rest.asset.gaussians.means)


def test_a_finished_run_is_not_given_other_proportions(prior, tmp_path):
    trainer = Trainer(run_of("prior.variety=1"), tmp_path, prior=prior)
    trainer.step()
    trainer.step()
    trainer.save()
    with pytest.raises(UserError, match=re.escape("prior.variety")):
        Trainer(run_of("prior.variety=2"), tmp_path, prior=prior, resume=True)


def test_a_prior_without_a_shape_in_mind_refuses_variety():
    config = configs.load(SMOKE, ["prior.variety=1"])
    with pytest.raises(UserError, match=r"prior\.variety=1 has no effect on prior\.model=analytic"):
        Job(config, AnalyticPrior.discs())


@pytest.mark.parametrize("value", ["-0.1", "3.5", "nan", "much"])
def test_variety_has_bounds(value):
    with pytest.raises(UserError, match=re.escape("prior.variety")):
        configs.load(SMOKE, [f"prior.variety={value}"])
