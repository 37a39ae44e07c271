"""The bundled prior's parts before training: captions, tokenizer, encoder, the smallest run."""

import dataclasses
import json
import random

import pytest
import torch

from gs_ssd.lab.prior_training.captions import (
    AZIMUTH_WORDS,
    ELEVATION_WORDS,
    SYNONYMS,
    CaptionLaw,
    Mix,
    caption,
    every_word,
    neighbours,
    view_mix,
)
from gs_ssd.lab.prior_training.patch_pca import fit_basis


def weights(mix: Mix) -> dict[str, float]:
    return dict(zip(mix.texts, mix.weights, strict=True))


@pytest.mark.parametrize(("degrees", "words"), AZIMUTH_WORDS)
def test_at_a_word_only_that_word(degrees, words):
    for turn in (-360, 0, 360):
        assert neighbours(degrees + turn, AZIMUTH_WORDS, 360.0) == [(words, 1.0)]


@pytest.mark.parametrize("azimuth", [-179.0, -30.0, 12.5, 44.0, 350.0])
@pytest.mark.parametrize("elevation", [-40.0, -3.0, 25.0, 79.0, 89.0])
def test_mixes_are_convex_and_reproduce_the_angle(azimuth, elevation):
    found = neighbours(azimuth, AZIMUTH_WORDS, 360.0)
    assert sum(w for _, w in found) == pytest.approx(1)
    assert all(w > 0 for _, w in found)
    angle = {words: degrees for degrees, words in AZIMUTH_WORDS}
    near = [
        (angle[word] + 180 - azimuth) % 360 - 180 for word, _ in found
    ]  # relative to the camera
    assert sum(w * d for (_, w), d in zip(found, near, strict=True)) == pytest.approx(0, abs=1e-9)
    mix = view_mix("a red mug", azimuth, elevation)
    assert sum(mix.weights) == pytest.approx(1)
    assert len(mix.texts) <= 4
    assert all(text.startswith("a red mug, ") for text in mix.texts)


def test_mix_by_hand():
    assert weights(view_mix("a red mug", 22.5, 25.0)) == pytest.approx(
        {
            "a red mug, front view, at eye level": 0.25,
            "a red mug, front view, from above": 0.25,
            "a red mug, front right view, at eye level": 0.25,
            "a red mug, front right view, from above": 0.25,
        }
    )


def test_captions_have_the_shares_of_their_law():
    law, rng = CaptionLaw(), random.Random(0)
    mixes = [caption("mug", "red", 20.0, 20.0, False, law, rng) for _ in range(4000)]
    texts = [mix.texts[0] for mix in mixes]
    share = lambda test: sum(map(test, texts)) / len(texts)  # noqa: E731
    assert share(lambda t: t == "") == pytest.approx(law.dropout, abs=0.03)
    assert share(lambda t: t.startswith(("a photo", "a 3d", "a DSLR"))) == pytest.approx(
        0.88 * law.prefix, abs=0.03
    )
    assert sum(len(mix.texts) == 4 for mix in mixes) / len(mixes) == pytest.approx(
        0.88 * 0.7, abs=0.03
    )
    closeups = [
        caption("mug", "red", 0.0, 0.0, True, CaptionLaw(dropout=0.0), rng).texts[0]
        for _ in range(20)
    ]
    assert all(text.startswith("closeup of a") for text in closeups)


def test_every_word_of_a_caption_is_known_to_the_tokenizer():
    from gs_ssd.lab.prior_training.models import ModelConfig, build_tokenizer

    tokenizer = build_tokenizer(ModelConfig())
    whole = [word for word in every_word() if len(tokenizer(word).input_ids) == 3]
    assert set(every_word()) - set(whole) == {"3d"}  # CLIP's rule splits digits off
    assert {
        word for others in SYNONYMS.values() for text in others for word in text.split()
    } <= set(whole)
    assert len(tokenizer("xylophone").input_ids) > 3
    longest = (
        "closeup of a 3d render of a snowman with an orange hat, front right view, at eye level"
    )
    assert len(tokenizer(longest).input_ids) <= tokenizer.model_max_length
    assert {words for _, words in ELEVATION_WORDS} <= {
        "from below",
        "at eye level",
        "from above",
        "from overhead",
    }


