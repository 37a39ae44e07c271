"""One step of distillation: exact gradient, per-view independence, cost, normalisation, and honest
refusals."""

import inspect
import math
from unittest.mock import patch

import pytest
import torch
from pydantic import ValidationError

from gs_ssd.guidance.config import DistillConfig, resolve, t_range
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.estimators import ESTIMATORS
from gs_ssd.guidance.perp_neg import combine, view_weights
from gs_ssd.guidance.prompts import LUCID_NEGATIVE, LUCID_VIEWS, PromptConfig
from gs_ssd.guidance.trajectory import TrajectoryConfig
from gs_ssd.maths.diffusion import add_noise
from gs_ssd.prior import DiffusionPrior
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

ANGLES = [0.9, -1.2, 2.0, 3.1], [1.3, 1.5, 1.6, 1.2]  # no view straight from the front
ONE_T = ((0.0, 0.3, 0.3),)
RUNNABLE = list(ESTIMATORS)


def _cameras(azimuth_rad, polar_rad):
    return at_angles(azimuth_rad, polar_rad, radius=4.0, fov_y_rad=0.7, size=16)


def _step(prior, rgb, seed=0, step=0, angles=ANGLES, depth=None, **config):
    distillation = Distillation(DistillConfig(**config), prior, "a mushroom", num_steps=100)
    return distillation.step(
        rgb, _cameras(*angles), step, torch.Generator().manual_seed(seed), depth=depth
    )


def _grads(result, rgb):
    rgb.grad = None
    result.loss.backward()
    return rgb.grad.clone()


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_latents_receive_exactly_the_weighted_direction(prior, rgb, name):
    latents = prior.encode(rgb)
    prior.encode = lambda *_: latents
    latents.retain_grad()
    result = _step(prior, rgb, estimator=name)
    result.loss.backward()
    assert torch.equal(latents.grad, result.gradient)
    assert result.loss.item() == pytest.approx(0.5 * result.grad_norm.item() ** 2)
    assert result.grad_norm.item() > 0


def test_the_ssd_gradient_against_the_paper(prior, rgb):
    """w(t) E from the definition, with negative prompt and Perp-Neg in h alone."""
    result = _step(
        prior, rgb, M=300, prompts=PromptConfig(negative="blurry"), t_schedule=((0.0, 0.2, 0.45),)
    )
    generator = torch.Generator().manual_seed(0)
    t = (1000 * (0.2 + torch.rand(4, generator=generator) * (0.45 - 0.2))).long()
    assert t.tolist() == result.t.tolist()
    assert t.min() <= 300 < t.max()  # both branches
    eps = torch.randn(4, 3, 4, 4, generator=generator).double()
    x_t = add_noise(prior.encode(rgb).detach(), eps, prior.alphas_cumprod[t])
    main = torch.stack([_view(prior, azimuth) for azimuth in ANGLES[0]])
    eps_pos = prior.predict_noise(x_t, t, Condition(main))
    h = eps_pos - prior.predict_noise(x_t, t, Condition(prior.embed(["blurry"]).expand(4, 1, -1)))
    for i in range(4):
        r = (eps_pos[i] * eps[i]).sum() / (eps[i] ** 2).sum()
        z = eps_pos[i] - r * eps[i]
        direction = h[i] if t[i] > 300 else z * h[i].norm() / z.norm()
        torch.testing.assert_close(result.gradient[i], (1 - prior.alphas_cumprod[t[i]]) * direction)


def _norms(result):
    return result.gradient.flatten(1).norm(dim=1)


def _view(prior, azimuth):
    front, side, back = prior.embed(
        [f"a mushroom, {word} view" for word in ("front", "side", "back")]
    )
    r = 1 - abs(azimuth) / (math.pi / 2)
    return r * front + (1 - r) * side if r > 0 else (1 + r) * side - r * back


