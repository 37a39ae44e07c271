"""Floor 0: the device that a name in the config stands for."""

import re

import torch

from gs_ssd.errors import UserError


def choose(name: str) -> torch.device:
    """The device called `name`: cpu, cuda, cuda:1, ... or auto, a GPU where there is one.

    Raises:
        UserError: it is not there, or no device at all.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"device={name} is none that this runs on; use cpu, cuda, cuda:1, ... or auto")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} is not there ({str(error).splitlines()[0]}); use device=cpu or auto") from error
    return device
