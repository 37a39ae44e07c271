"""The float64 reference: finite differences, and properties that need no other implementation."""

import pytest
import torch
from fields import GRID, generator, losses, some_field, some_rays, some_samples, some_tables
from hash_grid_encoding import HashGrid, composite, encode, mlp, reference, visible

SMALL = HashGrid(levels=3, log2_entries=5, base_resolution=2, scale=1.7)


def test_gradients_of_the_encoding():
    points = (
        0.05 + 0.9 * torch.rand(6, 3, generator=generator(0), dtype=torch.float64)
    ).requires_grad_()
    tables = some_tables(SMALL, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: encode(p, t, SMALL), (points, tables))
    assert torch.autograd.gradgradcheck(lambda p, t: encode(p, t, SMALL), (points, tables))


def test_gradients_of_compositing():
    samples = some_samples([3, 0, 5, 1], 2)
    samples = samples._replace(t=samples.t.double())
    sigmas = (5 * torch.rand(9, generator=generator(3), dtype=torch.float64)).requires_grad_()
    colors = torch.rand(9, 3, generator=generator(4), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, c: tuple(composite(samples, s, c, 0.1)), (sigmas, colors)
    )


@pytest.mark.parametrize("term", [0, 1], ids=["picture", "orientation"])
def test_gradients_of_a_whole_field(term):
    """Finite differences of every parameter of density, colour and tables, through normals and
    compositing."""
    field, samples = some_field(5).to(torch.float64), some_rays(6, count=4)
    loss = losses(field, samples, "reference")[term]
    # The orientation loss has its weights detached: their finite differences must not see them
    # move.
    held = None if term == 0 else composite_weights(field, samples)
    rng = generator(7)
    for name, parameter in zip(field._fields, field, strict=True):
        along = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)
        want = 0.0 if gradient is None else float((gradient * along).sum())
        values = []
        for sign in (1, -1):
            moved = field._replace(
                **{name: (parameter + sign * 1e-6 * along).detach().requires_grad_()}
            )
            values.append(float(losses_at(moved, samples, term, held)))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(want, rel=1e-5, abs=1e-6), name


def composite_weights(field, samples):
    features = encode(samples.positions.double(), field.tables, GRID)
    sigma = torch.nn.functional.softplus(
        mlp(features, field.density1, field.density2)[:, 0] + 1
    ).detach()
    samples = samples._replace(t=samples.t.double())
    return composite(samples, sigma, torch.zeros(len(sigma), 3, dtype=torch.float64), 0.05).weights


def losses_at(field, samples, term, held):
    if held is None:
        return losses(field, samples, "reference")[term].detach()
    positions = samples.positions.double().requires_grad_()
    raw = mlp(encode(positions, field.tables, GRID), field.density1, field.density2)[:, 0]
    (slope,) = torch.autograd.grad(torch.nn.functional.softplus(raw + 1).sum(), positions)
    normals = -slope / slope.norm(dim=1, keepdim=True)
    towards = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
    return (held * (normals @ towards).clamp_min(0).square()).sum()


def test_vertices_hold_their_entries():
    """At a vertex of a level without a hash the features are that vertex's entry, and nothing
    else."""
    grid = HashGrid(levels=1, log2_entries=10, base_resolution=4)
    tables = some_tables(grid, 8).double()
    vertex = torch.tensor([[0, 0, 0], [4, 4, 4], [1, 2, 3], [4, 0, 2]])
    want = tables[vertex[:, 0] + 5 * (vertex[:, 1] + 5 * vertex[:, 2])]
    torch.testing.assert_close(encode(vertex.double() / 4, tables, grid), want)


def test_the_host_s_resolutions():
    """The published growth factor takes 16 cells to 4096 in 16 levels (instant-NGP, equation 3)."""
    grid = HashGrid()
    assert grid.resolutions[0] == 16
    assert grid.resolutions[-1] == 4096
    assert grid.offsets[-1] - grid.offsets[-2] == 1 << 19
    assert not grid.is_hashed(0)
    assert grid.is_hashed(15)


def test_every_entry_of_a_hash_is_used():
    grid = HashGrid(levels=1, log2_entries=8, base_resolution=32)
    vertices = torch.cartesian_prod(*[torch.arange(33)] * 3)
    counts = torch.bincount(reference.vertex_index(vertices, grid, 0), minlength=256)
    assert counts.min() > 0.5 * counts.double().mean()


def test_visible_by_hand():
    samples = some_samples([4], 0)
    sigmas = torch.tensor([0.0, 100.0, 1e-3, 100.0])  # alpha at a step of .1: 0, 1, 1e-4, 1
    assert visible(samples, sigmas, 0.1, 0.01, 1e-3, backend="reference").tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert visible(samples, sigmas, 0.1, 0.0, 0.0, backend="reference").tolist() == [True] * 4
