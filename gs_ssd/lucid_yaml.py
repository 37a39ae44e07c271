"""LucidDreamer's YAML files in our schema, so that `train.py --config bagel.yaml` runs them
unchanged.

Its sections fill attributes of five parameter classes, whose built-in defaults hold for whatever a
file leaves out; the table below is those names and defaults. Every name is either mapped, or known
to have no effect there (reported once), or something this project does not do (reported where it
differs from the default). A name that LucidDreamer does not know is a mistake here; it took them
silently.

The method of such a file is SSD, or whatever `guidance.estimator` names; ISM's own numbers are kept
for those who choose it. Weights and thresholds that were tuned to ISM's gradient hold for the
estimators with a guidance scale; the others get their scale-free counterparts (see docs/recipe.md).
"""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from gs_ssd.assets.splat.densify.adaptive import LAST_GROWTH
from gs_ssd.errors import UserError
from gs_ssd.host_yaml import MODELS, Translation, as_kind, nearest, tidy

TOP_LEVEL: dict[str, Any] = {"port": None, "save_video": True, "seed": 0, "device": "auto"}

SECTIONS: dict[str, dict[str, Any]] = {
    "ModelParams": {
        "sh_degree": 0, "pretrained_model_path": None, "bg_aug_ratio": 0.5, "scale_aug_ratio": 1.0,
        "_white_background": True,
    },
    "PipelineParams": {},
    "GuidanceParams": {
        "model_key": None, "base_model_key": None, "perpneg": True, "negative_w": -2.0,
        "front_decay_factor": 2.0, "side_decay_factor": 10.0, "vram_O": False, "fp16": True,
        "t_range": [0.02, 0.5], "max_t_range": 0.98, "sds": False, "delta_t": 80,
        "delta_t_start": 100, "annealing_intervals": True, "text": "",
        "textual_inversion_path": None, "LoRA_path": None, "negative": "", "guidance_scale": 7.5,
        "denoise_guidance_scale": 1.0, "lambda_guidance": 1.0, "xs_delta_t": 200, "xs_inv_steps": 5,
        "C_batch_size": 1, "vis_interval": 100,
    },
    "GenerateCamParams": {
        "init_shape": "sphere", "init_prompt": "", "use_pointe_rgb": False, "init_num_pts": 100_000,
        "radius_range": [5.2, 5.5], "max_radius_range": [3.5, 5.0], "default_radius": 3.5,
        "theta_range": [45, 105], "max_theta_range": [45, 105], "phi_range": [-180, 180],
        "max_phi_range": [-180, 180], "fovy_range": [0.32, 0.60], "max_fovy_range": [0.16, 0.60],
        "default_fovy": 0.55, "default_polar": 90, "rand_cam_gamma": 1.0, "image_w": 512,
        "image_h": 512, "render_45": True, "jitter_pose": True, "jitter_center": 0.05,
        "jitter_target": 0.05, "jitter_up": 0.01,
    },
    "OptimizationParams": {
        "iterations": 5000, "position_lr_init": 0.00016, "position_lr_final": 0.0000016,
        "feature_lr": 0.0050, "feature_lr_final": 0.0030, "opacity_lr": 0.05, "scaling_lr": 0.005,
        "scaling_lr_final": 0.001, "rotation_lr": 0.001, "rotation_lr_final": 0.0002,
        "as_latent_ratio": 0.2, "percent_dense": 0.003, "densify_grad_threshold": 0.00075,
        "lambda_tv": 1.0, "lambda_scale": 1.0, "densification_interval": 100,
        "opacity_reset_interval": 300, "densify_from_iter": 100, "densify_until_iter": 3000,
        "warmup_iter": 1500, "use_progressive": False, "save_process": True, "pro_frames_num": 600,
        "scale_up_cameras_iter": 500, "scale_up_factor": 0.95, "fovy_scale_up_factor": [0.75, 1.1],
        "phi_scale_up_factor": 1.5,
    },
}  # fmt: skip
"""Section -> name -> LucidDreamer's built-in default, for everything that is mapped."""

DEAD: dict[str, tuple[str, ...]] = {
    "ModelParams": ("_source_path", "_model_path", "_images", "_resolution", "eval", "batch",
        "sh_deg_aug_ratio",
                    "data_device", "opt_path", "workspace"),
    "PipelineParams": ("compute_cov3D_python", "debug"),
    "GuidanceParams": ("g_device", "is_safe_tensor", "controlnet_model_key", "controlnet_ratio",
        "hf_key", "ddim_inv",
                       "accum", "scheduler_type", "num_train_timesteps", "guidance"),
    "GenerateCamParams": ("angle_overhead", "angle_front", "SSAA", "default_azimuth", "device"),
    "OptimizationParams": ("position_lr_delay_mult", "position_lr_max_steps", "resnet_lr",
        "resnet_lr_init",
                           "resnet_lr_final", "lambda_bin", "lambda_sat", "lambda_radius",
                           "use_control_net_iter", "progressive_view_init_ratio"),
}  # fmt: skip
"""Names without effect, there or here. `accum` is in two of its files and nowhere in its code."""

