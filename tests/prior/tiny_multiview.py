"""A small random MVDream: a pipeline folder laid out as the public port's, and a plain evaluation
of its UNet.

The tensors have the names and shapes of the original code, and the evaluation is written from the
paper and these names alone, in plain tensor operations, so that it knows nothing of diffusers.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, gelu, group_norm, interpolate, layer_norm, linear, silu

CONFIG = {
    "_class_name": "MultiViewUNetModel", "_diffusers_version": "0.21.1",
    "attention_resolutions": [2, 1], "camera_dim": 16, "channel_mult": [1, 2, 2],
    "context_dim": 32, "image_size": 16, "in_channels": 4, "model_channels": 32,
    "num_head_channels": 16, "num_res_blocks": 1, "out_channels": 4, "transformer_depth": 1,
    "use_checkpoint": False,
}  # fmt: skip


class Walk:
    """The layers of the original UNet in order, for drawing its tensors and for evaluating it."""

    def __init__(self, config, tensors=None, generator=None):
        self.config, self.drawn = config, tensors is None
        self.tensors = {} if tensors is None else tensors
        self.generator = generator

    def get(self, name, *shape, around=0.0):
        if self.drawn:
            size = 0.5 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
            self.tensors[name] = around + size * torch.randn(shape, generator=self.generator)
        tensor = self.tensors[name]
        assert tensor.shape == shape, name
        return tensor

    def linear(self, name, x, out, bias=True):
        weight = self.get(f"{name}.weight", out, x.shape[-1])
        return linear(x, weight, self.get(f"{name}.bias", out) if bias else None)

    def conv(self, name, x, out, size=3, stride=1):
        weight = self.get(f"{name}.weight", out, x.shape[1], size, size)
        return conv2d(x, weight, self.get(f"{name}.bias", out), stride, size // 2)

    def norm(self, name, x, eps=1e-5):
        channels = x.shape[1] if x.ndim == 4 else x.shape[-1]
        weight = self.get(f"{name}.weight", channels, around=1.0)
        bias = self.get(f"{name}.bias", channels)
        if x.ndim == 4:
            return group_norm(x, 32, weight, bias, eps)
        return layer_norm(x, (channels,), weight, bias)

    def residual(self, name, x, out, emb):
        h = self.conv(f"{name}.in_layers.2", silu(self.norm(f"{name}.in_layers.0", x)), out)
        h = h + self.linear(f"{name}.emb_layers.1", silu(emb), out)[:, :, None, None]
        h = self.conv(f"{name}.out_layers.3", silu(self.norm(f"{name}.out_layers.0", h)), out)
        return h + (x if x.shape[1] == out else self.conv(f"{name}.skip_connection", x, out, 1))

    def attend(self, name, x, context):
        """Plain attention, head by head and with the matrix of weights written out."""
        width, size = x.shape[-1], self.config["num_head_channels"]
        q = self.linear(f"{name}.to_q", x, width, bias=False)
        k = self.linear(f"{name}.to_k", context, width, bias=False)
        v = self.linear(f"{name}.to_v", context, width, bias=False)
        heads = []
        for start in range(0, width, size):
            a, b, c = (part[..., start : start + size] for part in (q, k, v))
            heads.append(torch.softmax(a @ b.transpose(-1, -2) / math.sqrt(size), dim=-1) @ c)
        return self.linear(f"{name}.to_out.0", torch.cat(heads, dim=-1), width)

    def transformer(self, name, x, text, views):
        rows, width, height, across = x.shape
        h = self.norm(f"{name}.norm", x, eps=1e-6).flatten(2).transpose(1, 2)
        h = self.linear(f"{name}.proj_in", h, width)
        block = f"{name}.transformer_blocks.0"
        normed = self.norm(f"{block}.norm1", h)
        groups = []
        for first in range(0, rows, views):
            tokens = torch.cat(list(normed[first : first + views]))[None]  # of all its views
            groups.append(self.attend(f"{block}.attn1", tokens, tokens)[0].chunk(views))
        h = h + torch.stack([view for group in groups for view in group])
        h = h + self.attend(f"{block}.attn2", self.norm(f"{block}.norm2", h), text)
        inner = self.linear(f"{block}.ff.net.0.proj", self.norm(f"{block}.norm3", h), 8 * width)
        inner, gate = inner.chunk(2, dim=-1)
        h = h + self.linear(f"{block}.ff.net.2", inner * gelu(gate), width)
        h = self.linear(f"{name}.proj_out", h, width)
        return x + h.transpose(1, 2).reshape(rows, width, height, across)

    def __call__(self, x, t, text, camera=None, views=1):
        config, base = self.config, self.config["model_channels"]
        frequencies = torch.exp(-math.log(10000) * torch.arange(base // 2) / (base // 2))
        angles = t[:, None].float() * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        emb = self.linear(
            "time_embed.2", silu(self.linear("time_embed.0", waves, 4 * base)), 4 * base
        )
        if camera is not None:
            emb = emb + self.linear(
                "camera_embed.2", silu(self.linear("camera_embed.0", camera, 4 * base)), 4 * base
            )
        levels, attends = config["channel_mult"], config["attention_resolutions"]
        h = self.conv("input_blocks.0.0", x, base)
        kept, block = [h], 1
        for level, factor in enumerate(levels):
            for _ in range(config["num_res_blocks"]):
                h = self.residual(f"input_blocks.{block}.0", h, factor * base, emb)
                if 2**level in attends:
                    h = self.transformer(f"input_blocks.{block}.1", h, text, views)
                kept, block = [*kept, h], block + 1
            if level < len(levels) - 1:
                h = self.conv(f"input_blocks.{block}.0.op", h, h.shape[1], stride=2)
                kept, block = [*kept, h], block + 1
        h = self.residual("middle_block.0", h, h.shape[1], emb)
        h = self.transformer("middle_block.1", h, text, views)
        h = self.residual("middle_block.2", h, h.shape[1], emb)
        block = 0
        for level, factor in reversed(list(enumerate(levels))):
            for last in [False] * config["num_res_blocks"] + [True]:
                joined = torch.cat([h, kept.pop()], dim=1)
                h = self.residual(f"output_blocks.{block}.0", joined, factor * base, emb)
                if 2**level in attends:
                    h = self.transformer(f"output_blocks.{block}.1", h, text, views)
                if last and level > 0:
                    slot = 2 if 2**level in attends else 1
                    twice = interpolate(h, scale_factor=2, mode="nearest")
                    h = self.conv(f"output_blocks.{block}.{slot}.conv", twice, h.shape[1])
                block += 1
        return self.conv("out.2", silu(self.norm("out.0", h)), config["out_channels"])


def tensors(config=CONFIG, seed=0):
    """Random ones under their original names."""
    walk = Walk(config, generator=torch.Generator().manual_seed(seed))
    size = config["image_size"]
    row = torch.zeros(1, config["in_channels"], size, size)
    walk(row, torch.zeros(1), torch.zeros(1, 2, config["context_dim"]), torch.zeros(1, 16))
    return walk.tensors


def reference(weights, x, t, text, camera=None, views=1, config=CONFIG):
    """The plain evaluation of these weights."""
    return Walk(config, weights)(x, t, text, camera, views)


def write_unet(folder: Path, weights, config=CONFIG, *, name="diffusion_pytorch_model"):
    """`unet/` of the public port."""
    part = folder / "unet"
    part.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        file.unlink()
    (part / "config.json").write_text(json.dumps(config))
    contiguous = {key: tensor.contiguous() for key, tensor in weights.items()}
    save_file(contiguous, str(part / f"{name}.safetensors"))


def write_folder(folder: Path, stable_diffusion, weights):
    """A whole pipeline: all but the UNet is Stable Diffusion's."""
    stable_diffusion.save_pretrained(str(folder))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "_class_name": "MVDreamPipeline",
        "unet": ["mv_unet", "MultiViewUNetModel"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    write_unet(folder, weights)
