"""What a ControlNet is driven by: its files do not say, so a setting or its name does."""

import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from gs_ssd.errors import UserError
from gs_ssd.prior.condition import Condition

KINDS = ("depth", "openpose")
OTHERS = re.compile(
    r"canny|scribble|lineart|softedge|hed|mlsd|normal|seg|inpaint|tile|shuffle|ip2p|qr",
    re.IGNORECASE,
)
"""Words in the names of ControlNets that no asset here can drive."""


def kind_of(name: str, told: str | None) -> str:
    """depth or openpose: as the settings say, else as the model's name does, else depth.

    Args:
        name: folder or hub id.
        told: `prior.control`.

    Raises:
        UserError: the name says something else, or the opposite of the setting.
    """
    word = Path(name).name.lower()
    named = "openpose" if "pose" in word else "depth" if "depth" in word else None
    if told is not None:
        if named not in (None, told):
            raise UserError(
                f"prior.control={told}, but prior.controlnet={name} is called {named}; name another"
                " ControlNet, or leave prior.control out"
            )
        return told
    if named is None and (found := OTHERS.search(word)):
        raise UserError(
            f"prior.controlnet={name} looks like one for {found[0]}; ours are driven by depth or"
            " by openpose skeletons (set prior.control, if it is one of those)"
        )
    return named or "depth"


def check_width(controlnet: Any, unet: Any, name: str) -> None:
    """Refuse a ControlNet that was made for another kind of Stable Diffusion.

    Raises:
        UserError: its text embeddings are of another width than the UNet's.
    """
    mine, its = unet.config.cross_attention_dim, controlnet.config.cross_attention_dim
    if mine != its:
        families = {768: "1.x", 1024: "2.x", 2048: "XL"}
        made, here = (families.get(width, f"of text width {width}") for width in (its, mine))
        raise UserError(
            f"prior.controlnet={name} was made for Stable Diffusion {made}, and prior.model is"
            f" {here}; name one for this model"
        )


def hint_of(kind: str, condition: Condition, size: int) -> Float[Tensor, "b 3 h w"]:
    """The picture that drives a ControlNet, `size` pixels a side.

    Raises:
        UserError: the condition holds none.
    """
    picture = condition.depth if kind == "depth" else condition.image
    if picture is None:
        what = "depth" if kind == "depth" else "skeleton picture (asset=avatar has one)"
        raise UserError(
            f"prior.controlnet is set, but no {what} was passed to the noise prediction"
        )
    if picture.shape[-2:] != torch.Size((size, size)):
        picture = interpolate(picture, (size, size), mode="bilinear")
    return picture.expand(-1, 3, -1, -1)
