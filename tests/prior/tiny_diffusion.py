"""Random models of Stable Diffusion's very classes, a few hundred kilobytes big, saved as pipeline folders."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

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
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(dict.fromkeys(vocabulary))}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def pipeline(folder: Path, *, sd2: bool = False, prediction: str = "epsilon", seed: int = 0) -> StableDiffusionPipeline:
    """A whole pipeline of 32-pixel pictures and 16 x 16 latents; SD 2 differs in its projections and activation."""
    torch.manual_seed(seed)
    words = tokenizer(folder / "vocabulary")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=16, hidden_act="gelu" if sd2 else "quick_gelu",
            bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=(2, 4) if sd2 else 2, use_linear_projection=sd2,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1,
        set_alpha_to_one=False, prediction_type=prediction,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
