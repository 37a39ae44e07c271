"""Priors that predict several views together: whole groups in every call, one t a group, and
refusals that name the key."""

import math

import pytest
import torch

from gs_ssd.config import ExperimentConfig
from gs_ssd.errors import UserError
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.prompts import PromptConfig
from gs_ssd.guidance.vsd import Critic, VsdConfig
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.base import rows_at_once, views_per_group
from gs_ssd.resolve import resolve
from gs_ssd.scene.camera import at_angles
from gs_ssd.scene.viewpoints import ViewpointConfig

GROUP = 4


class Grouped(AnalyticPrior):
    """Exact, and keeps what it was asked; torn groups and groups of several t are faults."""

    views_per_group = GROUP

    def predict_noise(self, x_t, t, condition):
        calls = self.__dict__.setdefault("calls", [])
        assert len(x_t) % GROUP == 0
        groups = t.reshape(-1, GROUP)
        assert bool((groups == groups[:, :1]).all())
        azimuths = condition.cameras.azimuth_rad.reshape(-1, GROUP)
        turns = (azimuths - azimuths[:, :1]) / (math.pi / 2)
        assert sorted(turns[0].round().remainder(GROUP).tolist()) == [0, 1, 2, 3]
        calls.append(len(x_t))
        return super().predict_noise(x_t, t, condition)


@pytest.fixture
def prior():
    prior = Grouped.discs()
    prior.uses_cameras = True
    return prior


def cameras(groups=1, start=0.3):
    azimuths = [start * (g + 1) + k * math.pi / 2 for g in range(groups) for k in range(GROUP)]
    return at_angles(azimuths, [1.4] * len(azimuths), radius=4.0, fov_y_rad=0.5, size=64)


def step(prior, groups=1, view=None, **settings):
    config = DistillConfig(**({"t_per_view": False} | settings))
    distillation = Distillation(config, prior, "a red ball", num_steps=10)
    view = cameras(groups) if view is None else view
    rgb = torch.rand(len(view), 3, 64, 64, generator=torch.Generator().manual_seed(3))
    return distillation.step(rgb, view, 3, torch.Generator().manual_seed(0))


def test_other_priors_see_each_row_by_itself():
    assert views_per_group(AnalyticPrior.discs()) == 1


@pytest.mark.parametrize(
    ("most", "rows", "group", "wanted"),
    [(None, 8, 4, 8), (6, 8, 4, 4), (8, 16, 4, 8), (3, 8, 1, 3), (9, 24, 4, 8)],
)
def test_rows_at_once_keeps_groups_whole(most, rows, group, wanted):
    assert rows_at_once(most, rows, group) == wanted


@pytest.mark.parametrize(
    ("views_per_pass", "calls"), [(None, [16]), (2, [4] * 4), (3, [4] * 4), (5, [8] * 2)]
)
def test_whole_groups_reach_the_prior_however_the_step_is_split(prior, views_per_pass, calls):
    split = step(prior, groups=2, views_per_pass=views_per_pass)
    assert prior.calls == calls
    whole = step(prior, groups=2)
    torch.testing.assert_close(split.gradient, whole.gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trajectory", ["noise", "ism", "sdi"])
@pytest.mark.parametrize("estimator", ["ssd", "sds", "nfsd"])
def test_every_trajectory_and_estimator_asks_for_whole_groups(prior, trajectory, estimator):
    found = step(prior, estimator=estimator, trajectory=trajectory, views_per_pass=2)
    assert found.gradient.isfinite().all()
    assert set(prior.calls) == {GROUP}


def test_mirrored_groups_are_groups(prior):
    assert step(prior, flip=1.0).gradient.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"t_per_view": True}, r"guidance\.t_per_view=false"),
        ({"prompts": PromptConfig(perp_neg=True)}, r"guidance\.prompts\.perp_neg=false"),
        ({"views_per_pass": 1}, r"guidance\.views_per_pass=2 or more"),
        ({"views_per_pass": 3, "estimator": "vsd"}, r"guidance\.views_per_pass=4 or more"),
    ],
)
def test_settings_that_would_tear_groups_apart_are_refused(prior, settings, key):
    with pytest.raises(UserError, match=key):
        step(prior, **settings)


@pytest.mark.parametrize(
    "view",
    [
        cameras()[:3],
        at_angles([0.0, 1.0, 2.0, 3.0], [1.4] * 4, radius=4.0, fov_y_rad=0.5, size=64),
        at_angles(
            [0.0, math.pi / 2, math.pi, math.pi], [1.4] * 4, radius=4.0, fov_y_rad=0.5, size=64
        ),
        at_angles(
            [k * math.pi / 2 for k in range(4)],
            [1.4, 1.4, 1.4, 1.2],
            radius=4.0,
            fov_y_rad=0.5,
            size=64,
        ),
    ],
    ids=["three", "not a quarter apart", "one twice", "two elevations"],
)
def test_views_that_are_no_group_are_refused_by_the_step(prior, view):
    with pytest.raises(ValueError, match="groups of 4"):
        step(prior, view=view)


def experiment(**views):
    return ExperimentConfig(
        prompt="a red ball",
        viewpoints=ViewpointConfig(**views),
        guidance=DistillConfig(t_per_view=False),
    )


def test_viewpoints_must_stand_in_groups(prior):
    with pytest.raises(UserError, match=r"viewpoints\.azimuths=orthogonal"):
        resolve(experiment(), prior)
    assert resolve(experiment(azimuths="orthogonal"), prior).viewpoints.num_views == 4
    with pytest.raises(UserError, match=r"viewpoints\.num_views=6"):
        resolve(experiment(azimuths="orthogonal", num_views=6), prior)


class _Copy:
    """A critic's copy that keeps the timesteps it learned at."""

    def __init__(self):
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def parameters(self):
        return [self.weight]

    def predict(self, x_t, t, condition):
        self.seen.append(t.tolist())
        return x_t * self.weight


def test_the_critic_learns_from_whole_groups_at_one_t_each(prior):
    prior.trainable_copy = lambda rank: _Copy()
    critic = Critic(prior, VsdConfig(), views_per_pass=5)
    distillation = Distillation(DistillConfig(t_per_view=False), prior, "a red ball", num_steps=10)
    told = distillation.prompts.at(cameras(groups=2)).main
    critic.learn(torch.randn(8, 3, 16, 16), told, torch.Generator().manual_seed(0))
    assert [len(t) for t in critic.copy.seen] == [GROUP, GROUP]
    assert all(len(set(t)) == 1 for t in critic.copy.seen)
    assert critic.copy.seen[0] != critic.copy.seen[1]
