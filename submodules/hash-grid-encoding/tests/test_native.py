"""The native backend against the float64 reference: values, gradients, second gradients."""

import pytest
import torch
from fields import (
    GRID,
    generator,
    losses,
    relative,
    some_field,
    some_points,
    some_rays,
    some_samples,
    some_tables,
    some_weights,
)
from hash_grid_encoding import Box, HashGrid, composite, encode, march, mlp, mlps, visible

SIZES = [0, 1, 5, 16, 17, 37, 4099]
SHAPES = [(32, 64, 1), (32, 64, 3), (24, 64, 16), (1, 8, 2), (7, 16, 5), (64, 128, 16)]


def both(run, *tensors):
    """Results of run(backend, *leaves) in float32 natively and in float64 by the reference."""
    for backend, dtype in (("native", torch.float32), ("reference", torch.float64)):
        yield run(backend, *(tensor.to(dtype).requires_grad_() for tensor in tensors))


def check(run, *tensors, within=3e-6):
    for number, (have, want) in enumerate(zip(*both(run, *tensors), strict=True)):
        assert have.shape == want.shape
        assert relative(have, want) < within, number


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("on", [0, 3, 8])
def test_encoding(count, on):
    grads = torch.randn(count, GRID.num_features, generator=generator(1))

    def run(backend, points, tables, grads):
        features = encode(points, tables, GRID, on, backend=backend)
        first = torch.autograd.grad(
            (features * grads).sum() + 0 * (points.sum() + tables.sum()), (points, tables)
        )
        return features, *first

    check(run, some_points(count, 2), some_tables(GRID, 3), grads)


@pytest.mark.parametrize("levels", [1, 3, 8, 12, 16])
def test_gradients_by_point(levels):
    """Gradients that come in rows of points are turned within, some levels at a time."""
    grid = HashGrid(levels=levels, log2_entries=10, base_resolution=3, scale=1.3)
    points, tables = some_points(75, 1), some_tables(grid, 2)
    grads = torch.randn(75, grid.num_features, generator=generator(3))
    for on in {0, 1, levels // 2, levels}:

        def run(backend, points, tables, grads, on=on):
            unused = 0 * (points.sum() + tables.sum())
            features = encode(points, tables, grid, on, backend=backend) + unused
            return torch.autograd.grad(features, (points, tables), grads)

        check(run, points, tables, grads)


def test_duplicates_and_clamped_points():
    """Many points in the same cells, on their faces and outside of the cube, in a row and apart."""
    rng = generator(1)
    few = some_points(9, 2)
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [-3, 0.5, 2], [1, 0, 7], [0.25, 0.5, 0.75]])
    points = torch.cat([few.repeat_interleave(40, 0), corners.repeat(25, 1), few.repeat(11, 1)])
    grads = torch.randn(len(points), GRID.num_features, generator=rng)

    def run(backend, points, tables, grads):
        features = encode(points, tables, GRID, backend=backend)
        first = torch.autograd.grad((features * grads).sum(), (points, tables), create_graph=True)
        slope = torch.autograd.grad(first[0].sum(), tables)
        return features, *first, *slope

    check(run, points, some_tables(GRID, 3), grads)


def test_every_neighbour_in_x():
    """A hash leaves the neighbours of a row close to each other, or in two lines: all ways, at each
    place along x, and in the smallest of tables."""
    for log2_entries in (3, 4, 11):
        grid = HashGrid(levels=1, log2_entries=log2_entries, base_resolution=64)
        assert grid.is_hashed(0)
        x = (torch.arange(64) + 0.375) / 64
        y, z = some_points(64, 4)[:, :2].T
        points, grads = torch.stack([x, y, z], 1), torch.randn(64, 2, generator=generator(5))

        def run(backend, points, tables, grads, grid=grid):
            features = encode(points, tables, grid, backend=backend)
            return features, *torch.autograd.grad(features, (points, tables), grads)

        check(run, points, some_tables(grid, 6), grads)


def test_a_spoilt_gradient_reaches_its_own_entries_only():
    """NaN and infinity do not spread to other entries of the same line."""
    grid = HashGrid(levels=1, log2_entries=11, base_resolution=64)
    points = torch.rand(40, 3, generator=generator(7))  # on no face of a cell
    for value in (float("nan"), float("inf")):
        grads = torch.ones(40, 2)
        grads[17] = value
        tables = some_tables(grid, 8).requires_grad_()
        (have,) = torch.autograd.grad(encode(points, tables, grid), tables, grads)
        own = torch.zeros(40, 2)
        own[17] = 1
        (touched,) = torch.autograd.grad(encode(points, tables, grid), tables, own)
        assert torch.equal(have.isfinite(), touched == 0)
        assert 1 <= (~have.isfinite()).any(1).sum() <= 8


