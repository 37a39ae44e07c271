"""Splats as the bytes that the studio's page draws: a JSON header, then what `viewer.pack` makes.

uint32 (little-endian) length of the header, the header padded with spaces so that the data begins
at a multiple of 16, the data.
"""

import dataclasses
import json
import struct
from collections.abc import Mapping
from typing import Any

from gs_ssd.export.clean import most_visible
from gs_ssd.export.splats import Splats
from gs_ssd.viewer.pack import pack_splats

MEDIA_TYPE = "application/vnd.gs-ssd.splats"


def to_bytes(
    splats: Splats, *, at_most: int | None = None, about: Mapping[str, Any] | None = None
) -> bytes:
    """Pack for the page.

    Args:
        at_most: keep the most visible so many.
        about: goes into the header, beside the counts.
    """
    total = len(splats)
    if at_most is not None:
        splats = most_visible(splats, at_most)
    packed = dataclasses.asdict(pack_splats(splats.to_frame("gltf")))
    data = packed.pop("data")
    header = {
        "count": packed["count"],
        "total": total,
        "shDegree": packed["sh_degree"],
        "shTexels": packed["sh_degree"],
        "shRange": packed["sh_range"],
        "center": packed["center"],
        "radius": packed["radius"],
        **(about or {}),
    }
    text = json.dumps(header).encode()
    text += b" " * (-(4 + len(text)) % 16)
    return struct.pack("<I", len(text)) + text + data