def test_perp_neg_and_the_negative_change_h_only(prior, rgb):
    """Below M the direction keeps its line: only its length follows h. Above M it is h itself."""
    fixed = {"t_schedule": ONE_T, "seed": 3}
    plain = _step(prior, rgb, M=1000, prompts=PromptConfig(negative=""), **fixed)
    perp = _step(
        prior, rgb, M=1000, prompts=PromptConfig(negative="blurry", perp_neg=True), **fixed
    )
    cosine = torch.cosine_similarity(plain.gradient.flatten(1), perp.gradient.flatten(1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert ((_norms(perp) / _norms(plain) - 1).abs() > 1e-3).any()
    high = _step(prior, rgb, M=0, prompts=PromptConfig(negative="blurry", perp_neg=True), **fixed)
    torch.testing.assert_close(_norms(perp), _norms(high))


@pytest.mark.parametrize(("estimator", "perp_neg", "images"), [
    ("ssd", True, 16), ("ssd", False, 8), ("sds", True, 16), ("csd", False, 8), ("nfsd", False, 12),
    ("seek", True, 4),
])  # fmt: skip
def test_one_call_of_known_size(prior, rgb, estimator, perp_neg, images):
    result = _step(
        prior,
        rgb,
        estimator=estimator,
        prompts=PromptConfig(perp_neg=perp_neg),
        angles=([1.2] * 4, [1.5] * 4),
    )
    assert (prior.calls, prior.images, result.unet_images) == (1, images, images)


def test_negatives_of_weight_zero_are_not_evaluated(prior, rgb):
    azimuths = [
        0.0,
        math.radians(89),
        math.radians(90),
        math.radians(180),
    ]  # front and side: (0, -2) (-2, 0) (-2, 0) (-2, -1)
    result = _step(prior, rgb, prompts=PromptConfig(perp_neg=True), angles=(azimuths, [1.5] * 4))
    assert result.unet_images == prior.images == 8 + 1 + 1 + 1 + 2


def test_skipping_zero_weights_changes_nothing(prior, rgb):
    """The same h as with every negative evaluated."""
    angles = [0.0, 0.1, 1.5, 3.0], [1.5] * 4
    config = {
        "estimator": "csd",
        "weighting": "uniform",
        "prompts": PromptConfig(negative="blurry", perp_neg=True),
    }
    result = _step(prior, rgb, angles=angles, t_schedule=ONE_T, **config)
    x_t, t, _ = prior.last
    texts = ["a mushroom, front view", "a mushroom, side view", "blurry"]
    front, side, uncond = (
        prior.predict_noise(x_t[:4], t[:4], Condition(e.expand(4, 1, -1)))
        for e in prior.embed(texts)
    )
    main = prior.predict_noise(
        x_t[:4], t[:4], Condition(torch.stack([_view(prior, a) for a in angles[0]]))
    )
    weights = torch.tensor([view_weights(a) for a in angles[0]]).T
    expected = combine(main - uncond, torch.stack([front - uncond, side - uncond]), weights)
    torch.testing.assert_close(result.gradient, expected)


def test_views_do_not_see_one_another(prior, rgb):
    """A batch of mixed t equals the views one by one: no reduction runs over the batch."""
    distillation = Distillation(DistillConfig(M=400), prior, "a mushroom", num_steps=100)
    ts = torch.tensor([50, 390, 410, 900])
    eps = torch.randn(4, 3, 4, 4).double()
    together = _with_fixed(distillation, ts, eps, rgb, ANGLES)
    for i in range(4):
        alone = _with_fixed(
            distillation,
            ts[i : i + 1],
            eps[i : i + 1],
            rgb[i : i + 1],
            [a[i : i + 1] for a in ANGLES],
        )
        torch.testing.assert_close(alone.gradient, together.gradient[i : i + 1])


def _with_fixed(distillation, t, eps, rgb, angles):
    with (
        patch.object(distillation, "draw_timesteps", lambda *_: t),
        patch("gs_ssd.guidance.trajectory.draw_noise", lambda *_: eps),
    ):
        return distillation.step(rgb, _cameras(*angles), 0, torch.Generator())


def test_no_gradient_reaches_the_prior(prior, rgb):
    prior.means.requires_grad_()
    _grads(_step(prior, rgb), rgb)
    # The encoder is the only door for gradients, and it does not use the means.
    assert prior.means.grad is None


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_normalised_gradients_ignore_the_priors_scale(prior, rgb, factor):
    config = {"normalize": "unit", "unit_rms": 0.2, "weighting": "uniform", "M": 500}
    before = _step(prior, rgb, **config)
    prior.scale = factor
    after = _step(prior, rgb, **config)
    torch.testing.assert_close(after.gradient, before.gradient)
    torch.testing.assert_close(_norms(after), torch.full((4,), 0.2 * 48**0.5, dtype=torch.float64))
    plain = _step(prior, rgb, M=500)
    prior.scale = 1.0
    torch.testing.assert_close(plain.gradient, factor * _step(prior, rgb, M=500).gradient)


def test_clipping_bounds_the_batch(prior, rgb):
    free = _step(prior, rgb)
    bound = free.grad_norm.item() / 3
    clipped = _step(prior, rgb, max_norm=bound)
    torch.testing.assert_close(clipped.gradient, free.gradient / 3)
    torch.testing.assert_close(_step(prior, rgb, max_norm=1e9).gradient, free.gradient)


def test_a_mean_over_views_is_the_sum_over_their_number(prior, rgb):
    mean = _step(prior, rgb, average_views=True)
    torch.testing.assert_close(mean.gradient, _step(prior, rgb).gradient / len(rgb))


def test_same_generator_same_step(prior, rgb):
    config = {"flip": 0.5, "trajectories": TrajectoryConfig(offset_noise=0.1)}
    first, again, other = (_step(prior, rgb, seed=s, **config) for s in (1, 1, 2))
    assert torch.equal(first.gradient, again.gradient)
    assert not torch.equal(first.gradient, other.gradient)


def test_a_mirrored_batch_is_the_mirror_images_step(prior, rgb):
    """flip = 1 on a picture equals flip = 0 on its mirror image seen from the mirrored azimuth."""
    flipped = _step(prior, rgb, flip=1.0, t_schedule=ONE_T)
    mirrored = rgb.detach().flip(-1).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    torch.rand((), generator=generator)  # the coin
    distillation = Distillation(DistillConfig(t_schedule=ONE_T), prior, "a mushroom", num_steps=100)
    plain = distillation.step(mirrored, _cameras([-a for a in ANGLES[0]], ANGLES[1]), 0, generator)
    torch.testing.assert_close(_grads(flipped, rgb), _grads(plain, mirrored).flip(-1))


def test_depth_replaces_the_colours(prior, rgb):
    depth = torch.rand(4, 1, 16, 16).double().requires_grad_()
    result = _step(prior, rgb, depth=depth, depth_as_latents=1.0)
    result.loss.backward()
    assert rgb.grad is None
    assert depth.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="depth"):
        _step(prior, rgb, depth_as_latents=1.0)


def test_a_prior_that_wants_depth_gets_it_row_by_row(prior, rgb):
    prior.uses_depth = True
    depth = torch.rand(4, 1, 16, 16).double()
    _step(prior, rgb, depth=depth)
    x_t, _, told = prior.last
    assert told.depth.shape == (len(x_t), 1, 16, 16)
    assert torch.equal(told.depth, torch.cat([depth, depth]))


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("size", [None, 1])
def test_a_prior_that_wants_cameras_gets_them_row_by_row(prior, rgb, flip, size):
    """A mirrored picture is told the mirrored camera; the null prompt's rows are told their views'
    cameras too."""
    prior.uses_cameras = True
    cameras, told = _cameras(*ANGLES), []
    predict = prior.predict_noise
    prior.predict_noise = lambda x_t, t, condition: (
        told.append(condition),
        predict(x_t, t, condition),
    )[1]
    _step(prior, rgb, flip=flip, views_per_pass=size)
    expected = cameras.mirrored() if flip else cameras
    assert torch.equal(Condition.cat(told).cameras.w2c, torch.cat([expected.w2c, expected.w2c]))


def test_nan_from_the_prior_is_counted_and_stopped(prior, rgb):
    prior.scale = math.nan
    result = _step(prior, rgb)
    assert result.bad_predictions.item() == result.gradient.numel()
    assert result.bad_latents.item() == 0
    assert _grads(result, rgb).abs().sum() == 0


def test_nan_from_the_encoder_is_named(prior, rgb):
    result = _step(prior, (rgb / 0.0 * 0.0))
    assert result.bad_latents.item() == result.gradient.numel()


def test_preview_is_the_guided_clean_picture(prior, rgb):
    result = _step(prior, rgb, t_schedule=((0.0, 0.05, 0.05),))
    picture = result.preview()
    assert picture.shape == rgb.shape
    assert 0 <= picture.min() <= picture.max() <= 1


def test_t_range_is_a_law_of_the_share():
    knots = ((0.0, 0.6, 0.98), (0.2, 0.6, 0.98), (0.2, 0.02, 0.98), (0.6, 0.02, 0.5))
    assert t_range(knots, 0.1) == (0.6, 0.98)
    assert t_range(knots, 0.2) == (0.02, 0.98)
    assert t_range(knots, 0.4) == pytest.approx((0.02, 0.74))
    assert t_range(knots, 1.0) == (0.02, 0.5)


def test_timesteps_stay_in_their_range_and_fill_it(prior):
    distillation = Distillation(DistillConfig(), prior, "a mushroom", num_steps=100)
    generator = torch.Generator().manual_seed(0)
    early, late = (distillation.draw_timesteps(20_000, step, generator) for step in (0, 99))
    assert (early.min(), early.max(), late.min(), late.max()) == (20, 979, 20, 499)
    one = Distillation(DistillConfig(t_per_view=False), prior, "a mushroom", num_steps=100)
    assert one.draw_timesteps(4, 0, generator).unique().numel() == 1


def test_m_comes_from_config_then_prior_then_paper(prior):
    def m(**config):
        return Distillation(DistillConfig(**config), prior, "a mushroom", num_steps=10).config.M

    assert (m(), m(prompts=PromptConfig(perp_neg=True)), m(M=0)) == (200, 80, 0)
    prior.metadata = {"recipe": {"M": 333, "t_schedule": [[0.0, 0.1, 0.2]]}}
    assert (m(), m(M=5)) == (333, 5)
    assert Distillation(DistillConfig(), prior, "a mushroom", num_steps=10).t_schedule == (
        (0.0, 0.1, 0.2),
    )


@pytest.mark.parametrize("metadata", [{}, {"views": LUCID_VIEWS, "recipe": {"M": 333}}])
@pytest.mark.parametrize("name", RUNNABLE)
def test_what_is_filled_is_filled_once(name, metadata):
    filled = resolve(DistillConfig(estimator=name), metadata)
    assert resolve(filled, metadata) == filled == resolve(filled, {"recipe": {"M": 4}})
    assert None not in (
        filled.weighting,
        filled.t_schedule,
        filled.trajectory,
        filled.prompts.negative,
    )


def test_the_negative_that_is_filled_in_is_one_where_its_prediction_is_subtracted():
    def negative(name, **metadata):
        return resolve(DistillConfig(estimator=name), metadata).prompts.negative

    assert (
        negative("ssd") == negative("nfsd") == negative("nfsd", views=LUCID_VIEWS) == LUCID_NEGATIVE
    )
    assert negative("ssd", views=LUCID_VIEWS) == ""


def test_a_setting_that_the_estimator_does_not_ask_for_stays_as_it_is():
    assert "eps_ref" not in inspect.signature(ESTIMATORS["csd"]).parameters
    for given in (None, "critic"):
        assert resolve(DistillConfig(estimator="csd", reference=given), {}).reference == given


def test_an_estimator_of_ones_own(prior, rgb):
    def only_main(*, eps_pos, eps_ref, **_):
        return 2 * (eps_pos - eps_ref)

    own = Distillation(DistillConfig(), prior, "a mushroom", num_steps=10, estimator=only_main)
    result = own.step(rgb, _cameras(*ANGLES), 0, torch.Generator().manual_seed(0))
    assert result.unet_images == 4
    built_in = _step(prior, rgb, estimator="seek_minus_eps")
    torch.testing.assert_close(result.gradient, 2 * built_in.gradient)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"estimator": "sdds"}, "estimator"),
        ({"weighting": "sigma3"}, "weighting"),
        ({"trajectory": "ddim"}, "trajectory"),
        ({"normalize": "yes"}, "normalize"),
        ({"t_schedule": ((0.5, 0.1, 0.2), (0.1, 0.1, 0.2))}, "t_schedule"),
        ({"t_schedule": ((0.0, 0.9, 0.2),)}, "t_schedule"),
    ],
)
def test_bad_values_are_named(config, key):
    with pytest.raises(ValidationError, match=key):
        DistillConfig(**config)


