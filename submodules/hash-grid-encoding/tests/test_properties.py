"""What holds of every field, whatever its numbers."""

from itertools import pairwise

import pytest
import torch
from fields import GRID, generator, relative, some_points, some_rays, some_samples, some_tables
from hash_grid_encoding import Box, HashGrid, composite, encode, march
from hypothesis import given, settings
from hypothesis import strategies as st

BOX = Box((-1.0,) * 3, (1.0,) * 3)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.integers(0, 1000),
    st.floats(0.001, 2.0),
)
def test_weights_sum_to_opacity(counts, seed, step):
    samples = some_samples(counts, seed)
    sigmas = 20 * torch.rand(len(samples.t), generator=generator(seed)) ** 3
    colors = torch.ones(len(sigmas), 3)
    out = composite(samples, sigmas, colors, step)
    sums = torch.zeros(len(counts)).index_add(0, samples.ray, out.weights)
    torch.testing.assert_close(sums, out.opacity, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        out.rgb, out.opacity[:, None].expand(-1, 3), atol=1e-5, rtol=1e-5
    )  # all white
    whole = torch.zeros(len(counts)).index_add(0, samples.ray, sigmas * step)
    torch.testing.assert_close(out.opacity, -torch.expm1(-whole), atol=1e-5, rtol=1e-5)


def test_empty_grid_shows_nothing():
    samples = some_rays(1)._replace()
    empty = march(
        torch.tensor([[0.0, 0.0, -3.0]]), torch.tensor([[0.0, 0.0, 1.0]]),
        torch.zeros(4, 4, 4, dtype=torch.bool), BOX,
        0.01, torch.tensor([0.5]),
    )  # fmt: skip
    assert len(samples.t) > 0
    assert len(empty.t) == 0
    out = composite(empty, torch.zeros(0), torch.zeros(0, 3), 0.01)
    assert out.opacity.tolist() == [0.0]
    assert out.rgb.tolist() == [[0.0, 0.0, 0.0]]


def test_refining_the_step_converges():
    """A ball of density 6 (1 - |x|): opacity and depth of a ray through its middle tend to their
    integrals."""
    origin, direction = torch.tensor([[-2.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    everywhere, errors = torch.ones(1, 1, 1, dtype=torch.bool), []
    for steps in (2, 4, 8, 16):
        step = 2 / steps
        samples = march(origin, direction, everywhere, BOX, step, torch.tensor([0.5]))
        assert len(samples.t) == steps
        x = samples.positions[:, 0] * 2 - 1
        out = composite(samples, 6 * (1 - x.abs()), torch.zeros(steps, 3), step)
        fine = torch.arange(-1, 1, 1e-5, dtype=torch.float64) + 5e-6
        sigma = 6 * (1 - fine.abs())
        light = torch.exp(-(sigma.cumsum(0) - sigma / 2) * 1e-5)
        depth = float((light * sigma * (fine + 2)).sum() * 1e-5)
        assert float(out.opacity) == pytest.approx(
            1 - torch.exp(torch.tensor(-6.0)).item(), abs=1e-5
        )
        errors.append(abs(float(out.depth) - depth))
    assert all(coarse > 3 * fine for coarse, fine in pairwise(errors)), errors


def test_masked_levels_leave_coarse_ones_untouched():
    points, tables = some_points(500, 2), some_tables(GRID, 3).requires_grad_()
    every, some = encode(points, tables, GRID), encode(points, tables, GRID, 3)
    assert torch.equal(some[:, :6], every[:, :6])
    assert not some[:, 6:].any()
    some.sum().backward()
    assert tables.grad[: GRID.offsets[3]].any()
    assert not tables.grad[GRID.offsets[3] :].any()


def test_density_in_occupied_cells_is_never_skipped():
    """Whatever lies in cells marked occupied renders as if all were: density elsewhere is 0."""
    rng = generator(4)
    occupied = torch.rand(7, 7, 7, generator=rng) < 0.2
    origins = 3 * torch.nn.functional.normalize(torch.randn(200, 3, generator=rng), dim=1)
    directions = torch.nn.functional.normalize(
        0.5 * torch.randn(200, 3, generator=rng) - origins, dim=1
    )
    jitter = torch.rand(200, generator=rng)
    pictures = []
    for cells in (occupied, torch.ones_like(occupied)):
        samples = march(origins, directions, cells, BOX, 0.02, jitter)
        at = (samples.positions * 7).long().clamp_max(6)
        sigmas = torch.where(occupied[at[:, 0], at[:, 1], at[:, 2]], 4.0, 0.0)
        pictures.append(composite(samples, sigmas, samples.positions.clone(), 0.02))
    # Positions on a wall, to rounding, may be given to either cell: half a step of density, on
    # hardly any ray.
    differs = (pictures[0].opacity - pictures[1].opacity).abs() > 1e-6
    assert differs.sum() <= 1
    assert pictures[0].opacity.max() > 0.5


def test_tables_are_linear():
    """Features are linear in the tables, so finite differences of any size are exact: no reference
    needed."""
    points, a, b = some_points(300, 5), some_tables(GRID, 6), some_tables(GRID, 7)
    grads = torch.randn(300, GRID.num_features, generator=generator(8))
    a.requires_grad_()
    (slope,) = torch.autograd.grad((encode(points, a, GRID) * grads).sum(), a)
    change = (
        ((encode(points, a.detach() + b, GRID) - encode(points, a.detach(), GRID)) * grads)
        .double()
        .sum()
    )
    assert float((slope * b).double().sum()) == pytest.approx(float(change), rel=1e-4)


def test_slopes_within_a_cell():
    """Along one axis within a cell features are linear: the gradient by the points is the
    difference of the ends."""
    grid = HashGrid(levels=1, log2_entries=12, base_resolution=8)
    tables = some_tables(grid, 9)
    start = torch.tensor([[0.25, 0.3, 0.7]]) + torch.tensor([[1e-4, 0, 0]])
    end = start + torch.tensor([[0.12, 0, 0]])
    middle = ((start + end) / 2).requires_grad_()
    (slope,) = torch.autograd.grad(encode(middle, tables, grid)[:, 0].sum(), middle)
    change = (encode(end, tables, grid) - encode(start, tables, grid))[0, 0] / 0.12
    assert relative(slope[0, 0], change.detach().double()) < 1e-4
