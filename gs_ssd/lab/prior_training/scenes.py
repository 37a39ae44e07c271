"""Training pictures with their exact cameras and without a background, in shards on disk: made
once, read by every run.

A background is put behind a picture each time it is shown, so that 40 thousand pictures do not wear
out.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from gs_ssd.files import atomic_path
from gs_ssd.lab import world

BATCH = 8  # objects of one kind a call of the tracer


@dataclasses.dataclass(frozen=True)
class Scenes:
    """N pictures."""

    rgba: Tensor  # [N,4,S,S] uint8: colours times alpha, alpha
    kind: Tensor  # [N] index into world.kinds()
    color: Tensor  # [N] index into world.colors()
    w2c: Tensor  # [N,4,4]
    tan_half_fov: Tensor  # [N,2]
    azimuth_deg: Tensor  # [N]
    elevation_deg: Tensor  # [N]
    closeup: Tensor  # [N] bool

    def __len__(self) -> int:
        return len(self.rgba)

    def __getitem__(self, index: Tensor | slice) -> "Scenes":
        return Scenes(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))

    def pairs(self) -> list[tuple[str, str]]:
        """Kind and colour of every picture, in words."""
        kinds, colors = world.kinds(), world.colors()
        return [
            (kinds[k], colors[c])
            for k, c in zip(self.kind.tolist(), self.color.tolist(), strict=True)
        ]


def make_shard(rounds: int, size: int, seed: int) -> Scenes:
    """`rounds` times eight pictures of every kind, proportions, colour, paint, lamp and camera
    drawn at random."""
    law, generator = world.CameraLaw(closeup_share=0.06), torch.Generator().manual_seed(seed)
    shots = [
        world.photograph(kind, BATCH, size, generator, law=law, background=torch.zeros(1, 3))
        for _ in range(rounds)
        for kind in world.kinds()
    ]
    columns = zip(
        *((torch.cat([s.rgb, s.alpha], 1), s.kind, s.color, *s.views) for s in shots),
        strict=True,
    )
    return Scenes(*(torch.cat(column) for column in columns))


def load(folder: Path, shards: int, rounds: int, size: int) -> Scenes:
    """All shards of `folder`; those that are missing are made there first."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for index in range(shards):
        path = folder / f"scenes-{size}-{index:03d}.pt"
        if not path.exists():
            with atomic_path(path) as temporary:
                torch.save(dataclasses.asdict(make_shard(rounds, size, 7000 + index)), temporary)
        parts.append(Scenes(**torch.load(path, weights_only=True)))
    return Scenes(
        *(torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Scenes))
    )
