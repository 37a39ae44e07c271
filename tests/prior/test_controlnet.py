"""Skeletons drive ControlNets of both families; other kinds are refused by name."""

from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.errors import UserError
from gs_ssd.job import Job
from gs_ssd.prior import PriorConfig, controlnet, load
from gs_ssd.prior.condition import Condition

pytest.importorskip("diffusers")
SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"
AVATAR = [
    "asset=avatar", "prompt=a red mug", "num_steps=2", "initialize.num_points=300",
    "avatar.surface_points=1500", "guidance.M=200",
]  # fmt: skip


def awake(net):
    """A fresh ControlNet says nothing: its last layers are zero."""
    torch.manual_seed(1)
    ends = [net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]
    for layer in (*net.controlnet_down_blocks, *ends):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return net


@pytest.fixture(scope="module", params=[False, True], ids=["sd1", "sd2"])
def model(request, tiny, tmp_path_factory):
    """A tiny pipeline and an openpose ControlNet for it, saved."""
    from diffusers import ControlNetModel

    where = tmp_path_factory.mktemp("control")
    pipe = tiny.pipeline(where / "scratch", sd2=request.param)
    pipe.save_pretrained(str(where / "model"))
    net = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 16))
    awake(net).save_pretrained(str(where / "control_openpose"))
    return where


def loaded(where, name="control_openpose", **options):
    config = PriorConfig(model=str(where / "model"), controlnet=str(where / name), **options)
    return load(config, "cpu")


def test_an_openpose_controlnet_is_driven_by_the_avatars_skeleton(model):
    pytest.importorskip("cv2", reason="needs opencv-python-headless")
    prior = loaded(model)
    assert prior.body_picture == ("openpose", 32)
    assert not prior.uses_depth
    seen = []
    inner = prior.controlnet.forward

    def watched(x, t, text, hint, **options):
        seen.append(hint)
        return inner(x, t, text, hint, **options)

    prior.controlnet.forward = watched
    job = Job(configs.load(SMOKE, AVATAR), prior)
    for _ in job.steps():
        pass
    assert seen[0].shape[1:] == (3, 32, 32)
    assert 0.02 < float(seen[0].amax(dim=1).gt(0).float().mean()) < 0.9  # a skeleton on black
    assert (seen[0] - seen[1]).abs().amax() > 0.3  # of another pose


def test_the_skeleton_changes_the_prediction_and_is_asked_for(model):
    prior = loaded(model, control="openpose")
    x, t, text = torch.randn(2, 4, 16, 16), torch.tensor([300, 800]), prior.embed(["a red mug"] * 2)
    images = torch.zeros(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    one, two = (prior.predict_noise(x, t, Condition(text, image=image)) for image in images)
    assert (one - two).abs().max() > 1e-4
    with pytest.raises(UserError, match=r"asset=avatar"):
        prior.predict_noise(x, t, Condition(text))


def test_an_asset_without_a_body_is_refused(model):
    with pytest.raises(UserError, match=r"openpose.*asset=avatar"):
        Job(configs.load(SMOKE, ["prompt=a red mug"]), loaded(model))


def test_a_controlnet_of_another_family_is_refused_by_both_names(model, tiny):
    from diffusers import ControlNetModel, UNet2DConditionModel

    pipe = tiny.pipeline(model / "scratch")
    wide = UNet2DConditionModel.from_config({**pipe.unet.config, "cross_attention_dim": 1024})
    net = ControlNetModel.from_unet(wide, conditioning_embedding_out_channels=(8, 16))
    net.save_pretrained(str(model / "other_openpose"))
    with pytest.raises(UserError, match=r"other_openpose was made for Stable Diffusion 2\.x"):
        loaded(model, "other_openpose")


@pytest.mark.parametrize(
    ("name", "told", "kind"),
    [
        ("lllyasviel/sd-controlnet-openpose", None, "openpose"),
        ("thibaud/controlnet-sd21-openpose-diffusers", None, "openpose"),
        ("lllyasviel/control_v11f1p_sd15_depth", None, "depth"),
        ("/models/mine", None, "depth"),
        ("/models/mine", "openpose", "openpose"),
    ],
)
def test_the_kind_is_in_the_name_or_the_setting(name, told, kind):
    assert controlnet.kind_of(name, told) == kind


@pytest.mark.parametrize(
    ("name", "told", "sentence"),
    [
        ("lllyasviel/sd-controlnet-canny", None, "looks like one for canny"),
        ("lllyasviel/sd-controlnet-openpose", "depth", "is called openpose"),
    ],
)
def test_the_wrong_kind_is_one_sentence(name, told, sentence):
    with pytest.raises(UserError, match=sentence):
        controlnet.kind_of(name, told)