UNSUPPORTED: dict[str, dict[str, Any]] = {
    "ModelParams": {"shs_aug_ratio": 0.0},
    "PipelineParams": {"convert_SHs_python": False},
    "GuidanceParams": {"fix_noise": False, "noise_seed": 0, "xs_eta": 0.0, "inverse_text": ""},
    "GenerateCamParams": {"uniform_sphere_rate": 0},
    "OptimizationParams": {"geo_iter": 0, "pro_render_45": False, "progressive_view_iter": 500},
}
"""Names that work there and not here, with the only value that loads without a word."""

GUIDED = frozenset({"ism", "sds", "sds_reduced", "sdi", "vsd", "nfsd"})
"""Estimators with a guidance scale, whose gradient the recipe's weights and thresholds were tuned
to (or near)."""

RATIO = 0.02
"""What a weight of 1 on a regularizer becomes where weights are ratios of gradient norms."""

POINTE_SHARE = 4096 / 5000
"""Its Point-E start has 4096 points, each repeated init_num_pts / 5000 times."""

SHAPES: dict[str, tuple[str, tuple[float, float, float] | None]] = {
    "pointe": ("text", None),
    "shape": ("text", None),  # GaussianDreamerPro's word: Shap-E in place of Point-E
    "sphere": ("sphere", None),
    "box": ("box", (1.0, 1.0, 1.0)),
    "rectangle_x": ("box", (0.6, 1.2, 0.5)),
    "rectangle_z": ("box", (0.8, 0.6, 1.2)),
    "scene": ("shell", None),
}


def recognises(values: Mapping[str, Any]) -> bool:
    """Whether a YAML file's mapping is LucidDreamer's: it has at least one of its sections."""
    return any(section in values for section in SECTIONS)


def translate(
    values: Mapping[str, Any], source: str, *, estimator: str | None = None
) -> Translation:
    """The mapping of a LucidDreamer file in our schema.

    Args:
        values: as read from the YAML file `source`, which messages name.
        estimator: who is to run it; `None`: SSD, or SDS where the file says `sds: true`.

    Raises:
        UserError: a name that LucidDreamer does not have (with the nearest one), or a value of the
            wrong kind.
    """
    top, sections, notes = _read(values, source)
    model, guidance, cameras, optimization = (
        sections[key]
        for key in ("ModelParams", "GuidanceParams", "GenerateCamParams", "OptimizationParams")
    )
    chosen = estimator or ("sds" if guidance.sds else "ssd")
    if not guidance.sds and chosen == "ssd":
        notes.append(
            "runs with SSD in place of ISM (guidance.estimator=ism runs the file's own method)"
        )
    if cameras.init_shape == "shape":
        notes.append(
            "init_shape=shape starts from Shap-E's idea of init_prompt, as initialize.shape=text"
            " does here"
        )
    if _share(optimization.densify_until_iter, optimization) > LAST_GROWTH:
        notes.append(
            f"densify_until_iter={optimization.densify_until_iter} lies late in"
            f" {optimization.iterations} iterations: densification ends at {LAST_GROWTH} of the"
            " run, so that the splats can settle"
        )
    config = {
        "prompt": guidance.text,
        "seed": top.seed,
        "num_steps": optimization.iterations,
        "device": top.device,
        "prior": _prior(guidance),
        "guidance": _guidance(guidance, optimization, chosen),
        "initialize": _initialize(model, cameras),
        "viewpoints": _viewpoints(guidance, cameras, optimization, source),
        "augment": _augment(model),
        "optimizer": _optimizer(optimization, cameras),
        "regularize": _regularize(optimization, chosen in GUIDED),
        "densify": {
            "policy": "adaptive",
            "adaptive": _densify(optimization, cameras, chosen in GUIDED),
        },
        "output": _output(top, guidance, cameras, optimization),
    }
    return Translation(config, tuple(notes))