@pytest.mark.parametrize("count", SIZES[1:])
def test_second_gradients_of_the_encoding(count):
    """Of what both first gradients are, by all that they depend on."""
    rng = generator(4)
    grads, v = (
        torch.randn(count, GRID.num_features, generator=rng),
        torch.randn(count, 3, generator=rng),
    )
    u = torch.randn(GRID.num_entries, 2, generator=rng)

    def run(backend, points, tables, grads, v, u):
        features = encode(points, tables, GRID, 7, backend=backend)
        first = torch.autograd.grad((features * grads).sum(), (points, tables), create_graph=True)
        pulled = torch.autograd.grad(
            (first[0] * v).sum(), (points, tables, grads), retain_graph=True
        )
        scattered = torch.autograd.grad((first[1] * u).sum(), (points, grads))
        return *pulled, *scattered

    check(run, some_points(count, 5), some_tables(GRID, 6), grads, v, u)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("count", SIZES)
def test_perceptron(count, shape):
    inputs, _, outputs = shape
    rng = generator(7)
    x, g = torch.randn(count, inputs, generator=rng), torch.randn(count, outputs, generator=rng)
    v = torch.randn(count, inputs, generator=rng)

    def run(backend, x, w1, w2, g, v):
        out = mlp(x, w1, w2, backend=backend)
        first = torch.autograd.grad((out * g).sum(), (x, w1, w2), create_graph=True)
        second = torch.autograd.grad((first[0] * v).sum(), (w1, w2, g))
        return out, *first, *second

    check(run, x, *some_weights(*shape, 8), g, v)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("silent", [None, 0, 2])
def test_perceptrons_of_the_same_inputs(count, silent):
    """One may have no gradient, as colours have none where slopes are taken."""
    rng, shapes = generator(30), ((24, 64, 1), (24, 8, 3), (24, 40, 2))
    weights = [w for seed, shape in enumerate(shapes) for w in some_weights(*shape, seed)]
    x, v = torch.randn(count, 24, generator=rng), torch.randn(count, 24, generator=rng)
    grads = [torch.randn(count, shape[2], generator=rng) for shape in shapes]
    heard = [head for head in range(3) if head != silent]

    def run(backend, x, v, *others):
        weights, grads = others[:6], others[6:]
        outs = mlps(x, list(zip(weights[::2], weights[1::2], strict=True)), backend=backend)
        loud = [w for head in heard for w in weights[2 * head : 2 * head + 2]]
        total = sum((outs[head] * grads[head]).sum() for head in heard)
        first = torch.autograd.grad(total, (x, *loud), create_graph=True)
        second = torch.autograd.grad((first[0] * v).sum(), (*loud, *(grads[h] for h in heard)))
        return *outs, *first, *second

    check(run, x, v, *weights, *grads)


def test_heads_are_worked_out_as_if_each_were_alone():
    weights = [w for seed in range(2) for w in some_weights(24, 64, 3, seed)]
    x = torch.randn(5000, 24, generator=generator(31))
    together = mlps(x, [(weights[0], weights[1]), (weights[2], weights[3])])
    assert torch.equal(together[0], mlp(x, *weights[:2]))
    assert torch.equal(together[1], mlp(x, *weights[2:]))


def test_whole_field_and_orientation_loss():
    samples = some_rays(9)
    assert len(samples.t) > 300
    field = some_field(10)
    for term in (0, 1):
        found = []
        for backend, dtype in (("native", torch.float32), ("reference", torch.float64)):
            parameters = field.to(dtype)
            loss = losses(parameters, samples, backend)[term]
            found.append([loss, *torch.autograd.grad(loss, parameters, allow_unused=True)])
        for have, want in zip(*found, strict=True):
            assert (have is None) == (want is None)
            assert have is None or relative(have, want) < 2e-5


def test_perceptron_refuses_what_it_cannot():
    x, (w1, w2) = torch.randn(4, 8), some_weights(8, 8, 1, 0)
    w1.requires_grad_()
    (slope,) = torch.autograd.grad(mlp(x, w1, w2).sum(), w1, create_graph=True)
    with pytest.raises(NotImplementedError, match="reference"):
        slope.sum().backward()


@pytest.mark.parametrize("counts", [[], [0, 0], [1], [3, 0, 17, 1, 0], [2000, 1, 5]], ids=str)
def test_compositing(counts):
    samples = some_samples(counts, 11)
    rng = generator(12)
    sigmas = 40 * torch.rand(len(samples.t), generator=rng) ** 4
    sigmas[::7] = 3000.0  # solid: nothing gets past
    colors = torch.rand(len(samples.t), 3, generator=rng)
    shapes = (len(sigmas), len(counts), len(counts), (len(counts), 3))
    w, o, z, c = (torch.randn(shape, generator=rng) for shape in shapes)

    def run(backend, sigmas, colors, t):
        out = composite(samples._replace(t=t), sigmas, colors, 0.03, backend=backend)
        total = (
            (out.weights * w).sum()
            + (out.opacity * o).sum()
            + (out.depth * z).sum()
            + (out.rgb * c).sum()
        )
        return *out, *torch.autograd.grad(total, (sigmas, colors))

    check(run, sigmas, colors, samples.t, within=1e-5)


