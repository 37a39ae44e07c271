"""The shape of a multi-resolution hash grid (instant-NGP, Mueller et al. 2022)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property

FEATURES = 2  #: per entry
MAX_LEVELS = 32
MAX_RESOLUTION = 1 << 20


@dataclass(frozen=True)
class HashGrid:
    """Levels of `floor(base_resolution * scale**level)` cells a side, each with a table of its
    vertices' features.

    A level whose vertices fit into 2**log2_entries has an entry for each (rounded up to a multiple
    of 8), a finer one hashes them into as many.

    Raises:
        ValueError: names the field that is out of range.
    """

    levels: int = 16
    log2_entries: int = 19
    base_resolution: int = 16
    scale: float = 1.447269237440378

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MAX_LEVELS:
            raise ValueError(f"levels must be 1 to {MAX_LEVELS}, got {self.levels}")
        if not 3 <= self.log2_entries <= 30:
            raise ValueError(f"log2_entries must be 3 to 30, got {self.log2_entries}")
        if self.base_resolution < 1:
            raise ValueError(f"base_resolution must be at least 1, got {self.base_resolution}")
        if not self.scale >= 1:
            raise ValueError(f"scale must be at least 1, got {self.scale}")
        if self.resolutions[-1] > MAX_RESOLUTION:
            raise ValueError(
                f"the finest level has {self.resolutions[-1]} cells a side, more than"
                f" {MAX_RESOLUTION}"
            )

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Cells a side, by level.

        (What is a rounding error below a whole number is that number.)"""
        return tuple(
            int(self.base_resolution * self.scale**level + 1e-6) for level in range(self.levels)
        )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level, and the number of all."""
        found = [0]
        for resolution in self.resolutions:
            vertices = (resolution + 1) ** 3
            found.append(found[-1] + min(-(-vertices // 8) * 8, 1 << self.log2_entries))
        return tuple(found)

    @property
    def num_entries(self) -> int:
        """Of all tables; they are one tensor [num_entries, 2]."""
        return self.offsets[-1]

    @property
    def num_features(self) -> int:
        """That `encode` returns."""
        return FEATURES * self.levels

    def is_hashed(self, level: int) -> bool:
        """Do vertices share entries there?"""
        return (self.resolutions[level] + 1) ** 3 > self.offsets[level + 1] - self.offsets[level]

    @cached_property
    def as_arrays(self) -> tuple[ctypes.Array, ctypes.Array]:
        """`resolutions` and `offsets` for the native backend."""
        return (ctypes.c_int32 * self.levels)(*self.resolutions), (
            ctypes.c_int64 * (self.levels + 1)
        )(*self.offsets)