def _read(
    values: Mapping[str, Any], source: str
) -> tuple[SimpleNamespace, dict[str, SimpleNamespace], list[str]]:
    """The file over the built-in defaults, and the notes on what is without effect."""
    dead: list[str] = []
    notes: list[str] = []
    top = {key: value for key, value in values.items() if key not in SECTIONS}
    for key in top:
        if key not in TOP_LEVEL:
            raise UserError(
                f"{source}: LucidDreamer has no key {key!r}{nearest(key, [*TOP_LEVEL, *SECTIONS])}"
            )
    sections = {}
    for section, defaults in SECTIONS.items():
        given = values.get(section) or {}
        if not isinstance(given, Mapping):
            raise UserError(f"{source}: {section} must hold keys and values, not {given!r}")
        others = UNSUPPORTED[section]
        known, live = [*defaults, *others, *DEAD[section]], {}
        for key, value in given.items():
            if key not in known:
                raise UserError(f"{source}: {section} has no key {key!r}{nearest(key, known)}")
            if key in DEAD[section]:
                dead.append(key)
            elif key in others and value != others[key]:
                notes.append(
                    f"{section}.{key}={value} is not supported; it runs as {key}={others[key]}"
                )
            elif key in defaults:
                live[key] = as_kind(f"{source}: {section}.{key}", value, defaults[key])
        sections[section] = SimpleNamespace(**{**defaults, **live})
    if "port" in top:
        dead.append("port")
    if dead:
        notes.insert(0, f"without effect: {', '.join(dead)}")
    return SimpleNamespace(**{**TOP_LEVEL, **top}), sections, notes


def _prior(guidance: SimpleNamespace) -> dict[str, Any]:
    key = guidance.model_key or "sd21-base"
    return {
        "model": MODELS.get(key, key),
        "base": MODELS.get(guidance.base_model_key, guidance.base_model_key),
        "dtype": None if guidance.fp16 else "float32",
        "lora": [guidance.LoRA_path] if guidance.LoRA_path else [],
        "textual_inversion": (
            [guidance.textual_inversion_path] if guidance.textual_inversion_path else []
        ),
        "sliced_vae": guidance.vram_O,
    }


def _guidance(
    guidance: SimpleNamespace, optimization: SimpleNamespace, estimator: str
) -> dict[str, Any]:
    low, high = guidance.t_range
    warm = _share(optimization.warmup_iter, optimization)
    return {
        "estimator": estimator,
        "cfg_scale": guidance.guidance_scale,
        "weighting": "lucid" if estimator in ("ism", "sds") else None,
        "scale": guidance.lambda_guidance,
        "t_schedule": [[0.0, low, guidance.max_t_range], [warm, low, high]],
        "trajectories": {
            "offset_noise": 0.1,
            "ism_stride": guidance.xs_delta_t,
            "ism_max_steps": guidance.xs_inv_steps,
            "ism_interval": guidance.delta_t,
            "ism_interval_start": (
                guidance.delta_t_start if guidance.annealing_intervals else guidance.delta_t
            ),
            "ism_warmup": warm,
            "ism_reverse_scale": guidance.denoise_guidance_scale,
        },
        "prompts": {
            "negative": guidance.negative,
            "perp_neg": guidance.perpneg,
            "perp_neg_weights": {
                "strength": guidance.negative_w,
                "front_decay": guidance.front_decay_factor,
                "side_decay": guidance.side_decay_factor,
            },
        },
        "flip": 0.5,
        "depth_as_latents": optimization.as_latent_ratio,
        "sample_posterior": True,
        "views_per_pass": 1 if guidance.vram_O else None,
    }


def _initialize(model: SimpleNamespace, cameras: SimpleNamespace) -> dict[str, Any]:
    if cameras.init_shape not in SHAPES:
        near = nearest(cameras.init_shape, list(SHAPES))
        raise UserError(f"GenerateCamParams.init_shape={cameras.init_shape!r} is unknown{near}")
    shape, box = SHAPES[cameras.init_shape]
    start: dict[str, Any] = {
        "shape": shape,
        "num_points": cameras.init_num_pts,
        "keep_colors": cameras.use_pointe_rgb,
        "sh_degree": model.sh_degree,
    }
    if box is not None:
        start["box"] = list(box)
    if shape == "text":
        start |= {
            "text": cameras.init_prompt,
            "num_points": round(cameras.init_num_pts * POINTE_SHARE),
            "spread": 0.05,
        }
    if cameras.init_shape == "scene":
        start["radius"] = 3 * max(cameras.radius_range) + 0.5
    if model.pretrained_model_path:
        start |= {"shape": "splat", "file": model.pretrained_model_path}
    return start


