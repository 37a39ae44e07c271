"""Trajectories: LucidDreamer's ISM, step by step, against an own transcript with a prediction in
closed form."""

import math

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.guidance import trajectory as tr
from gs_ssd.guidance.config import DistillConfig, t_range
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.prompts import PromptConfig
from gs_ssd.maths.diffusion import scaled_linear_schedule
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

ABAR = scaled_linear_schedule()
MU, VARIANCE = 0.4, 0.3


def _cameras(azimuth_rad):
    polar_rad = [1.5] * len(azimuth_rad)
    return at_angles(azimuth_rad, polar_rad, radius=4.0, fov_y_rad=0.7, size=16)


def _exact_eps(x, u):
    """Noise prediction for data N(MU, VARIANCE)."""
    alpha, sigma = math.sqrt(ABAR[u]), math.sqrt(1 - ABAR[u])
    return sigma * (x - alpha * MU) / (alpha**2 * VARIANCE + sigma**2)


def test_path_has_lucid_dreamers_strides():
    config = tr.TrajectoryConfig()
    assert tr.ism_path(700, 80, config) == [1, 201, 401, 601, 620, 700]
    assert tr.ism_path(282, 80, config) == [1, 201, 202, 282]
    assert tr.ism_path(60, 80, config) == [1, 60]  # s = max(t - delta, first)
    assert tr.ism_path(980, 25, config) == [1, 201, 401, 601, 801, 955, 980]


def test_interval_falls_to_its_end_and_is_rounded_up():
    config = tr.TrajectoryConfig(ism_interval=80, ism_interval_start=100, ism_warmup=0.3)
    assert [tr.ism_interval(config, p) for p in (0.0, 0.15, 0.16, 0.3, 1.0)] == [
        100,
        90,
        90,
        80,
        80,
    ]


def test_ism_against_a_transcript():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    noised = tr.ism(x, [1, 201, 202, 282], _exact_eps, ABAR, 0.1, torch.Generator().manual_seed(2))

    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(2, 3, 4, 4, generator=generator).double()
    noise = noise + 0.1 * torch.randn(1, 3, 1, 1, generator=generator).double()
    x_u = math.sqrt(ABAR[1]) * x + math.sqrt(1 - ABAR[1]) * noise
    for u, v in ((1, 201), (201, 202), (202, 282)):
        target = _exact_eps(x_u, u)
        x0 = (x_u - math.sqrt(1 - ABAR[u]) * target) / math.sqrt(ABAR[u])
        x_u = math.sqrt(ABAR[v]) * x0 + math.sqrt(1 - ABAR[v]) * target
    torch.testing.assert_close(noised.x_t, x_u)
    torch.testing.assert_close(
        noised.eps_ref, target
    )  # the prediction at s that made the last move


def test_ism_inverts_towards_the_probability_flow():
    """With ever shorter strides the path's end tends to the exact flow from where it started."""
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)

    def std(t):
        return math.sqrt(ABAR[t] * VARIANCE + 1 - ABAR[t])

    errors = []
    for stride in (200, 50, 12):
        config = tr.TrajectoryConfig(ism_stride=stride, ism_max_steps=1000)
        noised = tr.ism(
            x,
            tr.ism_path(700, stride, config),
            _exact_eps,
            ABAR,
            0.0,
            torch.Generator().manual_seed(0),
        )
        noise = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
        start = math.sqrt(ABAR[1]) * x + math.sqrt(1 - ABAR[1]) * noise
        exact = math.sqrt(ABAR[700]) * MU + (start - math.sqrt(ABAR[1]) * MU) * std(700) / std(1)
        errors.append((noised.x_t - exact).abs().max().item())
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_sdi_path_and_its_reference():
    path = tr.sdi_path(530, 10)
    assert path == [0, 100, 200, 300, 400, 500, 530]
    assert tr.sdi_path(500, 10)[-2:] == [400, 500]
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    noised = tr.sdi(x, path, _exact_eps, ABAR, 0.3, torch.Generator().manual_seed(0))
    abar = ABAR[530]
    torch.testing.assert_close(abar.sqrt() * x + (1 - abar).sqrt() * noised.eps_ref, noised.x_t)


