"""MVDream behind the door: the joint attention against a plain evaluation, the cameras against the
formulas of the paper's code, and folders of both public layouts, tensor by tensor."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gs_ssd import prior as priors
from gs_ssd.errors import UserError
from gs_ssd.prior.base import DiffusionPrior, PredictsGroups, TrainablePrior, views_per_group
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.multiview_unet import camera_numbers
from gs_ssd.prior.sources import SHORT_NAMES
from gs_ssd.scene.camera import Cameras

VIEWS = 4
T = torch.tensor([300] * VIEWS + [700] * VIEWS)


@pytest.fixture(scope="module")
def multiview(load_beside):
    return load_beside("tiny_multiview")


@pytest.fixture(scope="module")
def prior(tiny_mvdream):
    return priors.load(priors.PriorConfig(model=str(tiny_mvdream)), "cpu")


@pytest.fixture
def own(tiny_mvdream, tmp_path):
    """A copy of the folder that a test may change."""
    return shutil.copytree(tiny_mvdream, tmp_path / "own")


def load(folder, **settings):
    return priors.load(priors.PriorConfig(model=str(folder), **settings), "cpu")


def around(elevation_deg=(15.0, 5.0), start_deg=(20.0, -50.0)):
    """Two groups of four."""
    azimuth, polar = [], []
    for elevation, start in zip(elevation_deg, start_deg, strict=True):
        azimuth += [math.radians(start + 90 * k) for k in range(VIEWS)]
        polar += [math.radians(90 - elevation)] * VIEWS
    count = len(azimuth)
    return Cameras.orbit(
        torch.tensor(azimuth), torch.tensor(polar), torch.full((count,), 3.7),
        torch.full((count,), 0.5), 32, 32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def question():
    """Latents, text of two sentences, and two groups of cameras."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2 * VIEWS, 4, 16, 16, generator=generator)
    text = torch.randn(2, 16, 32, generator=generator).repeat_interleave(VIEWS, dim=0)
    return x, Condition(text, around())


def test_it_is_a_prior_that_predicts_groups_at_its_own_size(prior):
    for kind in (DiffusionPrior, PredictsGroups, TrainablePrior):
        assert isinstance(prior, kind)
    assert (views_per_group(prior), prior.uses_cameras, prior.image_size) == (VIEWS, True, 32)


def test_image_size_counts_latents(multiview, own):
    """The public config says 32, for pictures of 256 pixels through a VAE of 8."""
    config = multiview.CONFIG | {"image_size": 32}
    multiview.write_unet(own, multiview.tensors(config), config)
    small = load(own)
    assert small.image_size == 32 * small.vae_factor


def test_predictions_equal_the_plain_evaluation(prior, question, multiview):
    x, told = question
    wanted = multiview.reference(
        multiview.tensors(), x, T, told.text, camera_numbers(told.cameras), VIEWS
    )
    torch.testing.assert_close(prior.predict_noise(x, T, told), wanted, rtol=1e-3, atol=1e-4)
    apart = multiview.reference(
        multiview.tensors(), x, T, told.text, camera_numbers(told.cameras), 1
    )
    assert (wanted - apart).norm() / wanted.norm() > 0.01  # the reference itself tells them apart


def test_rows_without_cameras_are_single_pictures(prior, question, multiview):
    x, told = question
    found = prior.predict_noise(x[:3], T[:3], Condition(told.text[:3]))
    wanted = multiview.reference(multiview.tensors(), x[:3], T[:3], told.text[:3])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_groups_do_not_hear_of_one_another(prior, question):
    x, told = question
    together = prior.predict_noise(x, T, told)
    for rows in (slice(0, VIEWS), slice(VIEWS, None)):
        alone = prior.predict_noise(x[rows], T[rows], told[rows])
        torch.testing.assert_close(alone, together[rows], rtol=1e-4, atol=1e-5)


def test_torn_groups_are_refused(prior, question):
    x, told = question
    with pytest.raises(ValueError, match="6 views are no groups of 4"):
        prior.predict_noise(x[:6], T[:6], told[:6])


def test_cameras_are_those_of_mvdreams_code():
    """Its formula: camera at (cos e cos a, cos e sin a, sin e), columns right, up, backward."""
    cameras = around()
    numbers = camera_numbers(cameras).reshape(-1, 4, 4)
    for row, (azimuth, polar) in enumerate(
        zip(cameras.azimuth_rad.tolist(), cameras.polar_rad.tolist(), strict=True)
    ):
        a, e = -azimuth, math.pi / 2 - polar  # its azimuth grows from the front (+x) towards +y
        position = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        backward = position / position.norm()
        right = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), backward)
        right = right / right.norm()
        up = torch.linalg.cross(backward, right)
        wanted = torch.eye(4)
        wanted[:3] = torch.stack([right, up, backward, position], dim=1)
        torch.testing.assert_close(numbers[row], wanted, rtol=0, atol=1e-6)


