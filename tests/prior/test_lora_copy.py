"""VSD's critic on the real Stable Diffusion code: a LoRA that learns beside the frozen UNet, in
half precision too."""

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.guidance import vsd
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.vsd import Critic, VsdConfig
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

pytest.importorskip("diffusers")
pytest.importorskip("peft")
T = torch.tensor([3, 700])
CAMERAS = at_angles([0.1, 2.0], [1.5, 1.5], radius=4.0, fov_y_rad=0.7, size=32)
LEARNS_FAST = DistillConfig(estimator="vsd", vsd=VsdConfig(learning_rate=1e-2))


def _noise(prior):
    return torch.randn(2, 4, 16, 16), Condition(prior.embed(["a red mug", ""]))


def test_the_lora_critic_of_vsd(folder):
    """Starts equal to the prior, learns, and leaves the prior's own prediction untouched to the
    last bit."""
    prior = load(PriorConfig(model=str(folder)), "cpu")
    x, told = _noise(prior)
    before = prior.predict_noise(x, T, told)
    distillation = Distillation(LEARNS_FAST, prior, "a red mug", num_steps=10)
    critic = distillation.critic
    torch.testing.assert_close(critic.predict(x, T, told), before, atol=1e-5, rtol=1e-5)
    rgb = torch.rand(2, 3, 32, 32, requires_grad=True)
    for step in range(2):
        distillation.step(rgb, CAMERAS, step, torch.Generator().manual_seed(step)).loss.backward()
    assert (critic.predict(x, T, told) - before).abs().max() > 1e-4
    torch.testing.assert_close(prior.predict_noise(x, T, told), before, atol=0, rtol=0)
    assert len(critic.copy.parameters()) > 0
    assert rgb.grad.isfinite().all()


def test_two_critics_on_one_prior_learn_apart(folder):
    """A notebook makes a second Distillation on the prior that it has loaded; the first may still
    be in use."""
    prior, alone = (load(PriorConfig(model=str(folder)), "cpu") for _ in range(2))
    config = LEARNS_FAST
    first, second = (Distillation(config, prior, "a red mug", num_steps=10) for _ in range(2))
    lonely = Distillation(config, alone, "a red mug", num_steps=10)
    x, told = _noise(prior)
    before = prior.predict_noise(x, T, told)
    rgb = torch.rand(2, 3, 32, 32)

    def train(distillation: Distillation, step: int) -> torch.Tensor:
        return distillation.step(rgb, CAMERAS, step, torch.Generator().manual_seed(step)).gradient

    train(first, 0)
    torch.testing.assert_close(
        second.critic.predict(x, T, told), before, atol=1e-5, rtol=1e-5
    )  # has learned nothing
    train(second, 5)
    train(lonely, 0)
    assert torch.equal(train(first, 1), train(lonely, 1))
    assert torch.equal(first.critic.predict(x, T, told), lonely.critic.predict(x, T, told))
    assert (second.critic.predict(x, T, told) - first.critic.predict(x, T, told)).abs().max() > 1e-4
    assert torch.equal(prior.predict_noise(x, T, told), before)


def gradients_of(folder, dtype, monkeypatch, scale=1.0):
    """The LoRA's gradients of one learning step, with the loss's scale divided out."""
    prior = load(PriorConfig(model=str(folder), dtype=dtype), "cpu")
    critic = Critic(prior, VsdConfig())
    critic.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    monkeypatch.setattr(critic, "_step", lambda: None)
    with (
        torch.no_grad()
    ):  # the second half of each pair starts at zero, and the first would get no gradient
        for parameter in critic.copy.parameters():
            parameter.add_(
                0.01
                * torch.randn(
                    parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())
                )
            )
    x = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1)).to(prior.dtype)
    critic.learn(x, Condition(prior.embed(["a red mug", ""])), torch.Generator().manual_seed(0))
    return torch.cat(
        [p.grad.flatten() / critic.scaler.get_scale() for p in critic.copy.parameters()]
    )


def test_a_half_precision_critic_learns_from_the_gradients_of_a_single_precision_one(
    folder, monkeypatch
):
    exact = gradients_of(folder, "float32", monkeypatch)
    half = gradients_of(
        folder, "float16", monkeypatch, 256.0
    )  # the whole 2^16 overflows on so small a model
    plain = gradients_of(folder, "float16", monkeypatch)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    error, unscaled = ((g - exact).norm() / exact.norm() for g in (half, plain))
    assert error < 0.05
    assert (half == 0).float().mean() <= (plain == 0).float().mean()
    assert error <= unscaled * 1.01  # never worse than without the scale


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_step_that_is_not_finite_changes_nothing_and_many_end_the_run(folder, dtype, monkeypatch):
    monkeypatch.setattr(vsd, "MAX_SKIPPED", 3)
    prior = load(PriorConfig(model=str(folder), dtype=dtype), "cpu")
    critic = Critic(prior, VsdConfig())
    told = Condition(prior.embed(["a red mug", ""]))
    before = [parameter.detach().clone() for parameter in critic.copy.parameters()]
    broken = torch.full((2, 4, 16, 16), torch.nan, dtype=prior.dtype)
    for step in range(2):
        critic.learn(broken, told, torch.Generator().manual_seed(step))
    critic.learn(
        torch.zeros_like(broken), told, torch.Generator().manual_seed(9)
    )  # a sound one: counted anew
    assert any(
        not torch.equal(old, new) for old, new in zip(before, critic.copy.parameters(), strict=True)
    )
    after = [parameter.detach().clone() for parameter in critic.copy.parameters()]
    with pytest.raises(UserError, match=r"no finite gradient in 3 steps in a row.*bfloat16"):
        for step in range(5):
            critic.learn(broken, told, torch.Generator().manual_seed(step))
    assert all(
        torch.equal(old, new) for old, new in zip(after, critic.copy.parameters(), strict=True)
    )
