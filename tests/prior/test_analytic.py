"""The Gaussian mixture: its noise prediction is the score, and its embeddings are mixtures."""

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.maths.diffusion import add_noise
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.condition import Condition


@pytest.fixture
def mixture():
    means = torch.randn(3, 2, 2, 1, dtype=torch.float64)
    return AnalyticPrior(
        means, torch.tensor([0.3, 0.05, 0.5], dtype=torch.float64), ["cat", "dog", "bird"]
    )


def _log_density(prior, x_t, t, weights):
    abar = prior.alphas_cumprod[t].reshape(-1, 1)
    variance = abar * prior.variances + 1 - abar
    squared = (
        (x_t[:, None] - abar.sqrt().reshape(-1, 1, 1, 1, 1) * prior.means)
        .square()
        .sum(dim=(2, 3, 4))
    )
    d = x_t[0].numel()
    return torch.logsumexp(
        weights.log() - 0.5 * squared / variance - 0.5 * d * variance.log(), dim=1
    )


def test_prediction_is_minus_sigma_times_the_score(mixture):
    t = torch.tensor([0, 20, 300, 999])
    x_t = torch.randn(4, 2, 2, 1, dtype=torch.float64, requires_grad=True)
    weights = mixture.embed(["cat and dog", "", "bird", "dog"])
    _log_density(mixture, x_t, t, weights[:, 0]).sum().backward()
    sigma = (1 - mixture.alphas_cumprod[t]).sqrt().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(
        mixture.predict_noise(x_t.detach(), t, Condition(weights)), -sigma * x_t.grad
    )


def test_prediction_is_the_posterior_mean_of_the_noise():
    """E[eps | x_t] by brute force over many draws of one Gaussian (Tweedie), without the formula of
    the code."""
    prior = AnalyticPrior(torch.full((1, 1, 1, 1), 0.5), torch.tensor([0.2]), ["x"])
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 + 0.2**0.5 * torch.randn(400_000, 1, 1, 1, generator=generator)
    eps = torch.randn(400_000, 1, 1, 1, generator=generator)
    x_t = add_noise(x0, eps, prior.alphas_cumprod[300])
    near = (x_t - 0.8).abs() < 0.05
    predicted = prior.predict_noise(
        torch.full((1, 1, 1, 1), 0.8), torch.tensor([300]), Condition(prior.embed(["x"]))
    )
    assert predicted.item() == pytest.approx(eps[near].mean().item(), abs=0.02)


def test_a_prompt_names_components(mixture):
    weights = mixture.embed(["a dog, front view", "", "cat dog"])[:, 0]
    assert weights.tolist() == [[0, 1, 0], pytest.approx([1 / 3] * 3), [0.5, 0.5, 0]]


def test_encode_is_linear_and_decode_inverts_flat_pictures():
    prior = load(PriorConfig(model="analytic"), "cpu")
    assert isinstance(prior, DiffusionPrior)
    rgb = torch.rand(2, 3, 1, 1).expand(2, 3, 64, 64).clone().requires_grad_()
    latents = prior.encode(rgb)
    assert latents.shape == (2, 3, 16, 16)
    torch.testing.assert_close(prior.decode(latents.detach()), rgb.detach())
    latents.sum().backward()
    torch.testing.assert_close(rgb.grad, torch.full_like(rgb, 2 / 16))


def test_the_balls_have_their_colours():
    prior = AnalyticPrior.discs()
    for name, channel in (("red", 0), ("blue", 2)):
        picture = prior.decode(prior.means[[prior.names.index(name)]])[0]
        assert picture[:, 32, 32].argmax() == channel
        torch.testing.assert_close(picture[:, 0, 0], torch.full((3,), 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("model", ["analytic", "bundled", "sd21-base"])
def test_configs_of_a_single_file_are_refused_where_there_is_none(model):
    with pytest.raises(
        UserError, match=r"^prior\.base=/nonexistent says .* leave prior\.base out$"
    ):
        load(PriorConfig(model=model, base="/nonexistent", offline=True), "cpu")


@pytest.mark.parametrize(
    "given",
    [
        {"lora": ("style.safetensors",)},
        {"textual_inversion": ("word.safetensors",)},
        {"tiny_vae": "someone/tiny"},
        {"controlnet": "someone/depth"},
        {"prediction": "v_prediction"},
        {"vae_dtype": "float16"},
        {"dtype": "float16"},
        {"image_size": 32},
        {"revision": "main"},
    ],
)
def test_a_setting_without_effect_is_refused_by_name(given):
    (name,) = given
    with pytest.raises(UserError, match=rf"^prior\.{name}"):
        load(PriorConfig(model="analytic", **given), "cpu")


def test_what_it_is_anyway_may_be_said():
    given = PriorConfig(model="analytic", dtype="float32", image_size=64, sliced_vae=True)
    assert isinstance(load(given, "cpu"), AnalyticPrior)
