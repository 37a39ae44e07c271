"""A radiance field through the unchanged trainer: it trains, is saved, resumed to the same bits,
and exported."""

import math
from pathlib import Path

import pytest
import torch

from gs_ssd import config as configs
from gs_ssd.assets import choice
from gs_ssd.assets.base import TrainingStep
from gs_ssd.assets.nerf.asset import NerfAsset
from gs_ssd.errors import UserError
from gs_ssd.export import formats
from gs_ssd.trainer import Trainer

SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
SMALL = [
    "asset=nerf", "initialize.shape=sphere", "num_steps=4",
    "nerf.levels=4", "nerf.log2_entries=8", "nerf.base_resolution=4",
    "nerf.hidden=16", "nerf.steps=48", "nerf.cells=12", "nerf.levels_on=[[0, 2], [1, 4]]",
    "nerf.resolution=[[0, 16], [0.6, 16], [0.6, 24]]",
    "nerf.orientation=[[0, 0.1]]", "nerf.occupancy_every=2", "nerf.blob_density=40",
    "regularize.sparsity=[[0, 0.1]]", "nerf.conversion.views=6", "nerf.conversion.image_size=32",
    "nerf.conversion.steps=5", "nerf.last_rate=0.5", "output.turntable_frames=0",
    "output.preview_every=2",
]  # fmt: skip


def small(*overrides: str) -> configs.ExperimentConfig:
    return configs.load(SMOKE, [*SMALL, *overrides])


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return trainer.asset.field.parameters


def test_it_trains_and_resumes_to_the_same_bits(tmp_path):
    config = small()
    whole = Trainer(config, tmp_path / "whole")
    before = {name: tensor.detach().clone() for name, tensor in parameters(whole).items()}
    written = whole.fit()
    assert {path.name for path in written} >= {"point_cloud.ply", "index.html", "views.png"}
    Trainer(config, tmp_path / "parts").fit(until=3)
    resumed = Trainer(config, tmp_path / "parts", resume=True)
    assert resumed.completed == 3
    resumed.fit()
    for name, tensor in parameters(whole).items():
        assert not torch.equal(tensor, before[name]), name
        assert torch.equal(tensor, parameters(resumed)[name]), name
    assert torch.equal(whole.asset.occupancy.values, resumed.asset.occupancy.values)
    assert (tmp_path / "whole" / "point_cloud.ply").read_bytes() == (
        tmp_path / "parts" / "point_cloud.ply"
    ).read_bytes()
    splats = formats.read_splats(tmp_path / "whole" / "point_cloud.ply")
    assert len(splats) > 100


def test_levels_and_resolution_follow_their_laws():
    asset = choice.create(small(), torch.device("cpu"))
    assert isinstance(asset, NerfAsset)
    asset.initialize(torch.Generator().manual_seed(0))
    seen = []
    for index in range(4):
        asset.begin_step(TrainingStep(index, 4, torch.Generator().manual_seed(index)))
        seen.append((asset.field.levels_on, asset.resolution))
    assert seen == [(2, 16), (2, 16), (3, 16), (3, 24)]


def test_rates_fall_to_their_share_and_a_resumed_run_has_the_same():
    rates = ("nerf.table_rate=0.04", "nerf.network_rate=0.004", "nerf.last_rate=0.0625")
    asset = choice.create(small(*rates), torch.device("cpu"))
    asset.initialize(torch.Generator().manual_seed(0))
    loaded = choice.create(small(*rates), torch.device("cpu"))
    loaded.load_state_dict(asset.state_dict())
    for index, share in ((2, 1 / 4), (0, 1.0)):  # of 4 steps
        for one in (asset, loaded):
            one.begin_step(TrainingStep(index, 4, torch.Generator().manual_seed(index)))
            (optimizer,) = one.optimizers
            found = [group["lr"] for group in optimizer.param_groups]
            assert found == pytest.approx([0.04 * share, 0.004 * share])


def test_every_group_has_the_rate_of_its_name_wherever_it_stands():
    """Of a checkpoint, too, whose groups have no names yet."""
    rates = ("nerf.table_rate=0.04", "nerf.network_rate=0.004", "nerf.background_rate=0.0004")
    config = small("nerf.learned_background=0.5", "nerf.last_rate=1", *rates)
    asset, loaded = (choice.create(config, torch.device("cpu")) for _ in range(2))
    asset.initialize(torch.Generator().manual_seed(0))
    state = asset.state_dict()
    for group in state["adamw"]["param_groups"]:
        group.pop("name", None)
    loaded.load_state_dict(state)
    assert isinstance(loaded, NerfAsset)
    assert loaded.surroundings is not None
    (optimizer,) = loaded.optimizers
    optimizer.param_groups.reverse()
    loaded.begin_step(TrainingStep(0, 4, torch.Generator().manual_seed(0)))
    behind = loaded.surroundings.parameters["first"]
    for tensor, rate in (
        (loaded.field.parameters["tables"], 0.04),
        (loaded.field.parameters["color_out"], 0.004),
        (behind, 0.0004),
    ):
        (group,) = (g for g in optimizer.param_groups if any(tensor is p for p in g["params"]))
        assert group["lr"] == rate


def test_an_empty_field_ends_the_run():
    asset = choice.create(small(), torch.device("cpu"))
    asset.initialize(torch.Generator().manual_seed(0))
    asset.occupancy.load(torch.zeros_like(asset.occupancy.values), 0.01)
    with pytest.raises(
        UserError, match="the field has nothing left in step 2: it is empty everywhere"
    ):
        asset.begin_step(TrainingStep(1, 4, torch.Generator().manual_seed(0)))


def test_without_a_blob_the_box_begins_as_even_fog_and_says_so(caplog):
    asset = choice.create(
        small("nerf.blob_density=0", "initialize.shape=sphere"), torch.device("cpu")
    )
    with caplog.at_level("INFO"):
        asset.initialize(torch.Generator().manual_seed(0))
    assert "even fog" in caplog.text
    density = asset.field.density(torch.rand(500, 3, generator=torch.Generator().manual_seed(1)))
    assert density.detach().sub(math.log(2)).abs().max() < 0.01
    assert asset.occupancy.occupied.all()


def test_another_grid_does_not_resume(tmp_path):
    Trainer(small(), tmp_path).fit(until=1)
    for override, words in (
        ("nerf.cells=13", "nerf.cells"),
        ("nerf.log2_entries=9", "other tables"),
    ):
        with pytest.raises(UserError, match=words):
            Trainer(small(override), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("nerf.hidden=20", "multiple of 8"),
        ("nerf.levels=40", r"nerf\.levels"),
        ("nerf.radius=0", r"nerf\.radius"),
    ],
)
def test_settings_that_cannot_be(override, words):
    with pytest.raises(UserError, match=words):
        small(override)