def _viewpoints(
    guidance: SimpleNamespace, cameras: SimpleNamespace, optimization: SimpleNamespace, source: str
) -> dict[str, Any]:
    if cameras.image_w != cameras.image_h:
        raise UserError(
            f"{source}: image_w={cameras.image_w} and image_h={cameras.image_h}; views are square"
            " here"
        )
    jitter = float(cameras.jitter_pose)
    every = (
        0.0
        if optimization.use_progressive
        else _share(optimization.scale_up_cameras_iter, optimization)
    )
    return {
        "num_views": guidance.C_batch_size,
        "image_size": cameras.image_w,
        "radius": cameras.radius_range,
        "fov_y_deg": _degrees(cameras.fovy_range),
        "polar_deg": cameras.theta_range,
        "azimuth_deg": cameras.phi_range,
        "angle_gamma": cameras.rand_cam_gamma,
        "jitter_position": jitter * cameras.jitter_center,
        "jitter_target": jitter * cameras.jitter_target,
        "jitter_up": jitter * cameras.jitter_up,
        "widening": {
            "every_share": every,
            "radius_factor": optimization.scale_up_factor,
            "radius_limits": cameras.max_radius_range,
            "fov_factors": optimization.fovy_scale_up_factor,
            "fov_limits_deg": _degrees(cameras.max_fovy_range),
            "angle_factor": optimization.phi_scale_up_factor,
            "polar_limits_deg": cameras.max_theta_range,
            "azimuth_limits_deg": cameras.max_phi_range,
        },
    }


def _degrees(range_rad: list[float]) -> list[float]:
    return [tidy(math.degrees(end)) for end in range_rad]


def _share(iteration: int | float, optimization: SimpleNamespace) -> float:
    """The share of the run that lies behind an iteration of the file."""
    return tidy(min(iteration / max(optimization.iterations, 1), 1.0))


def _augment(model: SimpleNamespace) -> dict[str, Any]:
    """Half of the replaced backgrounds are random, half black; the rest keeps the plain one (white
    unless told)."""
    random = model.bg_aug_ratio / 2
    black = random if model._white_background else 1 - random
    return {
        "background_random": random,
        "background_black": black,
        "scale_noise": 0.1118 if model.scale_aug_ratio else 0.0,
    }


def _optimizer(optimization: SimpleNamespace, cameras: SimpleNamespace) -> dict[str, Any]:
    """The means' rates are times the scene's extent, which is `default_radius` there."""
    extent, feature = cameras.default_radius, optimization.feature_lr
    return {
        "means": [
            tidy(optimization.position_lr_init * extent),
            tidy(optimization.position_lr_final * extent),
        ],
        "log_scales": [optimization.scaling_lr, optimization.scaling_lr_final],
        "quats_wxyz": [optimization.rotation_lr, optimization.rotation_lr_final],
        "logit_opacities": [optimization.opacity_lr, optimization.opacity_lr],
        "sh_dc": [feature, optimization.feature_lr_final],
        "sh_rest": [feature / 20, feature / 20],
    }


def _regularize(optimization: SimpleNamespace, absolute: bool) -> dict[str, Any]:
    unit = 1.0 if absolute else RATIO

    def knots(weight: float) -> list[list[float]]:
        return [[0.0, weight * unit]] if weight else []

    return {
        "units": "absolute" if absolute else "ratio",
        "tv_rgb": knots(optimization.lambda_tv),
        "tv_disparity": knots(optimization.lambda_tv),
        "scale": knots(optimization.lambda_scale),
    }


def _densify(
    optimization: SimpleNamespace, cameras: SimpleNamespace, absolute: bool
) -> dict[str, Any]:
    """Its test is `iteration > densify_from_iter and iteration % densification_interval == 0`."""
    return {
        "every": max(round(optimization.densification_interval), 1),
        "start_share": _share(optimization.densify_from_iter + 1, optimization),
        "stop_share": min(_share(optimization.densify_until_iter, optimization), LAST_GROWTH),
        "select": "absolute" if absolute else "quantile",
        "threshold": optimization.densify_grad_threshold,
        "split_above": tidy(optimization.percent_dense * cameras.default_radius),
        "prune_scale": tidy(0.1 * cameras.default_radius),
        "prune_scale_after_share": _share(optimization.opacity_reset_interval, optimization),
        "reset_every": optimization.opacity_reset_interval,
    }


def _output(
    top: SimpleNamespace,
    guidance: SimpleNamespace,
    cameras: SimpleNamespace,
    optimization: SimpleNamespace,
) -> dict[str, Any]:
    level = float(cameras.default_polar)
    return {
        "preview_every": guidance.vis_interval,
        "turntable_frames": 120 if top.save_video else 0,
        "turntable_size": cameras.image_w,
        "polar_deg": [level, level * 2 // 3] if cameras.render_45 else [level],
        "radius": cameras.default_radius,
        "fov_y_deg": _degrees([cameras.default_fovy])[0],
        "depth": True,
        "test_views": 8,
        "process_frames": optimization.pro_frames_num if optimization.save_process else 0,
    }
