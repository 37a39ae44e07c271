"""Names under which LoRA files know one and the same layer, each by the weights that come out."""

import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load
from gs_ssd.prior.lora_places import Places

pytest.importorskip("diffusers")
QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
TEXT = "encoder.layers.0.self_attn.q_proj"
KOHYA = "lora_unet_" + QUERY.replace(".", "_")
UNDER = "attn1.processor.to_"


@pytest.fixture(scope="module")
def prior(folder):
    return load(PriorConfig(model=str(folder)), "cpu")


def pair(names, rank=2, scale=1.0):
    """Two random matrices for a weight of 16 x 16 (32 x 32 for the text encoder), named so."""
    generator = torch.Generator().manual_seed(0)
    size = 32 if "self_attn" in names[0] else 16
    down = torch.randn(rank, size, generator=generator)
    up = torch.randn(size, rank, generator=generator)
    return dict(zip(names, (down, up), strict=True)), scale * up @ down


def opened(folder, tensors, path, **settings):
    save_file(tensors, str(path), metadata=settings.pop("metadata", None))
    return load(PriorConfig(model=str(folder), lora=(str(path),), **settings), "cpu")


def module_of(model, part, name):
    names = {each.removeprefix("text_model."): each for each, _ in model.named_modules()}
    return model.get_submodule(names[name] if part == "text_encoder" else name)


