"""LucidDreamer's files: its nine recipes load unchanged, dead options are said once, typos are
refused by name."""

import dataclasses
import logging
import math

import pytest
import yaml

from gs_ssd import config as configs
from gs_ssd import lucid_yaml
from gs_ssd.errors import UserError

NEGATIVE = (
    "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, low-resolution,"
    " oversaturation."
)
DARK = NEGATIVE.replace("dull,", "dull, dark,")

# What its nine files differ in: perpneg, delta_t, init_shape, init_prompt, theta_range, phi_range,
# gamma, negative.
RECIPES = {
    "axe": (False, 25, "pointe", "A flag.", [45, 105], [-180, 180], 1.0, NEGATIVE),
    "bagel": (False, 80, "pointe", "a bagel.", [45, 105], [-180, 180], 1.0, DARK),
    "crown": (
        False,
        80,
        "pointe",
        "a crown.",
        [45, 105],
        [-180, 180],
        1.0,
        "unrealistic, blurry, low quality.",
    ),
    "football_helmet": (
        False,
        50,
        "pointe",
        "a football helmet.",
        [45, 90],
        [-180, 180],
        None,
        NEGATIVE,
    ),
    "hamburger": (False, 50, "sphere", ".", [45, 105], [-180, 180], 1.0, DARK),
    "cat_armor": (True, 80, "pointe", "a cat.", [60, 90], [-180, 180], 1.5, NEGATIVE),
    "ts_lora": (True, 80, "pointe", "a girl head.", [60, 120], [-80, 80], 1.5, DARK),
    "white_hair_ironman": (True, 50, "pointe", "a man head.", [45, 90], [-80, 80], 1.5, NEGATIVE),
    "zombie_joker": (True, 50, "pointe", "a man head.", [45, 90], [-80, 80], 1.5, DARK),
}

COMMON = """
port: 2355
save_video: true
seed: 0
PipelineParams:
  convert_SHs_python: False
ModelParams: {workspace: here, sh_degree: 0, bg_aug_ratio: 0.66}
GuidanceParams:
  model_key: 'stabilityai/stable-diffusion-2-1-base'
  text: 'a thing.'
  inverse_text: ''
  C_batch_size: 4
  t_range: [0.02, 0.5]
  max_t_range: 0.98
  lambda_guidance: 0.1
  guidance_scale: 7.5
  denoise_guidance_scale: 1.0
  noise_seed: 0
  ddim_inv: true
  annealing_intervals: true
  xs_delta_t: 200
  xs_inv_steps: 5
  xs_eta: 0.0
  delta_t_start: 100
GenerateCamParams:
  use_pointe_rgb: false
  init_num_pts: 100_000
  max_phi_range: [-180, 180]
  radius_range: [5.2, 5.5]
  max_radius_range: [3.5, 5.0]
  default_radius: 3.5
  default_fovy: 0.55
  fovy_range: [0.32, 0.60]
  max_fovy_range: [0.16, 0.60]
OptimizationParams:
  iterations: 5000
  save_process: True
  pro_frames_num: 600
  pro_render_45: False
  warmup_iter: 1500
  as_latent_ratio : 0.2
  geo_iter : 0
  densify_from_iter: 100
  densify_until_iter: 3000
  percent_dense: 0.003
  densify_grad_threshold: 0.00075
  progressive_view_iter: 500
  opacity_reset_interval: 300
  scale_up_cameras_iter: 500
  fovy_scale_up_factor: [0.75, 1.1]
  phi_scale_up_factor: 1.5
"""


def recipe(name="bagel", **changes):
    """One of the nine as a mapping; `changes` are dotted keys with __ for the dot."""
    perp_neg, delta_t, shape, text, theta, phi, gamma, negative = RECIPES[name]
    values = yaml.safe_load(COMMON)
    values["GuidanceParams"] |= {"perpneg": perp_neg, "delta_t": delta_t, "negative": negative}
    values["GenerateCamParams"] |= {
        "init_shape": shape,
        "init_prompt": text,
        "theta_range": theta,
        "max_theta_range": theta,
        "phi_range": phi,
    }
    if gamma is not None:
        values["GenerateCamParams"]["rand_cam_gamma"] = gamma
    if name == "ts_lora":
        values["GuidanceParams"]["LoRA_path"] = "./lora.safetensors"
    if name in ("axe", "football_helmet"):
        values["GuidanceParams"]["accum"] = False
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        if leaf:
            values[section][leaf] = value
        else:
            values[section] = value
    return values


