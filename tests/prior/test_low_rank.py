"""A difference of low rank: starts at nothing, is trained, taken out and merged elsewhere."""

import copy

import pytest
import torch
from torch import nn

from gs_ssd.prior import low_rank


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8 * 16, 5)
    )


def test_what_is_extracted_and_merged_is_the_trained_model():
    base = small()
    twin, weights = copy.deepcopy(base), {n: x.detach().clone() for n, x in base.named_parameters()}
    x = torch.randn(4, 3, 4, 4)
    before = base(x).detach()
    trained = low_rank.attach(base, rank=2)
    assert torch.equal(base(x), before)
    adam = torch.optim.Adam(trained, 1e-2)
    for _ in range(5):
        adam.zero_grad()
        base(x).square().sum().backward()
        adam.step()
    after = base(x).detach()
    assert (after - before).abs().max() > 0.05
    low_rank.merge(twin, low_rank.extract(base, weights))
    torch.testing.assert_close(twin(x).detach(), after, atol=1e-5, rtol=1e-4)


def test_its_rank_bounds_its_size():
    base = small()
    weights = {n: x.detach().clone() for n, x in base.named_parameters()}
    low_rank.attach(base, rank=2)
    found = low_rank.extract(base, weights)
    assert found["0.weight.up"].shape == (8, 2)
    assert found["0.weight.down"].shape == (2, 27)
    assert set(found) == {
        "0.weight.up", "0.weight.down", "0.bias.change", "1.weight.change", "1.bias.change",
        "3.weight.up", "3.weight.down", "3.bias.change",
    }  # fmt: skip


def test_the_difference_of_another_model_does_not_fit():
    base = small()
    weights = {n: x.detach().clone() for n, x in base.named_parameters()}
    low_rank.attach(base, rank=2)
    found = low_rank.extract(base, weights)
    with pytest.raises((KeyError, RuntimeError)):
        low_rank.merge(nn.Sequential(nn.Linear(3, 3)), found)