def test_the_front_view_stands_at_plus_x():
    """Known by heart: seen from the front, level, the picture's right is +y and its up is +z."""
    front = around(elevation_deg=(0.0, 0.0), start_deg=(0.0, 0.0))[:1]
    wanted = torch.tensor([[0.0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    torch.testing.assert_close(camera_numbers(front).reshape(4, 4), wanted, rtol=0, atol=1e-6)


def as_diffusers_port(folder, prior):
    """Rewrite a folder in the other public layout: diffusers' names, the camera beside them."""
    state = {name: tensor.contiguous() for name, tensor in prior.unet.state_dict().items()}
    camera = {
        name.removeprefix("class_embedding."): state.pop(name)
        for name in list(state)
        if name.startswith("class_embedding.")
    }
    config = dict(prior.unet.config) | {"_class_name": "UNet2DConditionModel"}
    config |= {"class_embed_type": None, "projection_class_embeddings_input_dim": None}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    save_file(state, str(folder / "unet" / "diffusion_pytorch_model.safetensors"))
    (folder / "camera_proj").mkdir()
    save_file(camera, str(folder / "camera_proj" / "diffusion_pytorch_model.safetensors"))
    (folder / "camera_proj" / "config.json").write_text(
        json.dumps({"_class_name": "CameraMatrixEmbedding", "in_channels": 16})
    )
    assert sorted(camera) == ["linear_1.bias", "linear_1.weight", "linear_2.bias",
                              "linear_2.weight"]  # fmt: skip


def test_the_other_layouts_give_the_same_predictions(prior, question, multiview, own):
    x, told = question
    wanted = prior.predict_noise(x, T, told)
    wrapped = {f"unet.{name}": tensor for name, tensor in multiview.tensors().items()}
    multiview.write_unet(
        own, wrapped, multiview.CONFIG | {"_class_name": "MultiViewUNetWrapperModel"}
    )
    assert torch.equal(load(own).predict_noise(x, T, told), wanted)
    as_diffusers_port(own, prior)
    assert torch.equal(load(own).predict_noise(x, T, told), wanted)


def test_half_precision_files_are_read(question, multiview, own, prior):
    x, told = question
    halves = {name: tensor.half() for name, tensor in multiview.tensors().items()}
    multiview.write_unet(own, halves, name="diffusion_pytorch_model.fp16")
    found, wanted = load(own).predict_noise(x, T, told), prior.predict_noise(x, T, told)
    assert (found - wanted).norm() / wanted.norm() < 0.01


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("camera_embed.2.bias", "missing", "camera_embed.2.bias is missing"),
        ("middle_block.1.norm.weight", "missing", "missing"),
        ("input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", "missing", "missing"),
        ("out.2.bias", "missing", "missing"),
        ("image_embed.latents", "extra", "image_embed.latents"),
        ("input_blocks.1.1.transformer_blocks.0.attn2.to_k_ip.weight", "extra", "unknown"),
        ("middle_block.1.proj_in.weight", "wider", "shape"),
    ],
)
def test_every_tensor_finds_its_place_or_the_folder_is_refused(name, change, said, multiview, own):
    weights = multiview.tensors()
    if change == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(3, 5)
    multiview.write_unet(own, weights)
    with pytest.raises(UserError, match=said) as refused:
        load(own)
    assert str(own / "unet") in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ip_dim": 16}, "ImageDream"),
        ({"use_scale_shift_norm": True}, "use_scale_shift_norm=True"),
        ({"camera_dim": 12}, "camera_dim=12"),
        ({"frames": 24}, "frames=24"),
        ({"context_dim": None}, "context_dim"),
    ],
)
def test_configs_that_cannot_be_followed_are_refused_by_key(changes, said, multiview, own):
    config = {k: v for k, v in (multiview.CONFIG | changes).items() if v is not None}
    (own / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        load(own)


def test_weights_of_no_safetensors_are_not_read(own):
    part = own / "unet"
    (part / "diffusion_pytorch_model.safetensors").rename(part / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"no \.safetensors file"):
        load(own)


def test_settings_that_would_undo_the_joint_attention_are_refused(tiny_mvdream):
    with pytest.raises(UserError, match=r"prior\.attention_slicing"):
        load(tiny_mvdream, attention_slicing=True)
    with pytest.raises(UserError, match=r"prior\.controlnet"):
        load(tiny_mvdream, controlnet="some/where")


def test_its_negative_prompt_and_cameras_are_defaults(prior, own):
    from gs_ssd.guidance.prompts import default_negative

    assert default_negative(prior.metadata).startswith("ugly, bad anatomy, blurry")
    assert prior.metadata["camera"]["elevation_deg"] == [0.0, 30.0]
    (own / "gs_ssd.json").write_text(json.dumps({"negative": "fog"}))
    assert default_negative(load(own).metadata) == "fog"
    assert "mvdream" in SHORT_NAMES


def test_a_critic_starts_equal_and_looks_at_groups_too(question, own):
    pytest.importorskip("peft")
    prior = load(own)
    x, told = question
    before = prior.predict_noise(x, T, told)
    copy = prior.trainable_copy(2)
    torch.testing.assert_close(copy.predict(x, T, told).detach(), before)
    torch.testing.assert_close(prior.predict_noise(x, T, told), before)


def test_the_original_names_are_all_in_the_file(tiny_mvdream, multiview):
    """The folder under test is of the port's layout: original names, no other."""
    names = load_file(str(tiny_mvdream / "unet" / "diffusion_pytorch_model.safetensors")).keys()
    assert {name.split(".")[0] for name in names} == {
        "time_embed", "camera_embed", "input_blocks", "middle_block", "output_blocks", "out",
    }  # fmt: skip
