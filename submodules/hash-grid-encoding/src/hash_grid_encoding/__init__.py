"""What a radiance field computes, fast on any CPU and with exact gradients: a multi-resolution hash
grid, small perceptrons, samples in the occupied cells of rays, compositing. See README.md.
"""

from .field import encode, mlp, mlps
from .grid import HashGrid
from .native import backend_name
from .rays import Box, Composite, Samples, composite, march, visible

__all__ = [
    "Box",
    "Composite",
    "HashGrid",
    "Samples",
    "backend_name",
    "composite",
    "encode",
    "march",
    "mlp",
    "mlps",
    "visible",
]
