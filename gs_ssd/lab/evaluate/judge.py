"""An independent judge: names the kind and the colour of an object in a picture.

A small convolutional net, trained on other renderings of the world (other seeds, cameras, lights
and backgrounds) than the prior, on sharp pictures only, and never part of an optimization. Its
card, with its own ceiling, lies in `judge/`.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gs_ssd import checksums
from gs_ssd.errors import UserError

SIZE = 64  # pixels: what the net sees
FOLDER = Path(__file__).parent / "judge"


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """Names in the order of the net's outputs, and its widths, one a resolution from 32 pixels
    down."""

    kinds: tuple[str, ...]
    colors: tuple[str, ...]
    widths: tuple[int, ...] = (24, 48, 96, 128)


class Opinion(NamedTuple):
    """What the judge sees in B pictures."""

    kinds: list[str]
    colors: list[str]
    features: Tensor  # [B,D], what the names are read off
    chances: Mapping[str, Tensor] = MappingProxyType({})  # of each kind [B], in 0..1


class Score(NamedTuple):
    """Shares of the pictures, in 0..1."""

    kind: float
    color: float
    both: float


class JudgeNet(nn.Module):
    """`[B,3,64,64]` in 0..1 to the logits of kinds and colours."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        before = 3
        for width in config.widths:
            levels += [_convolution(before, width, 2), _convolution(width, width, 1)]
            before = width
        self.body = nn.Sequential(*levels)
        self.kind, self.color = (
            nn.Linear(2 * before, len(config.kinds)),
            nn.Linear(2 * before, len(config.colors)),
        )

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the kinds and of the colours, and the features they are linear in."""
        maps = self.body(2 * rgb - 1)
        features = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return self.kind(features), self.color(features), features


class Judge:
    """The trained judge: `load().score(turntable, "mushroom", "red")`."""

    def __init__(self, net: JudgeNet, config: JudgeConfig) -> None:
        self.net, self.config = net.eval().requires_grad_(False), config

    def __call__(self, rgb: Tensor) -> Opinion:
        """Its opinion of pictures `[B,3,H,W]` in 0..1; sizes other than 64 are averaged down
        first."""
        if rgb.shape[-2:] != (SIZE, SIZE):
            rgb = nn.functional.interpolate(
                rgb, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
            )
        kind, color, features = self.net(rgb.float())
        return Opinion(
            [self.config.kinds[index] for index in kind.argmax(1).tolist()],
            [self.config.colors[index] for index in color.argmax(1).tolist()],
            features,
            dict(zip(self.config.kinds, kind.softmax(1).unbind(1), strict=True)),
        )

    def score(self, rgb: Tensor, kind: str, color: str) -> Score:
        """Shares of the pictures that the judge names right.

        Raises:
            UserError: the judge does not know this kind or colour.
        """
        for word, known in ((kind, self.config.kinds), (color, self.config.colors)):
            if word not in known:
                raise UserError(f"the judge does not know {word!r}; it knows {', '.join(known)}")
        opinion = self(rgb)
        right = [
            (k == kind, c == color, k == kind and c == color)
            for k, c in zip(opinion.kinds, opinion.colors, strict=True)
        ]
        return Score(*(sum(column) / len(right) for column in zip(*right, strict=True)))


def load(folder: Path = FOLDER, device: torch.device | str = "cpu") -> Judge:
    """The judge in `folder`, by default the one that comes with the package.

    Raises:
        UserError: the folder holds no judge, or one that cannot be read.
    """
    import safetensors.torch

    if not (folder / "judge.json").is_file():
        raise UserError(f"cannot read the judge in {folder}: there is none; reinstall the package")
    checksums.check(folder, "reinstall the package")
    try:
        names = json.loads((folder / "judge.json").read_text())
        config = JudgeConfig(tuple(names["kinds"]), tuple(names["colors"]), tuple(names["widths"]))
        weights = safetensors.torch.load_file(folder / "judge.safetensors")
        net = JudgeNet(config)
        net.load_state_dict(
            {name: x.float() if x.is_floating_point() else x for name, x in weights.items()}
        )
    except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(
            f"cannot read the judge in {folder}: {error}; reinstall the package"
        ) from error
    return Judge(net.to(device), config)


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
