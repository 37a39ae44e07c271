"""Random models of Stable Diffusion's very classes, a few hundred kilobytes big, saved as pipeline
folders."""

import json
import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = ["a", "red", "mug", "front", "view", "side", "back", ","]


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's byte-level tokenizer without merges, plus a few whole words."""
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    merges, vocabulary = [], [*letters, *(f"{c}</w>" for c in letters)]
    for word in (w for w in WORDS if len(w) > 1):
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
                vocabulary.append("".join(pair))
            parts = ["".join(pair), *parts[2:]]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(dict.fromkeys(vocabulary))})
    )
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n"
    )
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )


def pipeline(
    folder: Path, *, sd2: bool = False, prediction: str = "epsilon", seed: int = 0
) -> StableDiffusionPipeline:
    """A whole pipeline of 32-pixel pictures and 16 x 16 latents; SD 2 differs in its projections
    and activation."""
    torch.manual_seed(seed)
    words = tokenizer(folder / "vocabulary")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16, hidden_act="gelu" if sd2 else "quick_gelu",
            bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4) if sd2 else 2, use_linear_projection=sd2,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        steps_offset=1,
        set_alpha_to_one=False, prediction_type=prediction,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def pipeline_xl(folder: Path) -> StableDiffusionXLPipeline:
    """An SDXL-like pipeline: two text encoders, a pooled embedding and the picture's size as
    conditions."""
    small = pipeline(folder)
    config = {**small.text_encoder.config.to_dict(), "projection_dim": 24}
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=64,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 24,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=small.vae, text_encoder=small.text_encoder, tokenizer=small.tokenizer,
        scheduler=small.scheduler, unet=unet,
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**config)),
        tokenizer_2=small.tokenizer,
    )  # fmt: skip


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET = [
    (r"time_embedding\.linear_1", "time_embed.0"), (r"time_embedding\.linear_2", "time_embed.2"),
    (r"^conv_in", "input_blocks.0.0"), (r"^conv_norm_out", "out.0"), (r"^conv_out", "out.2"),
    (r"down_blocks\.0\.resnets\.0", "input_blocks.1.0"),
    (r"down_blocks\.0\.attentions\.0", "input_blocks.1.1"),
    (r"down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
    (r"down_blocks\.1\.resnets\.0", "input_blocks.3.0"),
    (r"mid_block\.resnets\.0", "middle_block.0"), (r"mid_block\.attentions\.0", "middle_block.1"),
    (r"mid_block\.resnets\.1", "middle_block.2"),
    (r"up_blocks\.0\.resnets\.(\d)", r"output_blocks.\1.0"),
    (r"up_blocks\.0\.upsamplers\.0", "output_blocks.1.1"),
    (r"up_blocks\.1\.resnets\.0", "output_blocks.2.0"),
    (r"up_blocks\.1\.resnets\.1", "output_blocks.3.0"),
    (r"up_blocks\.1\.attentions\.0", "output_blocks.2.1"),
    (r"up_blocks\.1\.attentions\.1", "output_blocks.3.1"),
]  # fmt: skip
VAE = [
    (r"conv_norm_out", "norm_out"), (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"), (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_q", "attn_1.q"), (r"attn_1\.to_k", "attn_1.k"), (r"attn_1\.to_v", "attn_1.v"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"), (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"), (r"up_blocks\.0\.", "up.1."),
    (r"up_blocks\.1\.", "up.0."), (r"(up\.\d)\.resnets", r"\1.block"),
    (r"(up\.\d)\.upsamplers\.0", r"\1.upsample"), (r"conv_shortcut", "nin_shortcut"),
]  # fmt: skip


def single_file(pipe: StableDiffusionPipeline, path: Path) -> None:
    """Write the pipeline in the layout of the original SD 1 checkpoints, as one .safetensors
    file."""
    tensors = {}
    for name, tensor in pipe.unet.state_dict().items():
        key = name
        for pattern, replacement in UNET:
            key = re.sub(pattern, replacement, key)
        if ".resnets." in name:
            head, part, kind = key.rsplit(".", 2)
            key = f"{head}.{RESNET[part]}.{kind}"
        tensors[f"model.diffusion_model.{key}"] = tensor
    for name, tensor in pipe.vae.state_dict().items():
        key = name
        for pattern, replacement in VAE:
            key = re.sub(pattern, replacement, key)
        is_projection = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", key) is not None
        tensors[f"first_stage_model.{key}"] = tensor[:, :, None, None] if is_projection else tensor
    for name, tensor in pipe.text_encoder.state_dict().items():
        key = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[f"cond_stage_model.transformer.{key}"] = tensor
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, str(path))