def test_sdi_without_renewal_is_plain_ddim_inversion():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    noised = tr.sdi(x, [0, 100, 150], _exact_eps, ABAR, 0.0, torch.Generator())
    for u, v in ((0, 100), (100, 150)):
        eps = _exact_eps(x, u)
        x = (
            ABAR[v].sqrt() * (x - (1 - ABAR[u]).sqrt() * eps) / ABAR[u].sqrt()
            + (1 - ABAR[v]).sqrt() * eps
        )
    torch.testing.assert_close(noised.x_t, x)


def test_sdi_renewal_keeps_the_marginal_variance():
    """If the prediction is the true noise (independent and standard), x_v has the variance of level
    v."""
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn(1, 1, 400, 400, generator=generator)
    u, v = 300, 400
    x_u = (1 - ABAR[u]).sqrt().float() * eps
    out = tr.sdi(x_u, [u, v], lambda *_: eps, ABAR.float(), 0.9, generator).x_t
    assert out.var().item() == pytest.approx(1 - ABAR[v].item(), rel=0.02)


def test_the_whole_ism_gradient_against_a_transcript(prior, rgb):
    """Steps a-h: null-prompt inversion, CFG 7.5 from the negative, sqrt((1-abar)/abar) x 0.1, one t
    a batch."""
    config = DistillConfig(estimator="ism", scale=0.1, prompts=PromptConfig(negative="blurry"))
    distillation = Distillation(config, prior, "a mushroom", num_steps=1000)
    azimuths = [0.0, 0.5, -2.0, 3.0]
    result = distillation.step(rgb, _cameras(azimuths), 100, torch.Generator().manual_seed(4))

    generator = torch.Generator().manual_seed(4)
    progress = 100 / 1000
    upper = 0.98 - (0.98 - 0.5) * progress / 0.3
    t = int(1000 * (0.02 + torch.rand(1, generator=generator).item() * (upper - 0.02)))
    assert result.t.tolist() == [t] * 4
    z = torch.nn.functional.avg_pool2d(2 * rgb.detach() - 1, 4)
    eps0 = torch.randn(4, 3, 4, 4, generator=generator).double()
    interval = 80 + math.ceil((1 - progress / 0.3) * 20)
    path = [1]
    while path[-1] < t - interval:
        path.append(min(path[-1] + 200, t - interval))
    null, negative = prior.embed(["", "blurry"])
    x = prior.alphas_cumprod[1].sqrt() * z + (1 - prior.alphas_cumprod[1]).sqrt() * eps0
    for u, v in zip(path, [*path[1:], t], strict=True):
        target = prior.predict_noise(x, torch.full((4,), u), Condition(null.expand(4, 1, -1)))
        a, b = prior.alphas_cumprod[u], prior.alphas_cumprod[v]
        x = b.sqrt() * (x - (1 - a).sqrt() * target) / a.sqrt() + (1 - b).sqrt() * target
    views = prior.embed([f"a mushroom, {side} view" for side in ("front", "side", "back")])
    shares = [(1, 0, 0), (1 - 0.5 / (math.pi / 2), 0.5 / (math.pi / 2), 0)]
    shares += [(0, 2 - a / (math.pi / 2), a / (math.pi / 2) - 1) for a in (2.0, 3.0)]
    text = torch.einsum("vk,kld->vld", torch.tensor(shares).to(views), views)
    eps_pos = prior.predict_noise(x, torch.full((4,), t), Condition(text))
    eps_neg = prior.predict_noise(x, torch.full((4,), t), Condition(negative.expand(4, 1, -1)))
    abar = prior.alphas_cumprod[t]
    expected = 0.1 * ((1 - abar) / abar).sqrt() * (eps_neg + 7.5 * (eps_pos - eps_neg) - target)
    torch.testing.assert_close(result.gradient, expected, rtol=1e-6, atol=1e-7)
    result.loss.backward()
    torch.testing.assert_close(
        rgb.grad, torch.nn.functional.interpolate(expected, scale_factor=4) * 2 / 16
    )


