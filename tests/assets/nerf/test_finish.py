"""The end of a run: fog becomes a surface, the object stays where it was."""

import dataclasses
import logging

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.nerf import finish
from gs_ssd.assets.nerf.asset import NerfAsset
from gs_ssd.assets.nerf.config import FinishConfig, NerfConfig
from gs_ssd.assets.nerf.field import Field
from gs_ssd.assets.nerf.occupancy import Occupancy
from gs_ssd.assets.nerf.renderer import render_large, step_length
from gs_ssd.assets.nerf.to_splats import look_on
from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.statistics import edge_width

CPU = torch.device("cpu")


def cloud(density, **finer):
    """A ball whose fog thins out towards its rim."""
    coarse = {"levels": 6, "log2_entries": 11, "hidden": 16}
    config = NerfConfig(
        base_resolution=6, level_scale=1.4, steps=64, blob_density=density, blob_radius=0.6,
        **(coarse | finer),
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    field, occupancy = Field(config, CPU), Occupancy(16, CPU)
    field.initialize(rng)
    for _ in range(4):
        occupancy.update(field.density, step_length(field), config.least_alpha, rng)
    return field, occupancy


def alpha_of(field, occupancy):
    cameras = look_on(field, views=9, image_size=40)
    return render_large(field, occupancy, cameras, torch.zeros(9, 3))[1]


def test_fog_becomes_a_surface_and_the_object_stays():
    field, occupancy = cloud(4.0)
    before = alpha_of(field, occupancy)
    finish.harden(
        field, occupancy, FinishConfig(steps=40, views=12, image_size=32),
        torch.Generator().manual_seed(1),
    )  # fmt: skip
    after = alpha_of(field, occupancy)
    haze = [((a > 0.1) & (a < 0.9)).float().mean() for a in (before, after)]
    assert haze[1] < 0.6 * haze[0]
    wanted, found = before > 0.55, after > 0.5
    assert (wanted & found).sum() > 0.9 * (wanted | found).sum()


def test_most_rays_go_to_outlines_and_fog():
    alpha = torch.zeros(2, 1, 20, 20)
    alpha[0, 0, 5:15, 5:15] = 1.0
    alpha[1, 0, 2:4, 2:4] = 0.4  # fog that hard edges take away
    near = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    hard = (alpha > 0.5).float()
    near.view(-1)[finish.near_outlines(alpha, hard)] = True
    assert near[0, 0, 3:17, 3:17].sum() == near[0].sum() == 14**2 - 6**2
    assert near[1].sum() == near[1, 0, 1:5, 1:5].sum() == 16
    assert len(finish.near_outlines(torch.ones(1, 1, 9, 9), torch.ones(1, 1, 9, 9))) == 0


def test_finer_pictures_make_sharper_outlines_with_as_many_rays():
    widths = []
    for size in (16, 160):
        field, occupancy = cloud(4.0, levels=10, log2_entries=13, hidden=32)
        config = FinishConfig(steps=100, views=12, image_size=size, rays=4000)
        finish.harden(field, occupancy, config, torch.Generator().manual_seed(1))
        cameras = look_on(field, views=3, image_size=160)
        alpha = render_large(field, occupancy, cameras, torch.zeros(3, 3))[1]
        widths.append(edge_width(alpha[:, 0]))
    assert widths[1] < 0.85 * widths[0]


def test_gradients_that_were_there_before_do_not_matter():
    """Those of the last step of guidance are."""
    found = []
    for left_over in (None, 1e3):
        field, occupancy = cloud(4.0)
        if left_over is not None:
            for tensor in field.parameters.values():
                tensor.grad = torch.full_like(tensor, left_over)
        config = FinishConfig(steps=2, views=4, image_size=16)
        finish.harden(field, occupancy, config, torch.Generator().manual_seed(1))
        found.append(field.parameters["tables"].detach().clone())
    assert torch.equal(*found)


class OfAllPixels(TorchDispatchMode):
    """Counts the tensors that are made with one number, or some, for each of so many pixels."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels, self.shapes = pixels, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        taken = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if torch.is_tensor(x)}
        self.shapes += [
            tuple(x.shape)
            for x in tree_leaves(made)
            if torch.is_tensor(x)
            and x.numel()
            and x.numel() % self.pixels == 0
            and x.untyped_storage().data_ptr() not in taken
        ]
        return made


def test_only_the_pictures_that_are_aimed_at_are_held_for_all_views_at_once():
    """Everything else that was held of 24 pictures of 256 pixels, such as their rays, came to 108
    MiB."""
    field, occupancy = cloud(4.0)
    config = FinishConfig(steps=3, views=7, image_size=31, rays=100)
    with OfAllPixels(7 * 31 * 31) as held:
        finish.harden(field, occupancy, config, torch.Generator().manual_seed(1))
    assert held.shapes == [(7, 3, 31, 31), (7, 1, 31, 31)]


def test_fog_all_through_is_left_as_it_is(caplog):
    field, occupancy = cloud(0.0)
    before = {name: tensor.detach().clone() for name, tensor in field.parameters.items()}
    with caplog.at_level(logging.WARNING):
        finish.harden(field, occupancy, FinishConfig(steps=5, edge=(0.98, 0.99)), torch.Generator())
    assert all(torch.equal(before[name], field.parameters[name]) for name in before)
    assert "not finished" in caplog.text


def test_it_is_part_of_the_last_step_alone():
    few = FinishConfig(steps=2, views=4, image_size=16, edge=(0.01, 0.02))
    rng = torch.Generator().manual_seed(0)
    asset = NerfAsset(dataclasses.replace(cloud(4.0)[0].config, finish=few, cells=8), CPU)
    asset.initialize(rng)
    tables = [asset.field.parameters["tables"].detach().clone()]
    for index in range(2):
        asset.after_step(TrainingStep(index, 2, rng))
        tables.append(asset.field.parameters["tables"].detach().clone())
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[1], tables[2])
    assert asset.state_dict()["parameters"]["tables"].equal(tables[2])


class Boxes(Field):
    """Boxes of cells, low to high, each of one optical depth a step."""

    def __init__(self, *parts):
        super().__init__(NerfConfig(levels=1, log2_entries=4, cells=16, steps=64), CPU)
        self.depth = torch.zeros(16, 16, 16)
        for low, high, thick in parts:
            self.depth[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = thick

    def density(self, places, features=None):
        return self.depth[tuple((places * 16).long().T)] / step_length(self)


def scattered(*parts):
    """The field, and its cells, with a copy of which are occupied."""
    field, occupancy = Boxes(*parts), Occupancy(16, CPU)
    occupancy.load(field.depth, field.config.least_alpha)
    return field, occupancy, occupancy.occupied.clone()


BALL = ((2, 2, 2), (10, 10, 10), 3.0)


def test_faint_specks_are_swept_up():
    """Beside the object, not what touches it, at a corner too."""
    field, occupancy, all_there = scattered(
        BALL, ((13, 3, 3), (14, 5, 4), 0.05),
        ((10, 10, 10), (11, 11, 11), 0.05),
    )  # fmt: skip
    assert finish.sweep(field, occupancy) == 2
    assert not occupancy.occupied[13, 3:5, 3].any()
    assert occupancy.occupied.sum() == all_there.sum() - 2
    assert finish.sweep(field, occupancy) == 0


def test_a_small_solid_part_stays_and_so_does_a_field_of_nothing_but_mist():
    field, occupancy, all_there = scattered(BALL, ((13, 3, 3), (14, 4, 4), 3.0))
    assert finish.sweep(field, occupancy) == 0
    assert torch.equal(occupancy.occupied, all_there)
    field, occupancy, all_there = scattered(
        *(((x, y, 1), (x + 1, y + 1, 2), 0.02) for x in range(1, 16, 2) for y in range(1, 16, 2))
    )
    assert finish.sweep(field, occupancy) == 0
    assert torch.equal(occupancy.occupied, all_there)
    assert all_there.sum() == 64


def test_an_edge_the_wrong_way_round_is_refused():
    with pytest.raises(UserError, match=r"nerf\.finish\.edge is \[0\.6, 0\.5\]"):
        FinishConfig(edge=(0.6, 0.5))
