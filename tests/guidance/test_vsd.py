"""VSD's critic: learns what the renderings look like, leaves the prior alone, survives a
checkpoint."""

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.vsd import Critic, VsdConfig
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

CAMERAS = at_angles([0.1, 2.0], [1.5, 1.5], radius=4.0, fov_y_rad=0.7, size=16)


def _distillation(prior):
    return Distillation(DistillConfig(estimator="vsd"), prior, "a mushroom", num_steps=100)


def test_an_untrained_critic_is_the_prior(prior):
    critic = Critic(prior, VsdConfig())
    x, t = torch.randn(2, 3, 4, 4).double(), torch.tensor([10, 900])
    told = Condition(prior.embed(["mushroom", ""]))
    torch.testing.assert_close(critic.predict(x, t, told), prior.predict_noise(x, t, told))


def test_the_critic_learns_the_renderings_and_the_prior_does_not():
    prior = AnalyticPrior(torch.zeros(1, 3, 4, 4), torch.tensor([0.01]), ["mushroom"])
    critic = Critic(prior, VsdConfig(learning_rate=0.02))
    x, told = torch.full((8, 3, 4, 4), 0.7), Condition(prior.embed(["mushroom"]).expand(8, 1, -1))
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        critic.learn(x, told, generator)
    assert (critic.copy.means - 0.7).abs().mean() < 0.1
    assert torch.equal(prior.means, torch.zeros(1, 3, 4, 4))


def test_a_step_costs_two_more_images_a_view_and_trains(prior, rgb):
    distillation = _distillation(prior)
    before = distillation.critic.copy.means.detach().clone()
    result = distillation.step(rgb[:2], CAMERAS, 0, torch.Generator().manual_seed(0))
    assert result.unet_images == 4 + 4
    assert (distillation.critic.copy.means - before).abs().max() > 0
    result.loss.backward()
    assert rgb.grad[:2].abs().sum() > 0


@pytest.mark.parametrize("size", [1, 3])
def test_views_per_pass_bounds_what_the_critic_sees_at_a_time_and_changes_nothing(prior, size):
    """Of four views; passes of three are of unlike sizes."""
    whole, parts = Critic(prior, VsdConfig()), Critic(prior, VsdConfig(), views_per_pass=size)
    seen, predict = [], parts.copy.predict

    def watched(x_t, t, condition):
        seen.append(len(x_t))
        return predict(x_t, t, condition)

    parts.copy.predict = watched
    x, told = (
        torch.randn(4, 3, 4, 4).double(),
        Condition(prior.embed(["mushroom", "front", "side", ""])),
    )
    for critic in (whole, parts):
        for step in range(3):
            critic.learn(x, told, torch.Generator().manual_seed(step))
    assert max(seen) == size
    t = torch.tensor([10, 200, 500, 900])
    torch.testing.assert_close(
        parts.predict(x, t, told), whole.predict(x, t, told), rtol=1e-9, atol=1e-12
    )
    assert max(seen) == min(2 * size, 4)


def test_a_step_passes_views_per_pass_on_to_its_critic(prior):
    config = DistillConfig(estimator="vsd", views_per_pass=2)
    assert Distillation(config, prior, "a mushroom", num_steps=100).critic.views_per_pass == 2


def test_a_resumed_critic_gives_the_same_numbers(prior, rgb):
    def run(distillation, steps):
        for step in steps:
            result = distillation.step(rgb[:2], CAMERAS, step, torch.Generator().manual_seed(step))
        return result.gradient

    whole = run(_distillation(prior), range(4))
    first, second = _distillation(prior), _distillation(prior)
    run(first, range(2))
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(second, range(2, 4)), whole)


def test_a_checkpoint_of_another_estimator_is_refused(prior):
    other = Distillation(DistillConfig(), prior, "a mushroom", num_steps=100)
    with pytest.raises(UserError, match=r"guidance\.estimator"):
        _distillation(prior).load_state_dict(other.state_dict())
    other.load_state_dict({})


def test_a_prior_without_a_copy_is_refused(prior):
    class Plain:
        pass

    plain = Plain()
    facts = (
        "image_size",
        "alphas_cumprod",
        "device",
        "dtype",
        "uses_depth",
        "uses_cameras",
        "body_picture",
        "metadata",
    )
    for name in (
        *facts,
        "embed",
        "overflow",
        "release_text_encoder",
        "encode",
        "decode",
        "predict_noise",
    ):
        setattr(plain, name, getattr(prior, name))
    with pytest.raises(UserError, match="vsd"):
        _distillation(plain)
