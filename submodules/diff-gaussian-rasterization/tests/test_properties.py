"""Properties over random sizes, scenes and cameras."""

import torch
from diff_gaussian_rasterization import render_views
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import random_scene, relative, render_with_gradients

SEEDS = st.integers(0, 2**31 - 1)
MODES = st.sampled_from(["tight", "tiles16"])


@st.composite
def scenes(draw):
    """From one pixel to a few tiles, from no splat to some, from inside the cloud and from afar."""
    return random_scene(
        draw(SEEDS),
        count=draw(st.integers(0, 60)),
        width=draw(st.integers(1, 70)),
        height=draw(st.integers(1, 70)),
        views=draw(st.integers(1, 3)),
        sh_degree=draw(st.sampled_from([None, 0, 1, 2, 3])),
        scales=draw(st.sampled_from([(0.005, 0.02), (0.02, 0.3), (0.3, 1.0)])),
        opacities=draw(st.sampled_from([(0.0, 0.05), (0.05, 0.95), (0.9, 1.0)])),
        distance=draw(st.sampled_from([0.3, 1.0, 3.0, 30.0])),
    )


def finite(tensors) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


@settings(max_examples=60, deadline=None)
@given(scenes(), MODES)
def test_ranges_and_finiteness(scene, mode):
    out, grads = render_with_gradients(scene, "cpu", torch.float32, mode=mode)
    assert finite(out[:3])
    assert finite(grads.values())
    assert out.alpha.min() >= 0
    assert out.alpha.max() <= 1
    assert out.depth.min() >= 0
    assert out.radii.min() >= 0 if out.radii.numel() else True
    hidden = out.radii == 0
    assert (grads["screen_means"][hidden] == 0).all()
    assert (grads["opacities"][hidden.all(dim=0)] == 0).all()


@settings(max_examples=25, deadline=None)
@given(scenes(), MODES)
def test_backends_agree(scene, mode):
    """But for pixels where float32 decides a threshold or an order otherwise."""
    have = render_views(
        **scene.to(torch.float32).tensors(),
        width=scene.width,
        height=scene.height,
        sh_degree=scene.sh_degree,
        mode=mode,
    )
    want = render_views(
        **scene.tensors(), width=scene.width, height=scene.height, sh_degree=scene.sh_degree,
        mode=mode,
        backend="reference",
    )  # fmt: skip
    error = (have.alpha - want.alpha).abs()
    assert error.max() < 0.02
    assert (error > 1e-4).double().mean() <= 0.01 + 2 / error.numel()


@settings(max_examples=20, deadline=None)
@given(scenes(), MODES)
def test_background_shows_through_the_transmittance(scene, mode):
    arguments = scene.to(torch.float32).tensors() | {
        "width": scene.width, "height": scene.height, "sh_degree": scene.sh_degree, "mode": mode,
    }  # fmt: skip
    over_scene = render_views(**arguments)
    over_black = render_views(
        **(arguments | {"background": torch.zeros_like(arguments["background"])})
    )
    mixed = over_black.rgb + (1 - over_black.alpha) * arguments["background"][:, :, None, None]
    assert (over_scene.rgb - mixed).abs().max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(scenes(), MODES, SEEDS)
def test_order_of_the_splats_does_not_matter(scene, mode, seed):
    """Depth sorts them: a permutation permutes the gradients (ties have probability zero)."""
    shuffle = torch.randperm(scene.means.shape[0], generator=torch.Generator().manual_seed(seed))
    splat_names = {"means", "quats_wxyz", "scales", "opacities", "colors", "sh"}
    permuted = {
        name: value[shuffle] for name, value in scene.tensors().items() if name in splat_names
    }
    out, grads = render_with_gradients(scene, "cpu", torch.float32, mode=mode)
    other, other_grads = render_with_gradients(
        type(scene)(**(vars(scene) | permuted)), "cpu", torch.float32, mode=mode
    )
    z = scene.means.float() @ scene.w2c[:, 2, :3].T.float()
    if all(len(set(column.tolist())) == len(column) for column in z.T):
        assert torch.equal(out.rgb, other.rgb)
        for name in permuted:
            assert torch.equal(grads[name][shuffle], other_grads[name]), name


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(2, 60), st.integers(2, 60))
def test_a_larger_canvas_holds_the_smaller_picture(seed, width, height):
    """Doubling the size and tan(fov) puts the old image, unchanged, into the middle: tiles leave no
    seam."""
    # The cloud is small, for the clamp of the Jacobian goes by the field of view.
    scene = random_scene(
        seed, count=40, width=2 * width, height=2 * height, scales=(0.02, 0.2), spread=0.2
    )
    arguments = {name: value for name, value in scene.tensors().items() if name != "tan_half_fov"}
    small = render_views(
        **arguments,
        width=2 * width,
        height=2 * height,
        tan_half_fov=scene.tan_half_fov,
        backend="reference",
    )
    narrow = {name: value.float() for name, value in arguments.items()}
    large = render_views(
        **narrow, width=4 * width, height=4 * height, tan_half_fov=2 * scene.tan_half_fov.float()
    )
    middle = large.alpha[..., height : 3 * height, width : 3 * width]
    error = (middle - small.alpha).abs()
    assert (error > 1e-4).double().mean() <= 0.01 + 2 / error.numel()


@settings(max_examples=15, deadline=None)
@given(scenes(), MODES)
def test_turning_the_world_turns_nothing(scene, mode):
    """A rotation of splats and cameras together leaves the pictures alone (plain colours)."""
    if scene.sh is not None:
        return
    angle = torch.tensor(0.7, dtype=torch.float64)
    c, s, o = torch.cos(angle), torch.sin(angle), torch.zeros(())
    turn = torch.stack(
        [torch.stack([c, -s, o]), torch.stack([s, c, o]), torch.tensor([0, 0, 1.0])]
    ).double()
    w, x, y, z = scene.quats_wxyz.unbind(-1)
    ch, sh = torch.cos(angle / 2), torch.sin(angle / 2)
    turned_quats = torch.stack(
        [ch * w - sh * z, ch * x - sh * y, ch * y + sh * x, ch * z + sh * w], dim=-1
    )
    w2c = scene.w2c.clone()
    w2c[:, :3, :3] = w2c[:, :3, :3] @ turn.T
    turned = type(scene)(
        **(vars(scene) | {"means": scene.means @ turn.T, "quats_wxyz": turned_quats, "w2c": w2c})
    )
    size = {"width": scene.width, "height": scene.height, "mode": mode, "backend": "reference"}
    a, b = (render_views(**one.tensors(), **size) for one in (scene, turned))
    assert relative(a.alpha, b.alpha) < 1e-3 or a.alpha.abs().max() < 1e-6
