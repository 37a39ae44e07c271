"""The last touch: hard outlines where fog was, the same object, nothing wasted on what nobody
sees."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from gs_ssd import config as configs
from gs_ssd.assets.splat import finish, optimizers
from gs_ssd.assets.splat.densify.surgery import TrainedSplat
from gs_ssd.assets.splat.finish import FinishConfig, Orbit
from gs_ssd.assets.splat.optimizers import OptimizerConfig
from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate import statistics
from gs_ssd.render.renderer import render
from gs_ssd.run import checkpoint
from gs_ssd.scene import camera, initialize
from gs_ssd.scene.gaussians import PARAMETERS, Gaussians
from gs_ssd.scene.initialize import InitializeConfig
from gs_ssd.trainer import Trainer

ORBIT = Orbit((3.1, 3.6), (math.radians(38), math.radians(42)))
SMOKE = Path(__file__).parents[3] / "configs" / "smoke.yaml"
RING = camera.ring(4, math.radians(75), 3.35, math.radians(40), 192)
QUICK = FinishConfig(steps=150, image_size=96)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def foggy(count: int = 1000) -> Gaussians:
    """A ball full of large Gaussians, red above and blue below."""
    start = InitializeConfig(shape="ball", num_points=count, radius=0.5, scale=0.05, opacity=0.8)
    gaussians = initialize.create(start, seeded())
    red, blue = torch.tensor([1.2, -1.2, -1.2]), torch.tensor([-1.2, -1.2, 1.2])
    gaussians.sh_dc = torch.where(gaussians.means[:, 2:] > 0, red, blue)[:, None]
    return gaussians


def seen(gaussians: Gaussians) -> tuple[torch.Tensor, torch.Tensor]:
    output = render(gaussians, RING, torch.ones(4, 3))
    return output.rgb, output.alpha[:, 0]


@pytest.fixture(scope="module")
def pair() -> tuple[Gaussians, Gaussians]:
    model = foggy()
    return model, finish.harden(model, QUICK, ORBIT, seeded(1))


def test_fog_becomes_an_outline_and_the_object_stays(pair):
    (rgb, alpha), (hard_rgb, hard_alpha) = (seen(gaussians) for gaussians in pair)
    ideal = finish.hardened(pair[0], RING, torch.ones(4, 3), QUICK.edge)[1][
        :, 0
    ]  # an outline has pixels of its own
    for fog in (statistics.haze_share, statistics.edge_width):
        assert fog(hard_alpha) - fog(ideal) < 0.5 * (fog(alpha) - fog(ideal))
    assert statistics.silhouette_iou(hard_alpha, alpha).min() > 0.95
    inside = (alpha > 0.95) & (hard_alpha > 0.95)
    assert inside.float().mean() > 0.08
    assert (hard_rgb - rgb).abs().mean(dim=1)[inside].mean() < 0.05


def test_nothing_is_wasted_inside_and_everything_is_a_disc(pair):
    model, hard = pair
    shown = [finish.visibility(gaussians, ORBIT, seeded(7)) for gaussians in pair]
    hidden = [float((light < QUICK.hidden * light.mean()).float().mean()) for light in shown]
    assert hidden[1] < hidden[0] / 3
    assert len(hard) <= len(model)
    assert hard.scales.amin(dim=-1).max() <= QUICK.thickness * 1.3
    assert hard.opacities.min() > QUICK.prune_opacity


def test_the_input_stays_and_the_generator_decides_everything():
    model, short = foggy(200), dataclasses.replace(QUICK, steps=3, image_size=32)
    before = {name: tensor.clone() for name, tensor in model.parameters().items()}
    one, other = (finish.harden(model, short, ORBIT, seeded(2)) for _ in range(2))
    assert all(torch.equal(getattr(model, name), before[name]) for name in PARAMETERS)
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in PARAMETERS)
    assert not torch.equal(one.means, finish.harden(model, short, ORBIT, seeded(3)).means)
    none = finish.harden(model, FinishConfig(), ORBIT, seeded())
    assert all(torch.equal(getattr(none, name), before[name]) for name in PARAMETERS)


def test_fog_all_through_is_left_alone_with_a_warning(caplog):
    fog = initialize.create(
        InitializeConfig(shape="ball", num_points=20, radius=0.5, scale=0.05, opacity=0.1), seeded()
    )
    same = finish.harden(fog, dataclasses.replace(QUICK, steps=2, image_size=32), ORBIT, seeded())
    assert all(torch.equal(getattr(fog, name), getattr(same, name)) for name in PARAMETERS)
    assert "without a finish" in caplog.text


def test_visibilities_add_up_to_what_is_seen_whatever_the_colours():
    model = foggy(300)
    weights = finish.visibility(model, ORBIT, seeded(4))
    generator, total = seeded(4), 0.0
    for _ in range(finish.SURVEY_VIEWS // 4):
        cameras = ORBIT.sample(4, finish.SURVEY_SIZE, generator)
        total += float(render(model, cameras, torch.zeros(4, 3)).alpha.sum())
    assert float(weights.sum()) == pytest.approx(total, rel=1e-4)
    model.sh_dc = -9 * torch.ones_like(model.sh_dc)
    again = finish.visibility(model, ORBIT, seeded(4))
    torch.testing.assert_close(again, weights)


def test_what_hides_inside_moves_to_the_surface():
    """A closed opaque shell, and a cluster at its centre."""
    start = InitializeConfig(shape="ball", num_points=900, radius=0.5, scale=0.06, opacity=0.95)
    gaussians = initialize.create(start, seeded())
    gaussians.means[:800] *= 0.5 / gaussians.means[:800].norm(dim=-1, keepdim=True)
    gaussians.means[800:] *= 0.1
    splat = TrainedSplat(gaussians.requires_grad_(), optimizers.build(gaussians, OptimizerConfig()))
    assert finish.relocate_hidden(splat, ORBIT, 0.03, seeded(5)) == 100
    assert len(splat) == 900
    assert (splat.gaussians.means.norm(dim=-1) > 0.3).all()
    assert finish.relocate_hidden(splat, ORBIT, 0.0, seeded(5)) == 0


def test_cameras_look_from_every_direction_at_the_middle():
    cameras = ORBIT.sample(4000, 64, seeded(6))
    up = cameras.polar_rad.cos()
    for share in (0.1, 0.5, 0.9):  # uniform over the sphere: heights are uniform
        assert up.quantile(share).item() == pytest.approx(2 * share - 1, abs=0.05)
    assert cameras.w2c[:, :2, 3].abs().max() < 1e-4
    assert ((cameras.radius >= 3.1) & (cameras.radius <= 3.6)).all()


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"steps": -1}, "steps"),
        ({"edge": (0.6, 0.4)}, "finish.edge"),
        ({"thickness": 0.0}, "thickness"),
    ],
)
def test_numbers_without_sense_are_refused_by_name(bad, named):
    with pytest.raises((UserError, ValidationError), match=named):
        dataclasses.replace(QUICK, **bad)


def test_a_run_is_hardened_once_its_checkpoint_is_not_and_resuming_ends_the_same(tmp_path):
    overrides = [
        "num_steps=3",
        "output.turntable_frames=0",
        "output.preview_every=0",
        "initialize.num_points=60",
    ]
    plain = Trainer(configs.load(SMOKE, overrides), tmp_path / "plain")
    plain.fit()
    config = configs.load(SMOKE, [*overrides, "finish.steps=2", "finish.image_size=32"])
    run = Trainer(config, tmp_path / "run")
    run.fit()
    kept = checkpoint.load(checkpoint.latest(tmp_path / "run" / "checkpoints"))
    parameters = kept.state["asset"]["parameters"]
    assert all(
        torch.equal(parameters[name], getattr(plain.asset.gaussians, name)) for name in PARAMETERS
    )
    assert (
        run.asset.gaussians.scales.amin(dim=-1).max()
        < plain.asset.gaussians.scales.amin(dim=-1).min()
    )
    first = (tmp_path / "run/point_cloud.ply").read_bytes()
    run.fit()
    assert (tmp_path / "run/point_cloud.ply").read_bytes() == first  # not hardened twice
    Trainer(config, tmp_path / "run", resume=True).fit()
    assert (tmp_path / "run/point_cloud.ply").read_bytes() == first
