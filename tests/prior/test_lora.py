"""LoRA files of every layout that is promised, on a small random model: each weight is what the
file adds to it."""

import pytest
import torch
from safetensors.torch import save_file

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.condition import Condition

pytest.importorskip("diffusers")
pytest.importorskip("peft")
T = torch.tensor([3, 700])


@pytest.fixture(scope="module")
def prior(folder):
    return load(PriorConfig(model=str(folder)), "cpu")


def test_lora_round_trip(prior, folder, tmp_path):
    """Train nothing: write a random adapter through peft, load it back, compare with the adapted
    UNet itself."""
    import peft
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    unet.add_adapter(
        peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    x, told = torch.randn(2, 4, 16, 16), Condition(prior.embed(["a red mug", ""]))
    StableDiffusionPipeline.save_lora_weights(
        str(tmp_path), unet_lora_layers=peft.get_peft_model_state_dict(unet)
    )
    file = str(tmp_path / "pytorch_lora_weights.safetensors")
    adapted = load(PriorConfig(model=str(folder), lora=(file,)), "cpu")
    with torch.no_grad():
        expected = unet(x, T, told.text).sample
    torch.testing.assert_close(adapted.predict_noise(x, T, told), expected, atol=1e-4, rtol=1e-4)
    assert (expected - prior.predict_noise(x, T, told)).abs().max() > 1e-2
    off = load(PriorConfig(model=str(folder), lora=(file,), lora_scale=0.0), "cpu")
    torch.testing.assert_close(
        off.predict_noise(x, T, told), prior.predict_noise(x, T, told), atol=1e-5, rtol=1e-4
    )


def _kohya(prior, alpha):
    """A file as kohya's trainer names it: every projection of the text encoder, and one of the
    UNet; what each adds."""
    generator, tensors, added = torch.Generator().manual_seed(0), {}, {}
    places = {"lora_te_text_model_": prior.text_encoder, "lora_unet_": prior.unet}
    for prefix, model in places.items():
        for name, module in model.named_modules():
            text = prefix.startswith("lora_te") and name.rpartition(".")[2] in (
                "q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"
            )  # fmt: skip
            if text or name == "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q":
                down = torch.randn(2, module.in_features, generator=generator)
                up = torch.randn(module.out_features, 2, generator=generator)
                key = prefix + name.removeprefix("text_model.").replace(".", "_")
                tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
                tensors[f"{key}.alpha"] = torch.tensor(alpha)
                added[prefix, name] = alpha / 2 * up @ down
    return tensors, added


@pytest.mark.parametrize("alpha", [2.0, 1.0])
def test_a_lora_in_kohyas_layout(prior, folder, tmp_path, alpha):
    """Its own names, both models, and an alpha that is not the rank: each weight is what the file
    adds to it."""
    tensors, added = _kohya(prior, alpha)
    save_file(tensors, str(tmp_path / "kohya.safetensors"))
    adapted = load(
        PriorConfig(model=str(folder), lora=(str(tmp_path / "kohya.safetensors"),), lora_scale=0.5),
        "cpu",
    )
    assert len(added) == 13
    for (prefix, name), difference in added.items():
        part = "text_encoder" if prefix.startswith("lora_te") else "unet"
        before, after = (
            getattr(model, part).get_submodule(name).weight for model in (prior, adapted)
        )
        torch.testing.assert_close(after, before + 0.5 * difference, atol=1e-5, rtol=1e-5)


def test_a_lora_of_another_model_is_refused_instead_of_ignored(folder, tmp_path):
    stranger = "transformer.blocks.0.to_q.lora"
    save_file({f"{stranger}_A.weight": torch.ones(2, 16),
        f"{stranger}_B.weight": torch.ones(16, 2)},
              str(tmp_path / "flux.safetensors"))  # fmt: skip
    with pytest.raises(
        UserError, match=r"prior\.lora=.*flux\.safetensors.*none of its layers are of this model"
    ):
        load(PriorConfig(model=str(folder), lora=(str(tmp_path / "flux.safetensors"),)), "cpu")
