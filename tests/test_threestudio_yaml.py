"""threestudio's files: what each means here, dead options said once, typos and later stages
refused by name."""

import logging

import pytest
import yaml

from gs_ssd import config as configs
from gs_ssd import threestudio_yaml
from gs_ssd.assets.nerf.config import NerfConfig
from gs_ssd.errors import UserError
from gs_ssd.maths import anneal

FILE = """
name: "mine"
tag: "${rmspace:${system.prompt_processor.prompt},_}"
seed: 3
data_type: "random-camera-datamodule"
data:
  batch_size: [12, 1]
  width: [64, 512]
  height: [64, 512]
  resolution_milestones: [400]
  camera_distance_range: [1.5, 2.0]
  fovy_range: [40, 70]
  elevation_range: [-10, 45]
  camera_perturb: 0.
  center_perturb: 0.
  up_perturb: 0.
  light_sample_strategy: "dreamfusion"
  eval_camera_distance: 2.0
system_type: "dreamfusion-system"
system:
  geometry_type: "implicit-volume"
  geometry:
    radius: 2.0
    normal_type: "analytic"
    density_blob_std: 0.4
    pos_encoding_config:
      otype: ProgressiveBandHashGrid
      n_levels: 16
      n_features_per_level: 2
      log2_hashmap_size: 18
      base_resolution: 16
      per_level_scale: 1.447269237440378
      start_level: 8
      start_step: 200
      update_steps: 50
  material_type: "no-material"
  background_type: "neural-environment-map-background"
  background: {random_aug: true}
  renderer_type: "nerf-volume-renderer"
  renderer:
    radius: ${system.geometry.radius}
    num_samples_per_ray: 256
  prompt_processor_type: "stable-diffusion-prompt-processor"
  prompt_processor:
    prompt: ???
  guidance_type: "stable-diffusion-guidance"
  guidance:
    pretrained_model_name_or_path: "stabilityai/stable-diffusion-2-1-base"
    guidance_scale: 100.
    min_step_percent: 0.02
    max_step_percent: [500, 0.98, 0.5, 501]
  loggers: {wandb: {enable: false, project: "threestudio", name: None}}
  loss:
    lambda_sds: 1.
    lambda_orient: [0, 10., 1000., 500]
    lambda_sparsity: 1.
    lambda_opaque: 0.
  optimizer:
    name: Adam
    args: {lr: 0.01, betas: [0.9, 0.99], eps: 1.e-15}
    params:
      geometry: {lr: 0.02}
      background: {lr: 0.002}
trainer:
  max_steps: 1000
  val_check_interval: 200
  precision: 16-mixed
checkpoint:
  save_last: true
  every_n_train_steps: ${trainer.max_steps}
"""


def write(tmp_path, **changes):
    """The file with dotted keys (__ for the dot) changed; `...` deletes one."""
    values = yaml.safe_load(FILE)
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        place = values
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[leaf]
        else:
            place[leaf] = value
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def notes(path):
    return threestudio_yaml.translate(yaml.safe_load(path.read_text()), "file").notes


def test_a_file_becomes_a_radiance_field_with_its_own_numbers(tmp_path):
    config = configs.load(write(tmp_path), ["prompt=a mug"])
    assert (config.asset, config.prompt, config.seed, config.num_steps) == (
        "nerf",
        "a mug",
        3,
        1000,
    )
    assert config.prior.model == "sd21-base"
    guidance, views, nerf = config.guidance, config.viewpoints, config.nerf
    assert (guidance.estimator, guidance.weighting, guidance.average_views) == (
        "ssd", "sigma2", True,
    )  # fmt: skip
    assert guidance.t_schedule == ((0, 0.02, 0.98), (0.5, 0.02, 0.98), (0.501, 0.02, 0.5))
    assert guidance.prompts.negative == ""
    assert (views.radius, views.fov_y_deg, views.polar_deg) == ((1.5, 2), (40, 70), (45, 100))
    assert views.num_views_law == ((0, 12), (0.4, 12), (0.4, 1))
    assert (views.jitter_position, views.jitter_target, views.jitter_up) == (0, 0, 0)
    assert views.widening.every_share == 0
    assert nerf.resolution == ((0, 64), (0.4, 64), (0.4, 512))
    assert nerf.levels_on == ((0.2, 8), (0.6, 16))
    assert (nerf.log2_entries, nerf.radius, nerf.blob_radius, nerf.steps) == (18, 2, 0.4, 256)
    assert (nerf.table_rate, nerf.network_rate, nerf.background_rate) == (0.02, 0.02, 0.002)
    assert (nerf.weight_decay, nerf.learned_background) == (0, 0.5)
    assert nerf.orientation == ((0, 10), (0.5, 1000))
    assert config.regularize.units == "absolute"
    assert config.regularize.sparsity == ((0, 1),)
    assert config.regularize.opaque == ()
    assert (config.output.preview_every, config.output.checkpoint_every) == (200, 200)
    assert (config.output.radius, config.output.polar_deg) == (2, (75,))


