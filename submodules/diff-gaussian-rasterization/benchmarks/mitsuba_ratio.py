"""Mitsuba 3's ray traced Gaussians beside ours, on the CPU: python benchmarks/mitsuba_ratio.py
[--scenes 10000@256 ...]

CPU milliseconds (process time, one thread, median) of forward + backward on the scenes of
benchmark.py, both sides in one run. Mitsuba's side is its `ellipsoids` shape with its
`volprim_rf_basic` integrator (llvm_ad_rgb, one sample per pixel, the ray through its centre): a
compiled, differentiable renderer of the same splats with another kernel (the peak along the ray
instead of the projected Gaussian; no low-pass filter; at most 64 splats a ray). Building its BVH
and compiling its kernels is not counted. The last column is the mean difference of the two images.

Needs `pip install mitsuba` and an LLVM of version 16 or newer (Debian: apt install libllvm19),
which Mitsuba finds itself or through DRJIT_LIBLLVM_PATH=/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from typing import Any

import torch
from benchmark import SCENES, image_grads, make_scene, step, timed
from diff_gaussian_rasterization import render_views
from torch import Tensor

SH_C0 = 0.28209479177387814


def load_mitsuba() -> tuple[Any, Any]:
    """(mitsuba, drjit) on one thread; SystemExit that says what is missing."""
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise SystemExit(f"Mitsuba is not installed ({error}): pip install mitsuba") from error
    try:
        mitsuba.set_variant("llvm_ad_rgb")
    except ImportError as error:
        raise SystemExit(
            f"Mitsuba found no LLVM ({error}): install version 16 or newer (Debian: apt install"
            " libllvm19) and, where it still is not found, name the library in DRJIT_LIBLLVM_PATH"
        ) from error
    drjit.set_thread_count(1)
    return mitsuba, drjit


def mitsuba_scene(mi: Any, scene: dict[str, Tensor], size: int) -> Any:
    """The first view; colours become harmonics of degree 0."""

    def tensor(value: Tensor) -> Any:
        return mi.TensorXf(value.detach().contiguous().numpy())

    x_fov = 2 * math.degrees(math.atan(float(scene["tan_half_fov"][0, 0])))
    position = (-scene["w2c"][0, :3, :3].T @ scene["w2c"][0, :3, 3]).tolist()
    forward, up = scene["w2c"][0, 2, :3].tolist(), (-scene["w2c"][0, 1, :3]).tolist()
    target = [p + f for p, f in zip(position, forward, strict=True)]
    shape = {
        "type": "ellipsoids",
        "centers": tensor(scene["means"]),
        "scales": tensor(scene["scales"]),
        "quaternions": tensor(scene["quats_wxyz"][:, [1, 2, 3, 0]]),
        "opacities": tensor(scene["opacities"][:, None]),
        "sh_coeffs": tensor((scene["colors"] - 0.5) / SH_C0),
    }
    film = {
        "type": "hdrfilm", "width": size, "height": size, "pixel_format": "rgb",
        "component_format": "float32", "rfilter": {"type": "box"},
    }  # fmt: skip
    look = mi.ScalarTransform4f().look_at(origin=position, target=target, up=up)
    sensor = {"type": "perspective", "fov": x_fov, "fov_axis": "x", "to_world": look, "film": film,
              "sampler": {"type": "stratified", "sample_count": 1, "jitter": False}}  # fmt: skip
    integrator = {"type": "volprim_rf_basic", "srgb_primitives": False}
    return mi.load_dict(
        {"type": "scene", "integrator": integrator, "sensor": sensor, "splats": shape}
    )


def compare(mi: Any, dr: Any, name: str, seconds: float) -> str:
    """A line of the table."""
    count, size = (int(part) for part in name.split("@"))
    scene, grads = make_scene(count, None), image_grads(1, size)
    traced = mitsuba_scene(mi, scene, size)
    parameters = mi.traverse(traced)
    wanted = [f"splats.{name}" for name in ("data", "opacities", "sh_coeffs")]
    image_grad = mi.TensorXf(grads[0][0].permute(1, 2, 0).contiguous().numpy())

    def trace() -> None:
        for key in wanted:
            dr.enable_grad(parameters[key])
        image = mi.render(traced, parameters, spp=1)
        dr.backward(dr.sum(image * image_grad, axis=None))
        gradients = [dr.grad(parameters[key]) for key in wanted]
        dr.eval(gradients)
        dr.sync_thread()
        for key in wanted:
            dr.disable_grad(parameters[key])

    theirs = timed(trace, time.process_time, seconds)
    ours = timed(lambda: step(scene, size, None, "tight", grads), time.process_time, seconds)
    with torch.no_grad():
        want = render_views(**scene, width=size, height=size).rgb[0].permute(1, 2, 0)
    have = torch.from_numpy(mi.render(traced, spp=1).numpy())
    difference = float((have - want).abs().mean())
    return (
        f"| {name} | {1e3 * ours:.2f} | {1e3 * theirs:.0f} | {theirs / ours:.0f} |"
        f" {difference:.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), metavar="COUNT@SIZE")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring for each figure")
    arguments = parser.parse_args()
    mi, dr = load_mitsuba()
    torch.set_num_threads(1)
    print(f"Mitsuba {mi.__version__}, load {os.getloadavg()[0]:.1f}")
    print("| scene | ours, ms | Mitsuba 3, ms | ratio | images differ by |\n|---|---|---|---|---|")
    for name in arguments.scenes:
        print(compare(mi, dr, name, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