def test_a_rebuilt_tokenizer_is_the_shipped_one():
    """Ties between merges must not depend on the process: weights meet a tokenizer that another
    process built."""
    from gs_ssd.lab.prior_training.models import ModelConfig, build_tokenizer
    from gs_ssd.prior import BUNDLED

    shipped = json.loads((BUNDLED / "tokenizer" / "vocab.json").read_text())
    assert build_tokenizer(ModelConfig()).get_vocab() == shipped


@pytest.fixture(scope="module")
def basis():
    """From pictures with structure: random blocks, smoothed."""
    rough = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return fit_basis(
        torch.nn.functional.interpolate(rough, (64, 64), mode="bicubic").clamp(0, 1) * 2 - 1, 12
    )


def test_latents_have_unit_variance_and_the_basis_inverts_itself(basis):
    rough = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(rough, (64, 64), mode="bicubic").clamp(0, 1) * 2 - 1
    z = basis.encode(pixels)
    assert (z - z.mean((0, 2, 3), keepdim=True)).square().mean().item() == pytest.approx(
        1, rel=0.01
    )
    covariance = torch.cov(z.movedim(1, 0).flatten(1))
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-2 * covariance.diag().max()
    torch.testing.assert_close(basis.weight @ basis.inverse, torch.eye(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(basis.encode(basis.decode(z)), z, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_written_encoder_is_the_matrix_and_so_is_its_gradient(basis, dtype):
    from gs_ssd.lab.prior_training.decoder import build_autoencoder
    from gs_ssd.lab.prior_training.models import ModelConfig

    vae = build_autoencoder(ModelConfig(), basis).eval().to(dtype)
    pixels = (torch.rand(2, 3, 64, 64) * 2 - 1).to(dtype).requires_grad_()
    distribution = vae.encode(pixels).latent_dist
    expected = basis.encode(pixels.detach().float())
    assert distribution.std.max() < 0.01
    tolerance = 1e-2 if dtype == torch.float32 else 0.05 * expected.abs().max().item()
    torch.testing.assert_close(distribution.mean.float(), expected, atol=tolerance, rtol=0)
    push = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(distribution.mean, pixels, push.to(dtype))
    reference = torch.zeros(2, 3, 64, 64, requires_grad=True)
    (exact,) = torch.autograd.grad(basis.encode(reference), reference, push)
    cosine = torch.nn.functional.cosine_similarity(
        gradient.float().flatten(), exact.flatten(), dim=0
    )
    assert cosine > (0.9999 if dtype == torch.float32 else 0.999)
    assert gradient.float().norm().item() == pytest.approx(exact.norm().item(), rel=0.02)


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """Everything is restored exactly; a step's batch and noise hang on the seed and its number
    alone.

    Not asserted: equal losses and weights afterwards. Two identical runs already differ (kernels
    choose by memory alignment), and Adam's first steps turn the sign of a vanishing gradient into a
    whole learning rate.
    """
    from gs_ssd.lab.prior_training.train import PRESETS, PriorTrainer, to_pixels

    run = PriorTrainer(tmp_path, PRESETS["smoke"])
    pictures = run.pictures()
    pictures = dataclasses.replace(pictures, rgb=run.basis().encode(to_pixels(pictures.rgb)).half())
    for _ in range(3):
        run._train_step(pictures)
    run._save()
    again = PriorTrainer(tmp_path, PRESETS["smoke"])
    assert again.step == 3
    assert again.embed.frozen
    for mine, theirs in (
        (run.parts.state_dict(), again.parts.state_dict()),
        (run.average, again.average),
    ):
        assert all(torch.equal(theirs[name], x) for name, x in mine.items())
    before, after = run.adam.state_dict()["state"], again.adam.state_dict()["state"]
    assert before.keys() == after.keys()
    assert all(
        torch.equal(after[i][name], x)
        for i, moments in before.items()
        for name, x in moments.items()
    )
    assert again.fit(minutes=5.0, report=lambda _: None)
    assert again.step == PRESETS["smoke"].steps
