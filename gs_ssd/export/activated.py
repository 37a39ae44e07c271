"""Files whose opacities or sizes are stored as they are drawn, where readers expect logits and
logarithms."""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

import numpy as np

from gs_ssd.export.splats import Splats, logit

log = logging.getLogger(__name__)

Part = Literal["both", "opacities", "scales"]
BYTE, IMPOSSIBLE = 255, 30.0  #: logits beyond 30 round to an opacity of 1 long before
ENOUGH = 16  #: splats; fewer may lie within 0..1 by chance


def suspected(splats: Splats) -> Part | None:
    """Which of the raw values look activated already, judged by their distribution.

    Logits of a real splat reach beyond 0..1 on both sides; these never do, and are not all the
    same. Logarithms of sizes are negative for anything smaller than a unit; sizes never are, and
    read as logarithms they would all be a unit or a little more, or as large as the object.
    """
    sizes = splats.log_scales
    opacities = splats.logit_opacities[~np.isnan(splats.logit_opacities)]
    if len(opacities) < ENOUGH:
        return None
    faded = _full_opacity(opacities) is not None
    if not bool((sizes >= 0).all()):
        return "opacities" if faded else None
    extent = float(np.linalg.norm(np.ptp(np.nan_to_num(splats.means), axis=0)))
    as_large_as_the_object = np.exp(min(float(np.median(sizes)), 60.0)) > 0.1 * extent
    crowded_above_one_unit = sizes.min() < 0.1 and np.percentile(sizes, 95) < 1
    return (
        "both" if faded else "scales" if as_large_as_the_object or crowded_above_one_unit else None
    )


def _full_opacity(opacities: np.ndarray) -> int | None:
    """What stands for opaque, 1 or 255, where the numbers cannot be logits."""
    least, most = float(opacities.min(initial=0)), float(opacities.max(initial=0))
    if least < 0 or np.ptp(opacities) <= 0.05:
        return None
    return 1 if most <= 1 else BYTE if IMPOSSIBLE < most <= BYTE else None


def warn_if_suspected(path: Path, splats: Splats) -> None:
    """Say so, with the flag that helps."""
    part = suspected(splats)
    if part is None:
        return
    known = splats.logit_opacities[~np.isnan(splats.logit_opacities)]
    within = f"all opacities lie within 0..{_full_opacity(known)}"
    words = {
        "both": f"{within} and no size is negative, so both look activated already",
        "opacities": f"{within}, so they look activated already",
        "scales": (
            "no size is negative, and read as logarithms all would be too large, so they look"
            " linear"
        ),
    }[part]
    flag = "--activated" if part == "both" else f"--activated {part}"
    log.warning(
        "%s: %s; if they are, `gs-ssd export` and `view` take %s (read as logits and logarithms for"
        " now)",
        path,
        words,
        flag,
    )


def deactivated(splats: Splats, part: Part) -> Splats:
    """Raw values from activated ones; sizes of zero become non-finite, which cleaning counts."""
    logits, sizes = splats.logit_opacities, splats.log_scales
    if part != "scales":
        full = _full_opacity(logits[~np.isnan(logits)]) or 1
        logits = logit(logits / full, margin=1 / 1024)
    if part != "opacities":
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.log(sizes)
    return dataclasses.replace(splats, logit_opacities=logits, log_scales=sizes)
