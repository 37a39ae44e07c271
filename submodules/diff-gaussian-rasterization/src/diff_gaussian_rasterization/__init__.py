"""Differentiable rasterizer of 3D Gaussians: CPU and CUDA, exact, with the API of its namesake and
`render_views`."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "diff_gaussian_rasterization needs PyTorch at run time: pip install torch"
    ) from error

from .dropin import GaussianRasterizationSettings, GaussianRasterizer, rasterize_gaussians
from .native import available_backends
from .views import RenderedViews, render_views

__all__ = [
    "GaussianRasterizationSettings",
    "GaussianRasterizer",
    "RenderedViews",
    "available_backends",
    "rasterize_gaussians",
    "render_views",
]
