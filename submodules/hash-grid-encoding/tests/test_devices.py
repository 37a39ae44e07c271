"""What runs on other devices than the CPU: the plain torch operations, without a device to run them
on: on tensors without values, which refuse to meet those of another device, and compiled."""

import pytest
import torch
from fields import GRID, relative, some_points, some_rays, some_tables
from hash_grid_encoding import composite, encode, mlp, visible


def weights(device="cpu"):
    rng = torch.Generator().manual_seed(3)
    width = GRID.num_features
    made = [0.3 * torch.randn(shape, generator=rng) for shape in ((16, width), (3, 16))]
    return [w.to(device).requires_grad_() for w in made]


def outputs(points, tables, w1, w2):
    """What a step asks of the field: features, values, the slope's own gradients."""
    features = encode(points, tables, GRID, 4, backend="reference")
    values = mlp(features, w1, w2, backend="reference")
    return features, values


def test_all_of_a_field_stays_on_its_device():
    points = some_points(50, 0).to(torch.float32).to("meta").requires_grad_()
    tables = some_tables(GRID, 0).to(torch.float32).to("meta").requires_grad_()
    w1, w2 = weights("meta")
    features, values = outputs(points, tables, w1, w2)
    assert (features.shape, values.shape) == ((50, GRID.num_features), (50, 3))
    (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    loss = torch.nn.functional.normalize(slope, dim=1).square().sum() + values.sum()
    gradients = torch.autograd.grad(loss, (points, tables, w1, w2))
    assert all(g.is_meta for g in (features, values, *gradients))
    assert [g.shape for g in gradients] == [t.shape for t in (points, tables, w1, w2)]


def test_tensors_of_two_devices_are_refused():
    points, tables = some_points(5, 0).to("meta"), some_tables(GRID, 0)
    with pytest.raises(TypeError, match="points, tables must have one device"):
        encode(points, tables, GRID)


@pytest.mark.parametrize(
    "compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_compiled_in_one_graph_it_is_the_same(compiler):
    """torch's compiler differentiates once; the orientation loss asks for more, and runs as it
    is."""
    torch._dynamo.reset()
    points = some_points(200, 1).to(torch.float32)
    leaves = [some_tables(GRID, 1).to(torch.float32).requires_grad_(), *weights()]
    compiled = torch.compile(outputs, backend=compiler, fullgraph=True)
    found = []
    for run in (outputs, compiled):
        features, values = run(points, *leaves)
        gradients = torch.autograd.grad(features.square().sum() + values.square().sum(), leaves)
        found.append((features, values, *gradients))
    for have, want in zip(found[1], found[0], strict=True):
        assert relative(have, want) < 1e-6


def test_compositing_compiled_is_the_same():
    torch._dynamo.reset()
    samples = some_rays(2, count=40)
    rng = torch.Generator().manual_seed(4)
    count = len(samples.t)
    sigmas = (3 * torch.rand(count, generator=rng)).requires_grad_()
    colors = torch.rand(count, 3, generator=rng).requires_grad_()

    def picture(sigmas, colors):
        keep = visible(samples, sigmas.detach(), 0.1, 0.01, 1e-4, backend="reference")
        out = composite(samples, sigmas, colors, 0.1, backend="reference")
        return keep, out.rgb, out.opacity

    found = []
    for run in (picture, torch.compile(picture, backend="aot_eager")):
        keep, rgb, opacity = run(sigmas, colors)
        gradients = torch.autograd.grad(rgb.square().sum() + opacity.sum(), (sigmas, colors))
        found.append((keep.float(), rgb, opacity, *gradients))
    for have, want in zip(found[1], found[0], strict=True):
        assert relative(have, want) < 1e-6