LAYOUTS = {
    "diffusers before 0.20": ("unet", QUERY, f"unet.{QUERY.replace('attn1.to_', UNDER)}_lora.",
                              "down.weight", "up.weight"),
    "the same without a part": ("unet", QUERY, f"{QUERY.replace('attn1.to_', UNDER)}_lora.",
                                "down.weight", "up.weight"),
    "the same, to_out": ("unet", OUT, f"unet.{OUT.replace('attn1.to_', UNDER)[:-2]}_lora.",
                         "down.weight", "up.weight"),
    "diffusers": ("unet", QUERY, f"unet.{QUERY}.lora.", "down.weight", "up.weight"),
    "peft": ("unet", QUERY, f"base_model.model.{QUERY}.", "lora_A.weight", "lora_B.weight"),
    "peft, a part": ("unet", QUERY, f"unet.base_model.model.{QUERY}.", "lora_A.weight",
                     "lora_B.weight"),
    "peft, an adapter's name": ("unet", QUERY, f"base_model.model.{QUERY}.",
                                "lora_A.style.weight", "lora_B.style.weight"),
    "peft, a text encoder": ("text_encoder", TEXT, f"base_model.model.text_model.{TEXT}.",
                             "lora_A.weight", "lora_B.weight"),
    "kohya": ("unet", QUERY, f"{KOHYA}.", "lora_down.weight", "lora_up.weight"),
    "kohya, original names": ("unet", QUERY,
                              "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.",
                              "lora_down.weight", "lora_up.weight"),
    "ComfyUI": ("unet", QUERY, "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.",
                "lora_down.weight", "lora_up.weight"),
    "a text encoder in the UNet's words": ("text_encoder", TEXT,
        "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.",
        "down.weight", "up.weight"),
    "a text encoder of diffusers": ("text_encoder", TEXT,
        f"text_encoder.text_model.{TEXT}.lora_linear_layer.", "down.weight", "up.weight"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_changes_the_one_weight_that_it_names(prior, folder, tmp_path, layout):
    part, name, key, down, up = LAYOUTS[layout]
    tensors, added = pair((key + down, key + up))
    adapted = opened(folder, tensors, tmp_path / "a.safetensors")
    before, after = (module_of(getattr(p, part), part, name).weight for p in (prior, adapted))
    torch.testing.assert_close(after, before + added, atol=1e-5, rtol=1e-5)
    changed = [
        not torch.equal(old, new)
        for model in ("unet", "text_encoder")
        for old, new in zip(
            *(getattr(p, model).parameters() for p in (prior, adapted)), strict=True
        )
    ]
    assert sum(changed) == 1


RESNET = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3",
          "conv_shortcut": "skip_connection"}  # fmt: skip
ENDS = {"conv_in": "input_blocks.0.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip


def original(name):
    """A module of diffusers' SDXL UNet by its name in the original code, from the block numbers."""
    if name in ENDS:
        return ENDS[name]
    if found := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv", name):
        return f"input_blocks.{3 * int(found[1]) + 3}.0.op"
    if found := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.conv", name):
        return f"output_blocks.{3 * int(found[1]) + 2}.2.conv"
    pattern = r"(down|mid|up)_blocks?\.(?:(\d)\.)?(resnets|attentions)\.(\d)\.(.+)"
    where, block, kind, index, rest = re.fullmatch(pattern, name).groups()
    block, index, attention = int(block or 0), int(index), kind == "attentions"
    head = {
        "down": f"input_blocks.{3 * block + index + 1}.{int(attention)}",
        "mid": f"middle_block.{1 if attention else 2 * index}",
        "up": f"output_blocks.{3 * block + index}.{int(attention)}",
    }[where]
    return f"{head}.{rest if attention else RESNET[rest]}"


def test_all_layers_of_sdxl_by_their_original_names():
    """kohya's trainer names SDXL's layers so; the UNet here has SDXL's own shape and no weights."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128, block_out_channels=(320, 640, 1280), cross_attention_dim=2048,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10),
            use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
        )  # fmt: skip
    pipe = SimpleNamespace(unet=unet, lora_state_dict=StableDiffusionXLPipeline.lora_state_dict)
    places, kinds = Places(pipe), (torch.nn.Linear, torch.nn.Conv2d)
    names = [name for name, module in unet.named_modules() if isinstance(module, kinds)]
    assert len(names) == 794
    for name in names:
        assert places.find("lora_unet_" + original(name).replace(".", "_")) == ("unet", name)


def test_both_text_encoders_of_sdxl(tiny, tmp_path):
    folder = tmp_path / "xl"
    tiny.pipeline_xl(tmp_path / "words").save_pretrained(str(folder))
    plain = load(PriorConfig(model=str(folder)), "cpu")
    for prefix, part in (("lora_te1_", "text_encoder"), ("lora_te2_", "text_encoder_2")):
        key = prefix + "text_model_" + TEXT.replace(".", "_")
        tensors, added = pair((f"{key}.lora_down.weight", f"{key}.lora_up.weight"))
        adapted = opened(folder, tensors, tmp_path / "a.safetensors")
        for other in ("text_encoder", "text_encoder_2"):
            before, after = (
                module_of(getattr(p, other), "text_encoder", TEXT).weight for p in (plain, adapted)
            )
            expected = before + added if other == part else before
            torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_pefts_own_scaling(prior, folder, tmp_path, rank, rank_stabilised):
    """rsLoRA divides by the square root of the rank; the first pattern that fits names alpha."""
    peft = pytest.importorskip("peft")
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    config = peft.LoraConfig(
        r=rank, lora_alpha=6, target_modules=[QUERY, OUT], init_lora_weights=False,
        use_rslora=rank_stabilised, alpha_pattern={"attn1.to_q": 3, "to_q": 5},
    )  # fmt: skip
    wrapped = peft.get_peft_model(unet, config)
    wrapped.save_pretrained(str(tmp_path / "peft"))
    adapted = load(PriorConfig(model=str(folder), lora=(str(tmp_path / "peft"),)), "cpu")
    merged = wrapped.merge_and_unload()
    for name in (QUERY, OUT):
        after, expected = (m.get_submodule(name).weight for m in (adapted.unet, merged))
        torch.testing.assert_close(after, expected.detach(), atol=1e-5, rtol=1e-4)
        assert not torch.equal(after, prior.unet.get_submodule(name).weight)


def test_settings_inside_the_file(prior, folder, tmp_path):
    """diffusers writes peft's settings into the header of the file, part by part."""
    tensors, added = pair((f"unet.{QUERY}.lora_A.weight", f"unet.{QUERY}.lora_B.weight"), scale=4.0)
    metadata = {"lora_adapter_metadata": '{"unet.lora_alpha": 8, "text_encoder.lora_alpha": 1}'}
    adapted = opened(folder, tensors, tmp_path / "a.safetensors", metadata=metadata)
    before, after = (p.unet.get_submodule(QUERY).weight for p in (prior, adapted))
    torch.testing.assert_close(after, before + added, atol=1e-5, rtol=1e-5)


DOWN, UP = f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"
SOUND = {DOWN: torch.ones(2, 16), UP: torch.ones(16, 2)}
TWIN = {f"unet.{QUERY}.lora_A.weight": torch.ones(2, 16),
        f"unet.{QUERY}.lora_B.weight": torch.ones(16, 2)}  # fmt: skip
PEFT = f"base_model.model.{QUERY}.lora_A"


@pytest.mark.parametrize(
    ("tensors", "settings", "said"),
    [
        (SOUND | {DOWN: torch.full((2, 16), torch.nan)}, "{}", "lora_down.weight is not finite"),
        (SOUND | {f"{KOHYA}.alpha": torch.tensor(torch.inf)}, "{}", "alpha is not finite"),
        (SOUND | {f"{KOHYA}.alpha": torch.ones(3)}, "{}", r"alpha=\[1.0, 1.0, 1.0\] .* a number"),
        (SOUND | TWIN, "{}", "are the same layer of the model"),
        ({f"{PEFT}.a.weight": torch.ones(2, 16), f"{PEFT}.b.weight": torch.ones(2, 16)}, "{}",
         "is there twice"),
        ({DOWN: torch.ones(0, 16), UP: torch.ones(16, 0)}, "{}", "does not fit this model"),
        ({DOWN: torch.ones(16), UP: torch.ones(16)}, "{}", "does not fit this model"),
        ({DOWN: torch.tensor(1.0), UP: torch.tensor(1.0)}, "{}", "does not fit this model"),
        ({DOWN: torch.ones(16, 2), UP: torch.ones(2, 16)}, "{}", "does not fit this model"),
        ({}, "{}", "holds no tensors"),
        (SOUND, "{", "cannot be read"),
        (SOUND, "[1]", "must be an object"),
        (SOUND, '{"unet.lora_alpha": "x"}', "alpha='x' .* must be a number"),
        (SOUND, '{"unet.init_lora_weights": "pissa"}', "changes the base weights too"),
        (SOUND, '{"use_dora": true}', "holds no magnitudes"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_named(folder, tmp_path, tensors, settings, said):
    with pytest.raises(UserError, match=rf"prior\.lora=.*a\.safetensors.*{said}"):
        opened(folder, tensors, tmp_path / "a.safetensors",
               metadata={"lora_adapter_metadata": settings})  # fmt: skip