def write(tmp_path, values, name="file"):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_its_nine_recipes_load_unchanged(tmp_path, name):
    perp_neg, delta_t, shape, text, theta, phi, gamma, negative = RECIPES[name]
    config = configs.load(write(tmp_path, recipe(name), name))
    assert config.prompt == "a thing."
    assert config.prior.model == "sd21-base"
    assert config.prior.lora == (("./lora.safetensors",) if name == "ts_lora" else ())
    assert config.guidance.estimator == "ssd"
    assert config.guidance.prompts.perp_neg is perp_neg
    assert config.guidance.prompts.negative == negative
    assert config.guidance.trajectories.ism_interval == delta_t
    assert config.initialize.shape == ("sphere" if shape == "sphere" else "text")
    assert config.initialize.num_points == (100_000 if shape == "sphere" else 81_920)
    assert config.initialize.text == (None if shape == "sphere" else text)
    assert config.viewpoints.polar_deg == tuple(theta)
    assert config.viewpoints.azimuth_deg == tuple(phi)
    assert config.viewpoints.angle_gamma == (1.0 if gamma is None else gamma)


def test_the_numbers_of_the_recipe(tmp_path):
    config = configs.load(write(tmp_path, recipe()))
    assert (config.num_steps, config.viewpoints.num_views, config.viewpoints.image_size) == (
        5000,
        4,
        512,
    )
    assert config.guidance.t_schedule == ((0.0, 0.02, 0.98), (0.3, 0.02, 0.5))
    assert (config.guidance.flip, config.guidance.depth_as_latents) == (0.5, 0.2)
    assert config.guidance.trajectories.offset_noise == 0.1
    assert config.optimizer.means == pytest.approx((5.6e-4, 5.6e-6))
    assert config.optimizer.sh_rest == pytest.approx((2.5e-4, 2.5e-4))
    assert config.augment.background_random == config.augment.background_black == 0.33
    assert config.densify.adaptive.split_above == pytest.approx(0.0105)
    assert config.densify.adaptive.prune_scale == pytest.approx(0.35)
    assert config.viewpoints.fov_y_deg == pytest.approx((math.degrees(0.32), math.degrees(0.60)))
    assert config.viewpoints.widening.fov_limits_deg == pytest.approx(
        (math.degrees(0.16), math.degrees(0.60))
    )
    assert config.output.polar_deg == (90.0, 60.0)
    assert config.output.fov_y_deg == pytest.approx(math.degrees(0.55))
    assert (config.output.process_frames, config.output.test_views) == (600, 8)


def test_ssd_gets_scale_free_weights_and_ism_its_own(tmp_path):
    path = write(tmp_path, recipe())
    ssd, ism = configs.load(path), configs.load(path, ["guidance.estimator=ism"])
    assert (ssd.regularize.units, ssd.densify.adaptive.select) == ("ratio", "quantile")
    assert (ism.regularize.units, ism.densify.adaptive.select) == ("absolute", "absolute")
    assert ism.densify.adaptive.threshold == 7.5e-4
    assert (
        ism.regularize.tv_rgb
        == ism.regularize.tv_disparity
        == ism.regularize.scale
        == ((0.0, 1.0),)
    )
    assert (ism.guidance.scale, ism.guidance.cfg_scale, ism.guidance.weighting) == (
        0.1,
        7.5,
        "lucid",
    )


def test_the_only_switch_that_removes_inversion_chooses_sds(tmp_path):
    config = configs.load(write(tmp_path, recipe(GuidanceParams__sds=True)))
    assert (config.guidance.estimator, config.regularize.units) == ("sds", "absolute")


def test_built_in_defaults_hold_for_what_a_file_leaves_out():
    translation = lucid_yaml.translate({"GuidanceParams": {"text": "a cup"}}, "file")
    config = configs.from_mapping(translation.config, "file")
    assert config.viewpoints.num_views == 1
    assert config.guidance.prompts.perp_neg
    assert config.guidance.scale == 1.0
    assert config.augment.background_random == 0.25
    assert config.initialize.shape == "sphere"


def test_dead_options_are_reported_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        configs.load(write(tmp_path, recipe("axe")))
    (line,) = [
        record.getMessage() for record in caplog.records if "without effect" in record.getMessage()
    ]
    assert sorted(line.rpartition(": ")[2].split(", ")) == [
        "accum",
        "ddim_inv",
        "port",
        "workspace",
    ]


