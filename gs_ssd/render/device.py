"""The device of a run: one that the rasterizer can use too, known before a model is loaded."""

import logging

import torch

from gs_ssd import devices
from gs_ssd.errors import UserError
from gs_ssd.native import native

log = logging.getLogger(__name__)

GET_CUDA = (
    "give the rasterizer its CUDA backend with `python"
    " submodules/diff-gaussian-rasterization/csrc/cuda/compile.py --install .cache/nvcc` in the"
    " checkout (it fetches the compiler if there is none)"
)


def choose(name: str) -> torch.device:
    """The device of a run, refused where the rasterizer cannot use it: call this before a model is
    loaded.

    Raises:
        UserError: see `devices.choose`; or a GPU, and a rasterizer that was built without its CUDA
            backend.
    """
    device = devices.choose(name)
    if (
        device.type == "cuda"
        and "cuda" not in native("diff_gaussian_rasterization").available_backends()
    ):
        found = "device=auto found a GPU" if name == "auto" else f"device={name} is a GPU"
        raise UserError(
            f"{found}, but the rasterizer was built without its CUDA backend: {GET_CUDA}, or use"
            " device=cpu"
        )
    if name == "auto":
        why = (
            f"{torch.cuda.get_device_name()} is there"
            if device.type == "cuda"
            else "PyTorch sees no GPU"
        )
        log.info("device=auto: %s (%s)", device, why)
    return device
