"""When and whom the policies operate on: schedule, quantile, caps, invariance to the gradient's
scale."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.splat import optimizers
from gs_ssd.assets.splat.densify import choice
from gs_ssd.assets.splat.densify.adaptive import AdaptiveConfig, AdaptivePolicy
from gs_ssd.assets.splat.densify.choice import DensifyConfig
from gs_ssd.assets.splat.densify.mcmc import McmcConfig, McmcPolicy
from gs_ssd.assets.splat.densify.policy import Policy
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.scene import initialize
from gs_ssd.scene.initialize import InitializeConfig


def make(count: int = 200, scale: float = 0.005) -> TrainedSplat:
    generator = torch.Generator().manual_seed(0)
    gaussians = initialize.create(
        InitializeConfig(num_points=count, scale=scale), generator
    ).requires_grad_()
    return TrainedSplat(gaussians, optimizers.build(gaussians, OptimizerConfig()))


def at(iteration: int, num_steps: int = 5000) -> TrainingStep:
    return TrainingStep(iteration - 1, num_steps, torch.Generator().manual_seed(iteration))


def observe(rule: AdaptivePolicy, splat: TrainedSplat, factor: float = 1.0) -> None:
    count = len(splat)
    gradient = torch.zeros(4, count, 2)
    gradient[..., 0] = factor * torch.arange(1, count + 1) / count
    rule.observe(splat, gradient, torch.ones(4, count, dtype=torch.bool))


def test_the_adaptive_schedule_is_the_recipes():
    rule = AdaptivePolicy(AdaptiveConfig(prune_opacity=0.0))
    grown, reset = [], []
    for iteration in range(25, 3301, 25):
        splat = make(4)
        rule.begin(splat)
        observe(rule, splat)
        done = rule.refine(splat, at(iteration))
        grown += [iteration] if "cloned" in done else []
        reset += [iteration] if "reset" in done else []
    assert grown == list(range(200, 3000, 100))
    assert reset == list(range(300, 3000, 300))


@settings(max_examples=30, deadline=None)
@given(
    num_steps=st.integers(1, 6000),
    stop=st.floats(0, 0.8),
    every=st.integers(1, 700),
    reset_every=st.integers(0, 700),
)
def test_at_any_length_the_last_growth_lies_before_point_8_and_the_last_reset_before_point_7(
    num_steps, stop, every, reset_every
):
    """A reset in the last steps (a run of 900 steps, of old) exports fog."""
    rule = AdaptivePolicy(AdaptiveConfig(stop_share=stop, every=every, reset_every=reset_every))
    rule._grow, rule._prune = lambda *_: {"cloned": 0}, lambda *_, **__: 0
    splat, due = (
        make(4),
        {*range(every, num_steps + 1, every), *range(reset_every or num_steps, num_steps + 1)},
    )
    done = {iteration: rule.refine(splat, at(iteration, num_steps)) for iteration in sorted(due)}
    assert all(iteration < 0.8 * num_steps for iteration, what in done.items() if "cloned" in what)
    assert all(iteration < 0.7 * num_steps for iteration, what in done.items() if "reset" in what)


def test_all_views_count_and_only_where_they_see():
    rule, splat = AdaptivePolicy(AdaptiveConfig()), make(3 + 1)
    rule.begin(splat)
    gradient = torch.zeros(2, 4, 2)
    gradient[0, :, 0] = torch.tensor([3.0, 3.0, 0.0, 1.0])
    gradient[1, :, 1] = torch.tensor([5.0, 5.0, 4.0, 1.0])
    visible = torch.tensor([[True, True, False, False], [True, False, True, False]])
    rule.observe(splat, gradient, visible)
    mean = splat.statistics["gradient_sum"] / splat.statistics["sightings"].clamp_min(1)
    assert mean.tolist() == [4.0, 3.0, 4.0, 0.0]


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_by_quantile_the_scale_of_the_gradient_changes_nothing(factor):
    rule, splat = AdaptivePolicy(AdaptiveConfig(quantile=0.9)), make(200)
    rule.begin(splat)
    observe(rule, splat, factor * 1e-4)
    done = rule.refine(splat, at(200))
    assert (done["cloned"], done["split"], len(splat)) == (20, 0, 220)
    assert torch.equal(splat.gaussians.means[200:], splat.gaussians.means[180:200])


def test_by_threshold_it_does_change():
    counts = []
    for factor in (1e-4, 2e-2):
        rule, splat = AdaptivePolicy(AdaptiveConfig(select="absolute")), make(200)
        rule.begin(splat)
        observe(rule, splat, factor)
        rule.refine(splat, at(200))
        counts.append(len(splat))
    assert counts[0] == 200
    assert counts[1] == 200 + 193  # norms k/200 * 2e-2 >= 7.5e-4 for k >= 8


def test_large_ones_are_split_and_the_cap_holds():
    rule, splat = (
        AdaptivePolicy(AdaptiveConfig(quantile=0.5, max_splats=230)),
        make(200, scale=0.05),
    )
    rule.begin(splat)
    observe(rule, splat)
    done = rule.refine(splat, at(200))
    assert done["split"] == 30
    assert len(splat) == 230
    assert all((value == 0).all() and len(value) == 230 for value in splat.statistics.values())


def test_faint_ones_are_pruned_and_huge_ones_later():
    rule = AdaptivePolicy(AdaptiveConfig(quantile=1.0, reset_every=0))
    for iteration, left in ((300, 9), (400, 8)):
        splat = make(10)
        rule.begin(splat)
        with torch.no_grad():
            splat.gaussians.logit_opacities[0] = -10.0
            splat.gaussians.log_scales[1, 2] = math.log(0.4)
        assert rule.refine(splat, at(iteration))["pruned"] == 10 - left
        assert len(splat) == left


def test_mcmc_keeps_its_budget_and_moves_the_dead():
    rule, splat = McmcPolicy(McmcConfig(budget=110, every=10, noise=0.0)), make(100)
    rule.begin(splat)
    with torch.no_grad():
        splat.gaussians.logit_opacities[:30] = -12.0
    done = rule.refine(splat, at(10, 100))
    assert done == {"relocated": 30, "added": 5}
    assert (splat.gaussians.opacities > 0.005).all()
    for iteration in range(20, 100, 10):
        rule.refine(splat, at(iteration, 100))
    assert len(splat) == 110


def test_mcmc_noise_shakes_the_faint_and_spares_the_solid():
    rule, splat = McmcPolicy(McmcConfig(every=1000, noise=1e5)), make(100)
    with torch.no_grad():
        splat.gaussians.logit_opacities[:50] = -8.0
        splat.gaussians.logit_opacities[50:] = 5.0
    before = splat.gaussians.means.detach().clone()
    rule.refine(splat, at(1, 100))
    moved = (splat.gaussians.means.detach() - before).norm(dim=-1)
    assert moved[:50].min() > 0
    assert moved[50:].max() < 1e-6 * moved[:50].median()
    rule.refine(splat, at(90, 100))  # beyond stop_share nothing moves
    assert torch.equal(
        splat.gaussians.means.detach() - before, splat.gaussians.means.detach() - before
    )


def test_one_word_chooses():
    kinds = {
        name: type(choice.create(DensifyConfig(policy=name)))
        for name in ("adaptive", "mcmc", "none")
    }
    assert kinds == {"adaptive": AdaptivePolicy, "mcmc": McmcPolicy, "none": Policy}
    splat = make(5)
    assert choice.create(DensifyConfig(policy="none")).refine(splat, at(200)) == {}