def _average_inversion_images(interval: int) -> float:
    """At batch 4, over 5000 steps and the annealed range of t."""
    config, schedule, images = (
        tr.TrajectoryConfig(ism_interval=interval),
        ((0.0, 0.02, 0.98), (0.3, 0.02, 0.5)),
        [],
    )
    for progress in (i / 100 for i in range(100)):
        low, high = t_range(schedule, progress)
        delta = tr.ism_interval(config, progress)
        ts = range(int(1000 * low), int(1000 * high), 7)
        images.append(4 * sum(len(tr.ism_path(t, delta, config)) - 1 for t in ts) / len(ts))
    return sum(images) / len(images)


def test_the_average_cost_of_ism_is_the_recipes():
    """About 10.6 images; it depends on the interval, which is 25, 50 or 80 in LucidDreamer's
    configs."""
    assert _average_inversion_images(80) == pytest.approx(10.15, abs=0.1)
    assert _average_inversion_images(50) == pytest.approx(10.65, abs=0.15)


def _gradient(prior, rgb, **config):
    distillation = Distillation(
        DistillConfig(estimator="ism", **config), prior, "a mushroom", num_steps=100
    )
    return distillation.step(
        rgb, _cameras([0.1, 0.5, 2.0, 3.0]), 0, torch.Generator().manual_seed(4)
    ).gradient


def test_the_reference_is_a_choice_beside_the_trajectory_and_the_weight(prior, rgb):
    """E = eps_g - eps_ref: two references on one trajectory differ by exactly the difference of the
    two."""
    own = {"weighting": "uniform", "t_schedule": ((0.0, 0.6, 0.6),)}
    kept = {}
    ism = tr.ism

    def watched(*args):
        kept["noised"] = ism(*args)
        return kept["noised"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tr, "ism", watched)
        gradients = {
            name: _gradient(prior, rgb, reference=name, **own)
            for name in ("last", "drawn", "found")
        }
    noised = kept["noised"]
    assert torch.equal(gradients["last"], _gradient(prior, rgb, **own))  # ISM's own
    for name in ("drawn", "found"):
        torch.testing.assert_close(
            gradients["last"] - gradients[name], noised.references[name] - noised.references["last"]
        )
    abar = prior.alphas_cumprod[600]
    x = torch.nn.functional.avg_pool2d(2 * rgb.detach() - 1, 4)
    torch.testing.assert_close(
        abar.sqrt() * x + (1 - abar).sqrt() * noised.references["found"], noised.x_t
    )


def test_plain_noise_holds_what_was_drawn(prior, rgb):
    plain = {"trajectory": "noise", "t_schedule": ((0.0, 0.6, 0.6),)}
    torch.testing.assert_close(
        _gradient(prior, rgb, reference="found", **plain),
        _gradient(prior, rgb, reference="drawn", **plain),
    )


def test_a_critic_may_be_the_reference_of_any_estimator(prior, rgb):
    """SDS at VSD's guidance with the critic as its reference is VSD."""
    common = {"cfg_scale": 7.5, "t_schedule": ((0.0, 0.6, 0.6),)}
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    one, other = (
        Distillation(
            DistillConfig(estimator=name, reference="critic", **common),
            prior,
            "a mushroom",
            num_steps=9,
        )
        for name in ("sds", "vsd")
    )
    assert one.critic is not None
    cameras = _cameras([0.1, 0.5, 2.0, 3.0])
    results = [d.step(rgb, cameras, 0, g) for d, g in zip((one, other), generators, strict=True)]
    assert torch.equal(results[0].gradient, results[1].gradient)


@pytest.mark.parametrize(("trajectory", "reference"), [("noise", "last"), ("sdi", "drawn")])
def test_a_reference_that_a_trajectory_has_not_is_refused(prior, trajectory, reference):
    config = DistillConfig(trajectory=trajectory, reference=reference)
    with pytest.raises(
        UserError,
        match=rf"guidance\.reference='{reference}'.*trajectory={trajectory}; choose one of",
    ):
        Distillation(config, prior, "a mushroom", num_steps=9)
