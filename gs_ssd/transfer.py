"""Floor 0: numbers that were drawn on the host go to the device without making the host wait for it.

A plain `.to("cuda")` lets the host wait until the device has done all its work so far. A copy that is queued instead
is safe in this direction: the driver has taken the numbers out of the host's memory when the call returns.
"""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`tensor` on `device` (in `dtype`, if one is given); on a GPU it is there before whatever is queued later."""
    return tensor.to(device, dtype or tensor.dtype, non_blocking=device.type == "cuda")