def test_what_is_not_supported_is_said_and_its_default_is_silent():
    quiet = lucid_yaml.translate(recipe(), "file").notes
    loud = lucid_yaml.translate(
        recipe(GuidanceParams__xs_eta=0.5, OptimizationParams__geo_iter=100), "file"
    ).notes
    assert not any("not supported" in note for note in quiet)
    assert [note.split("=")[0] for note in loud if "not supported" in note] == [
        "GuidanceParams.xs_eta",
        "OptimizationParams.geo_iter",
    ]


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ({"GuidanceParams__guidence_scale": 5.0}, "guidance_scale"),
        ({"OptimizationParams__itterations": 5}, "iterations"),
        ({"GenerateCamParams__thetarange": [1, 2]}, "theta_range"),
        ({"OptimisationParams": {}}, "OptimizationParams"),
        ({"sede": 1}, "seed"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(tmp_path, change, nearest):
    with pytest.raises(UserError, match=rf"file\.yaml.*did you mean {nearest}\?"):
        configs.load(write(tmp_path, recipe(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {"OptimizationParams__iterations": "many"},
        {"GuidanceParams__perpneg": 3},
        {"GenerateCamParams__theta_range": [45]},
        {"GenerateCamParams__radius_range": 5},
        {"GuidanceParams__text": 7},
        {"GenerateCamParams__image_w": 256},
        {"GenerateCamParams__init_shape": "pointy"},
        {"ModelParams": [1, 2]},
    ],
)
def test_values_of_the_wrong_kind_are_named(tmp_path, change):
    name = next(iter(change)).rpartition("__")[2]
    with pytest.raises(UserError, match=name):
        configs.load(write(tmp_path, recipe(**change)))


def test_use_progressive_is_inverted_there_and_stays_so(tmp_path):
    assert configs.load(write(tmp_path, recipe())).viewpoints.widening.every_share == 0.1
    still = configs.load(write(tmp_path, recipe(OptimizationParams__use_progressive=True)))
    assert still.viewpoints.widening.every_share == 0


@pytest.mark.parametrize(
    ("shape", "box"), [("rectangle_x", (0.6, 1.2, 0.5)), ("rectangle_z", (0.8, 0.6, 1.2))]
)
def test_its_boxes(tmp_path, shape, box):
    start = configs.load(write(tmp_path, recipe(GenerateCamParams__init_shape=shape))).initialize
    assert (start.shape, start.box) == ("box", box)


def test_its_scene_shape_surrounds_the_cameras(tmp_path):
    start = configs.load(write(tmp_path, recipe(GenerateCamParams__init_shape="scene"))).initialize
    assert start.shape == "shell"
    assert start.radius > 3 * 5.5


def test_an_earlier_splat_keeps_its_place_and_moves(tmp_path):
    config = configs.load(write(tmp_path, recipe(ModelParams__pretrained_model_path="a.ply")))
    assert (config.initialize.shape, config.initialize.file) == ("splat", "a.ply")
    assert min(config.optimizer.means) > 0  # LucidDreamer froze the positions here


def test_its_absolute_steps_become_shares_of_its_iterations(tmp_path):
    adaptive = configs.load(write(tmp_path, recipe())).densify.adaptive
    assert adaptive == dataclasses.replace(
        adaptive, start_share=0.0202, stop_share=0.6, prune_scale_after_share=0.06
    )
    assert (adaptive.every, adaptive.reset_every) == (100, 300)
    assert [round(share * 5000) for share in (adaptive.start_share, adaptive.stop_share)] == [
        101,
        3000,
    ]


def test_densification_that_would_end_too_late_ends_earlier_and_says_so():
    translation = lucid_yaml.translate(recipe(OptimizationParams__iterations=900), "file")
    assert translation.config["densify"]["adaptive"]["stop_share"] == 0.8
    assert any("densify_until_iter=3000 lies late in 900" in note for note in translation.notes)


def test_gaussian_dreamer_pros_shape_starts_from_shap_e_and_says_so(tmp_path):
    values = recipe(GenerateCamParams__init_shape="shape")
    start = configs.load(write(tmp_path, values)).initialize
    assert (start.shape, start.text, start.spread, start.num_points) == (
        "text",
        "a bagel.",
        0.05,
        81_920,
    )
    assert any("init_shape=shape" in note for note in lucid_yaml.translate(values, "file").notes)


def test_it_reads_the_yaml_that_its_own_reader_takes(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text("GuidanceParams: {text: 'a cup', perpneg: no, C_batch_size: 4.0}\n"
                    "GenerateCamParams: {init_num_pts: 1e5, jitter_pose: On}\n")  # fmt: skip
    config = configs.load(file)
    assert (config.guidance.prompts.perp_neg, config.viewpoints.num_views) == (False, 4)
    assert (config.initialize.num_points, config.viewpoints.jitter_position) == (100_000, 0.05)


def test_command_line_wins_over_the_file(tmp_path):
    config = configs.load(write(tmp_path, recipe()), ["num_steps=7", "initialize.shape=ball"])
    assert (config.num_steps, config.initialize.shape) == (7, "ball")


@pytest.mark.parametrize("little", [False, True])
def test_little_memory_means_slices_and_passes_here(tmp_path, little):
    config = configs.load(write(tmp_path, recipe(GuidanceParams__vram_O=little)))
    assert (config.prior.sliced_vae, config.guidance.views_per_pass) == (
        little,
        1 if little else None,
    )