def test_what_a_file_leaves_out_is_the_hosts_own_default(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("system_type: prolificdreamer-system\ntrainer: {max_steps: 15000}\n")
    config = configs.load(path)
    host = NerfConfig()
    for key in ("levels", "log2_entries", "base_resolution", "level_scale", "hidden", "radius",
                "blob_density", "blob_radius", "steps"):  # fmt: skip
        assert getattr(config.nerf, key) == getattr(host, key), key
    assert config.viewpoints.polar_deg == (0, 100)
    assert config.viewpoints.jitter_position == pytest.approx(0.2)


def test_its_own_method_is_one_override_away(tmp_path):
    sds = configs.load(write(tmp_path), ["guidance.estimator=sds"])
    assert (sds.guidance.estimator, sds.guidance.cfg_scale) == ("sds", 101)  # eps_text + 100 h
    vsd = write(
        tmp_path,
        system_type="prolificdreamer-system",
        system__guidance_type="stable-diffusion-vsd-guidance",
        system__guidance__guidance_scale=...,
    )
    assert configs.load(vsd, ["guidance.estimator=vsd"]).guidance.cfg_scale == 7.5
    assert any("SSD in place of VSD" in note for note in notes(vsd))


def test_overrides_in_its_own_words(tmp_path):
    config = configs.load(
        write(tmp_path),
        [
            "system.prompt_processor.prompt=a cat: sitting",
            "trainer.max_steps=2000",
            "nerf.cells=16",
        ],
    )
    assert (config.prompt, config.num_steps, config.nerf.cells) == ("a cat: sitting", 2000, 16)
    assert config.nerf.orientation == ((0, 10), (0.25, 1000))
    with pytest.raises(UserError, match="did you mean max_steps"):
        configs.load(write(tmp_path), ["trainer.max_step=5"])


def at_step(value, step):
    """threestudio's documented meaning of [step, value, value, step, value, step, ...]."""
    steps, levels = [value[0], *value[3::2]], [value[1], *value[2::2]]
    if step <= steps[0]:
        return levels[0]
    for k in range(len(steps) - 1):
        if step <= steps[k + 1]:
            share = (step - steps[k]) / (steps[k + 1] - steps[k])
            return levels[k] + share * (levels[k + 1] - levels[k])
    return levels[-1]


@pytest.mark.parametrize(
    "value",
    [[0, 10.0, 1000.0, 500], [100, 0.0, 5.0, 200], [500, 1.0, 3.0, 4000],
     [0, 1.0, 2.0, 300, 0.5, 800], [-200, 0.0, 4.0, 200], [1500, 2.0, 7.0, 2500]],
)  # fmt: skip
def test_schedules_hold_at_every_step(tmp_path, value):
    law = configs.load(write(tmp_path, system__loss__lambda_sparsity=value)).regularize.sparsity
    for step in (0, 50, 99, 150, 250, 499, 700, 1000):
        assert anneal.piecewise(step / 1000, law) == pytest.approx(at_step(value, step), abs=1e-6)


def test_the_first_step_of_a_schedule_may_be_left_out(tmp_path):
    path = write(tmp_path, system__loss__lambda_orient=[10.0, 1000.0, 500])
    assert configs.load(path).nerf.orientation == ((0, 10), (0.5, 1000))


def test_a_schedule_in_epochs_stays_where_it_begins(tmp_path):
    path = write(tmp_path, system__loss__lambda_orient=[0, 10.0, 1000.0, 5.0])
    assert configs.load(path).nerf.orientation == ((0, 10),)
    assert any("counts epochs" in note for note in notes(path))


def test_a_plain_grid_has_all_levels_and_a_plain_background_is_drawn(tmp_path):
    path = write(
        tmp_path,
        system__geometry__pos_encoding_config__otype="HashGrid",
        system__background_type="solid-color-background",
        system__background={"random_aug": True, "color": [0, 0, 0]},
    )
    config = configs.load(path)
    assert (config.nerf.levels_on, config.nerf.learned_background) == ((), 0)
    assert (config.augment.background_random, config.augment.background_black) == (0.5, 0.5)


def test_what_has_no_effect_or_is_not_supported_is_said_once(tmp_path, caplog):
    path = write(
        tmp_path,
        system__material_type="diffuse-with-point-light-material",
        system__material={"ambient_only_steps": 2001},
        system__loss__lambda_z_variance=1.0,
    )
    with caplog.at_level(logging.WARNING):
        configs.load(path)
    text = [record.getMessage() for record in caplog.records]
    assert all("(a threestudio file)" in line for line in text)
    (dead,) = (line for line in text if "without effect" in line)
    assert dead.count("system.material.ambient_only_steps") == 1
    assert sum("lambda_z_variance=1.0 is not supported" in line for line in text) == 1
    assert sum("are not shaded" in line for line in text) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system__geometry__radios": 1}, "system.geometry of threestudio.*did you mean radius"),
        ({"sistem": {}}, "threestudio has no key 'sistem'; did you mean system"),
        ({"system__loss__lambda_orientation": 1}, "did you mean lambda_orient"),
        ({"system__optimizer__params__backgroud": {"lr": 1}}, "did you mean background"),
        ({"system__optimizer__params__geometry": 0.1}, "geometry must hold lr and nothing else"),
        ({"system__guidance_type": "deep-floyd-guidance"}, "has no counterpart here; known:"),
        ({"system__stage": "geometry"}, "only the first stage"),
        ({"system__refinement": True}, "only the first stage"),
        ({"system__geometry__radius": "big"}, "system.geometry.radius is 'big'.*a number"),
        ({"system__geometry__radius": "${system.nothing}"}, "refers to nothing"),
        ({"system__geometry__radius": "${system.geometry.radius}"}, "refers to nothing"),
        ({"system__geometry__radius": "???"}, r"is \?\?\?; write a value"),
        ({"system__geometry": [1]}, "system.geometry must hold keys and values"),
        ({"data__width": [64, 128, 256]}, "data.width has 3 values"),
        ({"data__width": [32, 512]}, "views are square"),
        ({"data__width": "wide"}, "data.width is 'wide'"),
        ({"system__loss__lambda_sparsity": [0, 1]}, "is no law; write"),
        ({"system__loss__lambda_sparsity": [9, 1, 2, 3]}, "are not in order"),
        ({"system__guidance__weighting_strategy": "sdss"}, "choose one of sds"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(UserError, match=words) as refused:
        configs.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
