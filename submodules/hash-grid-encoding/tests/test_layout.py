"""Gradients that come in rows of points, as torch's own layers leave them, are turned natively."""

import pytest
import torch
from fields import GRID, some_points, some_tables
from hash_grid_encoding import encode, native


@pytest.mark.parametrize("features", [1, 3, 8, 15, 16, 17, 24, 32, 41])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 100, 4096 + 33])
def test_rows_become_columns_whatever_their_layout(features, count):
    whole = torch.randn(count, 2 * features)
    for rows in (whole[:, :features].contiguous(), whole[:, ::2], whole.t()[:features].t()):
        turned = native.feature_major(rows.t())
        assert turned.is_contiguous()
        assert torch.equal(turned, rows.t())


def test_the_layout_of_a_gradient_does_not_matter():
    points = some_points(5000, 0)
    tables = some_tables(GRID, 1).requires_grad_()
    grads = torch.randn(5000, GRID.num_features)
    found = []
    for given in (grads, grads.t().contiguous().t()):
        tables.grad = None
        encode(points, tables, GRID).backward(given)
        found.append(tables.grad)
    assert torch.equal(*found)
