"""The parts of a small StableDiffusionPipeline, before training, and how they are written as
one."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from gs_ssd.lab.prior_training.captions import every_word

_CLIP_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of a bundled prior. One attention flag per UNet level."""

    image_size: int = 64
    latent_channels: int = 12
    unet_channels: tuple[int, ...] = (64, 96, 128)
    unet_layers: int = 1
    unet_attention: tuple[bool, ...] = (False, True, False)
    unet_head_dim: int = 32
    unet_text_heads: int = (
        4  # of the pooled caption that joins the timestep in every block: kind and side are global
    )
    text_width: int = 128
    text_layers: int = 2
    text_length: int = 24
    vae_channels: tuple[int, int, int] = (16, 32, 64)

    @property
    def latent_size(self) -> int:
        return self.image_size // 4


def build_unet(config: ModelConfig) -> Any:
    from diffusers import UNet2DConditionModel

    down = ["CrossAttnDownBlock2D" if attend else "DownBlock2D" for attend in config.unet_attention]
    up = [
        "CrossAttnUpBlock2D" if attend else "UpBlock2D"
        for attend in reversed(config.unet_attention)
    ]
    return UNet2DConditionModel(
        sample_size=config.latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.unet_channels,
        layers_per_block=config.unet_layers,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        attention_head_dim=[
            max(1, width // config.unet_head_dim) for width in config.unet_channels
        ],
        cross_attention_dim=config.text_width,
        addition_embed_type="text",
        addition_embed_type_num_heads=config.unet_text_heads,
        norm_num_groups=16,
    )


def build_vae(config: ModelConfig) -> Any:
    """The autoencoder of `patch_pca.write_encoder`."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=config.vae_channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=1,
        sample_size=config.image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_tokenizer(config: ModelConfig) -> Any:
    """A byte-level BPE of CLIP's kind whose merges make every caption word one token; any text can
    be encoded."""
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer_files(Path(folder), config)
        return CLIPTokenizer.from_pretrained(folder)


def write_tokenizer_files(folder: Path, config: ModelConfig) -> None:
    """`vocab.json`, `merges.txt` and the two small files that every version of transformers
    reads."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        # Numbers ties between merges: without them a hash table's order would, another in every
        # process.
        special_tokens=[f"{byte}</w>" for byte in reversed(alphabet)],
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(every_word())] * 10, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    names = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(pair) for pair in merges)]
    specials = ["<|startoftext|>", "<|endoftext|>"]
    vocab = {name: index for index, name in enumerate([*dict.fromkeys(names), *specials])}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    roles = {
        "bos_token": specials[0],
        "eos_token": specials[1],
        "unk_token": specials[1],
        "pad_token": specials[1],
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(roles, indent=1))
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": config.text_length,
        "do_lower_case": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | roles, indent=1))


def build_text_encoder(config: ModelConfig, vocabulary: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=config.text_width // 32,
            max_position_embeddings=config.text_length,
            projection_dim=config.text_width,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def build_scheduler() -> Any:
    """Stable Diffusion's noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def save_pipeline(
    folder: Path,
    config: ModelConfig,
    unet: Any,
    text_encoder: Any,
    vae: Any,
    metadata: dict[str, Any],
) -> None:
    """Write a fp16 StableDiffusionPipeline directory with `gs_ssd.json` beside its parts."""
    import safetensors.torch
    from diffusers import StableDiffusionPipeline

    tokenizer = build_tokenizer(config)
    build: Any = StableDiffusionPipeline
    pipe = build(
        vae,
        text_encoder,
        tokenizer,
        unet,
        build_scheduler(),
        None,
        None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    write_tokenizer_files(folder / "tokenizer", config)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    for path in folder.rglob("*.safetensors"):
        tensors = {
            name: x.half().contiguous() for name, x in safetensors.torch.load_file(path).items()
        }
        if (
            path.parent.name == "text_encoder"
        ):  # transformers 5 drops the prefix that version 4 expects; both read it
            tensors = {
                "text_model." + name.removeprefix("text_model."): x for name, x in tensors.items()
            }
        safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    (folder / "gs_ssd.json").write_text(json.dumps(metadata, indent=1) + "\n")
