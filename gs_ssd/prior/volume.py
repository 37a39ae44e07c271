"""Floor 1: what a sentence's object looks like in space: a coarse volume of occupancy and colour,
made from its words.

The bundled prior's UNet sees this volume through the camera that it is asked for: the picture of
the volume along the camera's exact rays is laid beside the noisy latents as further input channels.
So the side shown is the side asked for. The volume depends on the sentence alone, is made once, and
a step then costs one look-up a view.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gs_ssd import json_text
from gs_ssd.prior.proportions import Warp

WEIGHTS, CONFIG = "model.safetensors", "config.json"
UNET_INPUT = "unet_input.weight"
CHANNELS = 4  # occupancy, then red, green, blue
COARSE = 16  # cells a side up to which convolutions grow a volume


@dataclasses.dataclass(frozen=True)
class VolumeConfig:
    """Sizes of a text volume, and how it is looked at."""

    text_width: int = 128
    queries: int = 4  # of the attention that pools the sentence
    width: int = 256
    channels: tuple[int, int, int] = (64, 64, 48)  # at 4, 8 and 16 cells a side
    resolution: int = 48  # cells a side, a multiple of 16
    half_extent: float = 0.875  # of the cube around the origin, world units
    map_size: int = 32  # pixels a side of the picture that the UNet gets
    samples: int = 40  # along a ray
    latent_size: int = 16

    @property
    def map_channels(self) -> int:
        """Input channels that the UNet has beside the latents."""
        return CHANNELS * (self.map_size // self.latent_size) ** 2


class TextVolume(nn.Module):
    """Text embeddings to a volume: attention over the words, then 3D convolutions modulated by what
    it found."""

    def __init__(self, config: VolumeConfig) -> None:
        super().__init__()
        self.config = config
        c4, c8, c16 = config.channels
        self.queries = nn.Parameter(torch.randn(config.queries, config.text_width))
        self.keys = nn.Linear(config.text_width, config.text_width)
        self.pooled = nn.Sequential(
            nn.Linear(config.queries * config.text_width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
        )
        self.seed = nn.Linear(config.width, c4 * 4**3)
        self.coarse = Block(c4, c8, config.width)
        self.middle = Block(c8, c16, config.width)
        self.detail = Block(c16, c16, config.width, grow=False)
        self.grow = config.resolution // COARSE
        self.head = nn.Conv3d(c16, self.grow**3 * CHANNELS, 3, padding=1)

    def forward(self, text: Float[Tensor, "b l d"]) -> Float[Tensor, "b 4 r r r"]:
        """Logits of occupancy and colour; axes are (z, y, x) of the world, as `grid_sample` wants
        them."""
        scores = torch.einsum("qd,bld->bql", self.queries, self.keys(text)) / text.shape[-1] ** 0.5
        style = self.pooled(torch.einsum("bql,bld->bqd", scores.softmax(-1), text).flatten(1))
        x = self.seed(style).unflatten(1, (-1, 4, 4, 4))
        for block in (self.coarse, self.middle, self.detail):
            x = block(x, style)
        return _shuffle(self.head(functional.silu(x)), self.grow)


class Block(nn.Module):
    """Twice the cells a side (unless `grow` is false), two convolutions, the second modulated by
    the sentence."""

    def __init__(self, inputs: int, outputs: int, width: int, *, grow: bool = True) -> None:
        super().__init__()
        self.grow = grow
        self.enter = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(8, outputs)
        self.modulate = nn.Linear(width, 2 * outputs)
        self.leave = nn.Conv3d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.grow:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.enter(x)
        scale, shift = self.modulate(style)[:, :, None, None, None].chunk(2, dim=1)
        return x + self.leave(functional.silu(self.norm(x) * (1 + scale) + shift))


def _shuffle(x: Tensor, factor: int) -> Tensor:
    """`[b, f^3 c, r, r, r]` to `[b, c, f r, f r, f r]`."""
    b, _, z, y, x_size = x.shape
    f = factor
    parts = x.view(b, -1, f, f, f, z, y, x_size).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, -1, f * z, f * y, f * x_size)


def look(
    logits: Float[Tensor, "n 4 r r r"],
    w2c: Float[Tensor, "n v 4 4"],
    tan_half_fov: Float[Tensor, "n v 2"],
    config: VolumeConfig,
    warp: Warp | None = None,
) -> Float[Tensor, "n v 4 h w"]:
    """Pictures of each volume through V cameras each: opacity, then colours times opacity, in front
    of nothing.

    Emission and absorption along the rays through the pixel centres. A cell of occupancy o hides a
    share o of what is behind it.

    Args:
        warp: from the volumes' space to the one that the cameras see.
    """
    n, views = w2c.shape[:2]
    size, half = config.map_size, config.half_extent
    origin, direction = pixel_rays(w2c.flatten(0, 1), tan_half_fov.flatten(0, 1), size)
    near, far = _through_cube(origin, direction, half)
    step = (far - near) / config.samples
    at = near + step * (torch.arange(config.samples, device=w2c.device) + 0.5)
    points = origin[:, :, None] + at[..., None] * direction[:, :, None]  # [nv, hw, s, 3]
    points = points if warp is None else warp.undo(points)
    values = torch.cat([logits[:, :1].sigmoid(), logits[:, 1:].sigmoid()], 1)
    grid = (points / half).reshape(n, views, size * size, config.samples, 3)
    found = functional.grid_sample(
        values, grid.to(values), align_corners=False, padding_mode="zeros"
    )
    occupancy, color = found[:, :1].clamp(0, 0.999), found[:, 1:]  # [n, c, v, hw, s]
    length = (step * direction.norm(dim=-1, keepdim=True)).view(n, 1, views, size * size, 1)
    clear = (1 - occupancy) ** (length * config.resolution / (2 * half))
    passed = clear.cumprod(-1)
    weight = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], -1) - passed
    picture = torch.cat([weight.sum(-1), (weight * color).sum(-1)], 1)
    return picture.movedim(1, 2).unflatten(-1, (size, size))


def pixel_rays(w2c: Tensor, tan_half_fov: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where rays start `[v,1,3]` and point `[v,hw,3]`, in the world, z = 1 in the camera."""
    line = (torch.arange(size, device=w2c.device) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    flat = torch.stack([x.flatten(), y.flatten()], -1) * tan_half_fov[:, None]
    in_camera = torch.cat([flat, torch.ones_like(flat[..., :1])], -1)
    turn = w2c[:, :3, :3]
    return -(w2c[:, None, :3, 3] @ turn), in_camera @ turn


def _through_cube(origin: Tensor, direction: Tensor, half: float) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave, `[v,hw,1]`; equal where they miss."""
    safe = torch.where(direction.abs() < 1e-9, 1e-9, direction)
    one, two = (-half - origin) / safe, (half - origin) / safe
    near = torch.minimum(one, two).amax(-1, keepdim=True).clamp(min=0)
    far = torch.maximum(one, two).amin(-1, keepdim=True)
    return near, torch.maximum(near, far)


def as_channels(picture: Float[Tensor, "b 4 h w"], latent_size: int) -> Float[Tensor, "b c k k"]:
    """The picture of a volume as input channels at the latents' size, neighbouring pixels side by
    side.

    Emptiness is -1 and colours have a sign, so that zero can mean that there is no picture.
    """
    opacity, color = picture[:, :1], picture[:, 1:]
    signed = torch.cat([2 * opacity - 1, 2 * color - opacity], 1)
    return functional.pixel_unshuffle(signed, picture.shape[-1] // latent_size)


def save(model: TextVolume, unet_input: Float[Tensor, "o c 3 3"], folder: Path) -> None:
    """Half precision weights and the sizes."""
    import safetensors.torch

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: x.detach().half().contiguous() for name, x in model.state_dict().items()}
    tensors[UNET_INPUT] = unet_input.detach().half().contiguous()
    safetensors.torch.save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(model.config), indent=1) + "\n")


def open_volume(folder: Path) -> tuple[TextVolume, Float[Tensor, "o c 3 3"]]:
    """The model in a folder and the UNet's weights for its channels, float32."""
    import safetensors.torch

    sizes: Any = json_text.parse((folder / CONFIG).read_text(encoding="utf-8"))
    sizes["channels"] = tuple(sizes["channels"])
    model = TextVolume(VolumeConfig(**sizes))
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    unet_input = tensors.pop(UNET_INPUT).float()
    model.load_state_dict({name: x.float() for name, x in tensors.items()})
    return model, unet_input


@torch.no_grad()
def surface_points(
    logits: Float[Tensor, "4 r r r"], half_extent: float, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Points spread over a volume's surface, world axes, and their colours in 0..1.

    Evenly by cells of half the size: those that are filled and have an empty neighbour. None where
    nothing is filled.
    """
    fine = functional.interpolate(logits[None].float().cpu(), scale_factor=2.0, mode="trilinear")[0]
    size = fine.shape[-1]
    filled = fine[:1] > 0
    padded = functional.pad(filled.float()[None], (1,) * 6)
    shell = filled & (-functional.max_pool3d(-padded, 3, 1) < 0.5)[0]
    cells = shell[0].nonzero()  # (z, y, x)
    if len(cells) == 0:
        return torch.zeros(0, 3), torch.zeros(0, 3)
    order = torch.cat(
        [torch.randperm(len(cells), generator=generator) for _ in range(-(-count // len(cells)))]
    )
    chosen = cells[order[:count]]
    points = (chosen + torch.rand(count, 3, generator=generator)) / size * 2 - 1
    colors = fine[1:, chosen[:, 0], chosen[:, 1], chosen[:, 2]].sigmoid().T
    return points.flip(1) * half_extent, colors
