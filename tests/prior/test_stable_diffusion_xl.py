"""SDXL's door on a small random model, against the pipeline's own encoding of prompts."""

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.prompts import PromptConfig
from gs_ssd.prior import DiffusionPrior, PriorConfig, load
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

pytest.importorskip("diffusers")
T = torch.tensor([3, 700])
CAMERAS = at_angles([0.1, 2.0], [1.5, 1.5], radius=4.0, fov_y_rad=0.7, size=32)


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("xl")
    pipe = tiny.pipeline_xl(path / "scratch")
    pipe.save_pretrained(str(path / "model"))
    return pipe, path / "model"


def test_prompts_and_prediction_are_the_pipelines_own(saved):
    pipe, folder = saved
    prior = load(PriorConfig(model=str(folder)), "cpu")
    assert isinstance(prior, DiffusionPrior)
    embeddings = prior.embed(["a red mug", ""])
    positive, negative, pooled, null = pipe.encode_prompt(
        "a red mug", device="cpu", num_images_per_prompt=1
    )
    torch.testing.assert_close(embeddings[:1, :-1], positive)
    torch.testing.assert_close(embeddings[:1, -1, :24], pooled)
    torch.testing.assert_close(embeddings[1:, :-1], negative)  # zeros: force_zeros_for_empty_prompt
    torch.testing.assert_close(embeddings[1:, -1, :24], null)
    x = torch.randn(2, 4, 16, 16)
    added = {
        "text_embeds": torch.cat([pooled, null]),
        "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2),
    }
    with torch.no_grad():
        text = torch.cat([positive, negative])
        expected = pipe.unet(x, T, encoder_hidden_states=text, added_cond_kwargs=added).sample
    torch.testing.assert_close(prior.predict_noise(x, T, Condition(embeddings)), expected)


@pytest.mark.parametrize("estimator", ["ssd", "vsd"])
def test_a_step_after_the_encoders_are_released(saved, estimator):
    if estimator == "vsd":
        pytest.importorskip("peft")
    prior = load(PriorConfig(model=str(saved[1])), "cpu")
    config = DistillConfig(estimator=estimator, prompts=PromptConfig(perp_neg=True))
    distillation = Distillation(config, prior, "a red mug", num_steps=10)
    prior.release_text_encoder()
    rgb = torch.rand(2, 3, 32, 32, requires_grad=True)
    distillation.step(rgb, CAMERAS, 0, torch.Generator().manual_seed(0)).loss.backward()
    assert rgb.grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="released"):
        prior.embed(["a"])


def test_its_vae_keeps_full_precision_in_half_runs(saved):
    prior = load(PriorConfig(model=str(saved[1]), dtype="float16"), "cpu")
    assert (prior.unet.dtype, prior.vae.dtype) == (torch.float16, torch.float32)


def test_learned_tokens_are_refused(saved):
    with pytest.raises(UserError, match="SDXL"):
        load(PriorConfig(model=str(saved[1]), textual_inversion=("a.safetensors",)), "cpu")


def test_the_second_encoder_is_checked_too(saved, tmp_path):
    import shutil

    shutil.copytree(saved[1], tmp_path / "model")
    (tmp_path / "model" / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="text_encoder_2"):
        load(PriorConfig(model=str(tmp_path / "model")), "cpu")
