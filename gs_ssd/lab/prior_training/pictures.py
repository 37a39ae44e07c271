"""Training pictures in shards on disk: made once, read by every later run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd.files import atomic_path
from gs_ssd.lab import world


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with what their captions need."""

    rgb: Tensor  # [N,3,S,S] uint8
    kind: Tensor  # [N] index into world.kinds()
    color: Tensor  # [N] index into world.colors()
    azimuth_deg: Tensor  # [N]
    elevation_deg: Tensor  # [N]
    closeup: Tensor  # [N] bool

    def __len__(self) -> int:
        return len(self.rgb)

    def __getitem__(self, index: Tensor | slice) -> "Pictures":
        return Pictures(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def make_shard(
    count: int,
    size: int,
    seed: int,
    device: torch.device | str = "cpu",
    *,
    kinds: Sequence[str] | None = None,
    law: world.CameraLaw | None = None,
    batch: int = 8,
) -> Pictures:
    """At least `count` pictures, as many of every kind (None: all kinds of the world), in random
    order."""
    kinds = kinds or world.kinds()
    generator = torch.Generator(device).manual_seed(seed)
    rounds = -(-count // (batch * len(kinds)))
    shots = [
        world.photograph(kind, batch, size, generator, law=law)
        for _ in range(rounds)
        for kind in kinds
    ]
    columns = [
        torch.cat(column).cpu()
        for column in zip(
            *(
                (
                    s.rgb,
                    s.kind,
                    s.color,
                    s.views.azimuth_deg,
                    s.views.elevation_deg,
                    s.views.closeup,
                )
                for s in shots
            ),
            strict=True,
        )
    ]
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(seed))
    return Pictures(*(column[order] for column in columns))


def shard(
    folder: Path, index: int, count: int, size: int, device: torch.device | str = "cpu", **what: Any
) -> Pictures:
    """Shard `index` of `folder`, made there first (by `make_shard`, with `what`) if it is
    missing."""
    path = folder / f"pictures-{size}-{index:03d}.pt"
    if not path.exists():
        with atomic_path(path) as temporary:
            torch.save(
                dataclasses.asdict(make_shard(count, size, 1000 + index, device, **what)), temporary
            )
    return Pictures(**torch.load(path, weights_only=True))


def join(shards: list[Pictures]) -> Pictures:
    """All pictures in one."""
    return Pictures(
        *(torch.cat([getattr(s, f.name) for s in shards]) for f in dataclasses.fields(Pictures))
    )