def test_the_fixture_is_a_prior(prior):
    assert isinstance(prior, DiffusionPrior)


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("perp_neg", [False, True])
def test_passes_of_few_views_change_the_memory_and_nothing_else(prior, rgb, size, perp_neg):
    config = {"prompts": PromptConfig(negative="blurry", perp_neg=perp_neg), "M": 300}
    whole = _step(prior, rgb, **config)
    expected = _grads(whole, rgb)
    encode, predict, most = prior.encode, prior.predict_noise, {"encoded": 0, "predicted": 0}

    def encoding(some, generator=None):
        most["encoded"] = max(most["encoded"], len(some))
        return encode(some, generator)

    def predicting(x_t, *rest):
        most["predicted"] = max(most["predicted"], len(x_t))
        return predict(x_t, *rest)

    prior.encode, prior.predict_noise = encoding, predicting
    parts = _step(prior, rgb, views_per_pass=size, **config)
    torch.testing.assert_close(parts.gradient, whole.gradient, rtol=1e-12, atol=0)
    torch.testing.assert_close(_grads(parts, rgb), expected, rtol=1e-12, atol=1e-15)
    assert parts.unet_images == whole.unet_images
    assert most["encoded"] == min(size, 4)
    assert most["predicted"] <= 2 * size


def test_a_sampled_posterior_is_the_same_on_the_way_back(prior, rgb):
    """Each pass draws from a stream of its own, for its second run too."""
    drawn = []
    encode = prior.encode

    def sampling(some, generator=None):
        drawn.append(torch.rand(1, generator=generator).item())
        return encode(some)

    prior.encode = sampling
    result = _step(prior, rgb, views_per_pass=1, sample_posterior=True)
    result.loss.backward()
    assert len(drawn) == 8
    assert sorted(drawn[:4]) == sorted(drawn[4:])
    assert len(set(drawn)) == 4
