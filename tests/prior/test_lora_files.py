"""LoRA files that were dropped, half used or refused without reason; peft itself is the reference
for DoRA."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load

pytest.importorskip("diffusers")
LAYERS = ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
          "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
          "down_blocks.0.resnets.0.conv1")  # fmt: skip


@pytest.fixture(scope="module")
def prior(folder):
    return load(PriorConfig(model=str(folder)), "cpu")


def _pair(module, generator, rank=2):
    down = torch.randn(rank, *module.weight.shape[1:], generator=generator)
    up = torch.randn(
        module.weight.shape[0], rank, *(1 for _ in module.weight.shape[2:]), generator=generator
    )
    return down, up


def _kohya(model, names, prefix="lora_unet_", alpha=1.0):
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name in names:
        down, up = _pair(model.get_submodule(name), generator)
        key = prefix + name.replace(".", "_")
        tensors |= {
            f"{key}.lora_down.weight": down,
            f"{key}.lora_up.weight": up,
            f"{key}.alpha": torch.tensor(alpha),
        }
    return tensors


def _load(folder, tensors, path, **settings):
    save_file(tensors, str(path))
    return load(PriorConfig(model=str(folder), lora=(str(path),), **settings), "cpu")


def test_a_dora_file_is_what_peft_makes_of_it(prior, folder, tmp_path):
    peft = pytest.importorskip("peft")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    config = peft.LoraConfig(
        r=2, lora_alpha=1, target_modules=list(LAYERS), use_dora=True, init_lora_weights=False
    )
    torch.manual_seed(0)
    unet.add_adapter(config)
    tensors = {}
    for name in LAYERS:
        module, key = unet.get_submodule(name), "lora_unet_" + name.replace(".", "_")
        length = module.lora_magnitude_vector["default"].weight
        length.data *= 0.5 + torch.rand_like(length)
        tensors[f"{key}.lora_down.weight"] = module.lora_A["default"].weight.detach().clone()
        tensors[f"{key}.lora_up.weight"] = module.lora_B["default"].weight.detach().clone()
        tensors[f"{key}.alpha"] = torch.tensor(1.0)
        tensors[f"{key}.dora_scale"] = (
            length.detach().reshape(-1, *(1 for _ in module.weight.shape[1:])).clone()
        )
    adapted = _load(folder, tensors, tmp_path / "dora.safetensors")
    half = _load(folder, tensors, tmp_path / "dora.safetensors", lora_scale=0.5)
    for name in LAYERS:
        before, after = (p.unet.get_submodule(name).weight for p in (prior, adapted))
        module = unet.get_submodule(name)
        module.merge()
        torch.testing.assert_close(after, module.base_layer.weight.detach(), atol=1e-5, rtol=1e-4)
        assert (after - before).abs().max() > 0.05
        torch.testing.assert_close(
            half.unet.get_submodule(name).weight, (before + after) / 2, atol=1e-5, rtol=1e-4
        )


def test_a_dora_scale_over_the_inputs_is_refused(prior, folder, tmp_path):
    name = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj"
    tensors = _kohya(prior.unet, [name])
    tensors["lora_unet_" + name.replace(".", "_") + ".dora_scale"] = torch.ones(1, 16)
    with pytest.raises(UserError, match=r"prior\.lora=.*DoRA scale of \(1, 16\)"):
        _load(folder, tensors, tmp_path / "dora.safetensors")


def test_one_layer_of_ten_is_refused(prior, folder, tmp_path):
    tensors = _kohya(prior.unet, LAYERS[:1])
    for i in range(9):
        key = f"lora_unet_down_blocks_7_attentions_{i}_proj_in"
        tensors |= {
            f"{key}.lora_down.weight": torch.ones(2, 16),
            f"{key}.lora_up.weight": torch.ones(16, 2),
        }
    with pytest.raises(
        UserError,
        match=r"only 1 of its layers .*\(9 of 10 are not: lora_unet_down_blocks_7.*same model",
    ):
        _load(folder, tensors, tmp_path / "other.safetensors")


def test_few_strange_layers_are_counted_and_named(prior, folder, tmp_path, caplog):
    tensors = _kohya(prior.unet, LAYERS)
    key = "lora_unet_nowhere"
    tensors |= {
        f"{key}.lora_down.weight": torch.ones(2, 16),
        f"{key}.lora_up.weight": torch.ones(16, 2),
    }
    with caplog.at_level(logging.WARNING):
        _load(folder, tensors, tmp_path / "some.safetensors")
    assert "1 of 4 layers are not of this model and do nothing: lora_unet_nowhere" in caplog.text


def test_layers_of_another_width_are_refused(prior, folder, tmp_path):
    tensors = _kohya(prior.unet, LAYERS[:1])
    tensors = {
        key: torch.ones(2, 99) if "down.weight" in key else value for key, value in tensors.items()
    }
    with pytest.raises(UserError, match="does not fit this model"):
        _load(folder, tensors, tmp_path / "wide.safetensors")


def test_a_kohya_text_encoder_with_one_projection_alone(prior, folder, tmp_path):
    names = [name for name, _ in prior.text_encoder.named_modules() if name.endswith("q_proj")]
    bare = {name.removeprefix("text_model.") for name in names}
    model = prior.text_encoder if bare == set(names) else prior.text_encoder.text_model
    tensors = _kohya(model, sorted(bare), prefix="lora_te_text_model_")
    adapted = _load(folder, tensors, tmp_path / "te.safetensors")
    for name in names:
        key = "lora_te_text_model_" + name.removeprefix("text_model.").replace(".", "_")
        added = 0.5 * tensors[f"{key}.lora_up.weight"] @ tensors[f"{key}.lora_down.weight"]
        before, after = (p.text_encoder.get_submodule(name).weight for p in (prior, adapted))
        torch.testing.assert_close(after, before + added, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pattern", [{}, {"attn1.to_q": 8}])
def test_a_folder_that_peft_has_saved(prior, folder, tmp_path, pattern):
    """`PeftModel.save_pretrained`: the prefix base_model.model, and alpha in
    adapter_config.json."""
    peft = pytest.importorskip("peft")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    config = peft.LoraConfig(
        r=2,
        lora_alpha=6,
        alpha_pattern=pattern,
        target_modules=list(LAYERS),
        init_lora_weights=False,
    )
    wrapped = peft.get_peft_model(unet, config)
    wrapped.save_pretrained(str(tmp_path / "peft"))
    assert json.loads((tmp_path / "peft/adapter_config.json").read_text())["lora_alpha"] == 6
    adapted = load(PriorConfig(model=str(folder), lora=(str(tmp_path / "peft"),)), "cpu")
    merged = wrapped.merge_and_unload()
    for name in LAYERS:
        after, expected = (model.get_submodule(name).weight for model in (adapted.unet, merged))
        torch.testing.assert_close(after, expected.detach(), atol=1e-5, rtol=1e-4)
        assert not torch.equal(after, prior.unet.get_submodule(name).weight)


def test_what_is_no_lora_is_named(folder, tmp_path):
    tensors = {"lora_unet_mid_block_resnets_0_conv1.hada_w1_a": torch.ones(2, 2)}
    with pytest.raises(UserError, match=r"hada_w1_a is no tensor of a LoRA"):
        _load(folder, tensors, tmp_path / "loha.safetensors")
