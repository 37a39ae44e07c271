"""Devices: which one a name in the config means, and how numbers get there from the host."""

import re

import torch
from torch import Tensor

from gs_ssd.errors import UserError


def choose(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:1, ... or auto, a GPU where there is one.

    Raises:
        UserError: it is not there, or no device at all.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(
            f"device={name} is none that this runs on; use cpu, cuda, cuda:1, ... or auto"
        )
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device={name} is not there ({str(error).splitlines()[0]}); use device=cpu or auto"
        ) from error
    return device


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`tensor` on `device` (in `dtype`, if one is given), without making the host wait for a GPU.

    A plain `.to("cuda")` lets the host wait until the GPU has done all its work so far. A copy that
    is queued instead is safe in this direction: the driver has taken the numbers out of the host's
    memory when the call returns, and they are there before whatever is queued later.
    """
    return tensor.to(device, dtype or tensor.dtype, non_blocking=device.type == "cuda")