def test_visibility():
    samples = some_samples([50, 0, 7, 300], 13)
    sigmas = 3 * torch.rand(len(samples.t), generator=generator(14)) ** 2
    have = visible(samples, sigmas, 0.05, 0.02, 1e-2)
    want = visible(samples, sigmas.double(), 0.05, 0.02, 1e-2, backend="reference")
    assert torch.equal(have, want)
    assert 0.1 < have.double().mean() < 0.9


@pytest.mark.parametrize("cells", [1, 5, 32])
def test_marching_visits_every_occupied_step(cells):
    """Native marching finds what looking at every step finds, in float64."""
    rng = generator(15)
    origins = torch.cat(
        [3 * torch.randn(300, 3, generator=rng), 0.5 * torch.randn(100, 3, generator=rng)]
    )
    directions = torch.nn.functional.normalize(
        torch.randn(400, 3, generator=rng) - origins / 3, dim=1
    )
    directions[:6] = (
        torch.eye(3).repeat(2, 1) * torch.tensor([1.0, 1, 1, -1, -1, -1])[:, None]
    )  # along the axes
    origins[:6] = -2.9 * directions[:6] + 0.1
    jitter = torch.rand(400, generator=rng)
    occupied = torch.rand(cells, cells, cells, generator=rng) < (0.2 if cells > 1 else 2)
    box = Box((-1.0, -0.8, -1.2), (1.0, 1.1, 0.9))
    have = march(origins, directions, occupied, box, 0.013, jitter)
    doubles = (tensor.double() for tensor in (origins, directions))
    want = march(*doubles, occupied, box, float(torch.tensor(0.013)), jitter.double())
    # Middles that lie on a wall to rounding may fall on either side of it.
    assert abs(len(have.t) - len(want.t)) <= 2
    if len(have.t) == len(want.t):
        assert torch.equal(have.offsets, want.offsets)
        torch.testing.assert_close(have.positions.double(), want.positions, atol=2e-6, rtol=0)
        torch.testing.assert_close(have.t.double(), want.t, atol=2e-6, rtol=0)
    assert len(have.t) > 1000


@pytest.mark.parametrize("corner", [0, 3, 7])
def test_marching_finds_a_single_cell(corner):
    """No ray is cut too short at the extent of what is occupied, on any of its sides."""
    occupied = torch.zeros(8, 8, 8, dtype=torch.bool)
    occupied[corner, 7 - corner, 3] = True
    box = Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    rng = generator(16)
    inside = (torch.tensor([corner, 7 - corner, 3]) + torch.rand(600, 3, generator=rng)) / 4 - 1
    outward = torch.nn.functional.normalize(torch.randn(600, 3, generator=rng), dim=1)
    outward[:6] = torch.cat([torch.eye(3), -torch.eye(3)])
    inside[6:12] = torch.tensor([corner, 7 - corner, 3]) / 4 - 1  # through the cell's corner
    jitter = torch.rand(600, generator=rng)
    rays = inside - 2.5 * outward, outward
    have = march(*rays, occupied, box, 0.01, jitter)
    doubles = (tensor.double() for tensor in rays)
    want = march(*doubles, occupied, box, float(torch.tensor(0.01)), jitter.double())
    assert abs(len(have.t) - len(want.t)) <= 2
    assert (have.offsets.diff() - want.offsets.diff()).abs().max() <= 1
    assert len(have.t) > 5000
    assert len(march(*rays, torch.zeros_like(occupied), box, 0.01, jitter).t) == 0


def test_fine_levels_in_float32():
    """At 4096 cells a side a place in a cell is known to 2^-12 only; features stay within that of
    the reference's."""
    grid = HashGrid()
    points, tables = torch.rand(2000, 3, generator=generator(16)), some_tables(grid, 17)
    have, want = encode(points, tables, grid), encode(points.double(), tables.double(), grid)
    assert (have - want).abs().max() < 3e-3
    assert relative(have[:, :10], want[:, :10]) < 1e-5


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_nan_is_not_hidden(backend):
    """What a table or a weight has of it reaches the output: ReLU does not turn it into 0."""
    points, tables = some_points(20, 18), some_tables(GRID, 19)
    w1, w2 = some_weights(GRID.num_features, 16, 2, 20)
    for spoilt in (tables, w1, w2):
        spoilt[0] = float("nan")
    points[:] = 0.0
    for parts in (
        (tables, *some_weights(GRID.num_features, 16, 2, 20)),
        (some_tables(GRID, 19), w1, w2),
    ):
        out = mlp(encode(points, parts[0], GRID, backend=backend), *parts[1:], backend=backend)
        assert out.isnan().any(dim=0).all() or out[:, 0].isnan().all()
