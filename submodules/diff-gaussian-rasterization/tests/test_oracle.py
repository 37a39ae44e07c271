"""The CPU backend and the reference against gsplat's torch code in float64, which knows nothing of either."""

import pytest
import torch
from scenes import SPLAT_NAMES, image_gradients, random_scene, relative, render_with_gradients

pytest.importorskip("gsplat", reason="the oracle needs gsplat==1.5.3 (pip install gsplat==1.5.3)")

from gsplat_oracle import render_view

TOLERANCE = 1e-5
SCENES = {
    "colours": {"count": 300, "width": 64, "height": 56},
    "harmonics": {"count": 200, "width": 50, "height": 40, "views": 2, "sh_degree": 3},
    "small": {"count": 800, "width": 56, "height": 56, "scales": (0.005, 0.03)},
    "saturated": {"count": 400, "width": 40, "height": 40, "scales": (0.1, 0.3), "opacities": (0.6, 0.95)},
    "inside": {"count": 400, "spread": 1.5, "distance": 0.5, "scales": (0.02, 0.1)},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", SCENES)
def test_gsplat(kind, seed):
    scene = random_scene(1000 + seed, **SCENES[kind])
    views = scene.w2c.shape[0]
    leaves = {name: value.clone().requires_grad_() for name, value in scene.tensors().items() if name in SPLAT_NAMES}
    leaves["screen_means"] = torch.zeros(views, scene.means.shape[0], 2, dtype=torch.float64, requires_grad=True)
    oracle = [render_view(scene, leaves, view) for view in range(views)]
    doubtful = torch.stack([part.doubtful for part in oracle])[:, None]
    flip = torch.stack([part.flip for part in oracle])[:, None]
    want = [torch.stack([part.rgb for part in oracle])]
    want += [torch.stack([getattr(part, name) for part in oracle])[:, None] for name in ("alpha", "depth")]

    # The gradients of the pixels where float32 may decide otherwise are left out on both sides.
    image_grads = tuple(grad * ~doubtful for grad in image_gradients(scene, seed))
    torch.autograd.backward(want, image_grads)
    tied = torch.stack([part.tied for part in oracle])[:, None]
    assert (doubtful & ~tied).double().mean() <= 1e-3
    assert sum(part.ties for part in oracle) <= 2

    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        have, grads = render_with_gradients(scene, backend, dtype, image_grads)
        for name, image in zip(("rgb", "alpha", "depth"), want, strict=True):
            allowed = TOLERANCE * (float(image.detach().abs().max()) if name == "depth" else 1)
            error = (getattr(have, name).double() - image).abs()
            assert (error[~doubtful.expand_as(error)] <= allowed).all(), (backend, name)
            assert (error <= allowed + flip).all(), (backend, name)
        for name, leaf in leaves.items():
            assert relative(grads[name], leaf.grad) <= TOLERANCE, (backend, name)
