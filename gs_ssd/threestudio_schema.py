"""What threestudio's files may say (its commit 28d9d80), for the three systems whose first stage is
a radiance field: names, built-in defaults, and what becomes of each here.

`LIVE` is mapped by `threestudio_yaml.py`; `UNSUPPORTED` works there and not here, and stands with
the only value that loads without a word; `DEAD` changes nothing here.
"""

from typing import Any

METHODS = {"stable-diffusion-guidance": "SDS", "stable-diffusion-vsd-guidance": "VSD"}
"""The method of each kind of guidance."""

OF_VSD = {
    "guidance_scale": 7.5,
    "pretrained_model_name_or_path": "stabilityai/stable-diffusion-2-1-base",
}
"""What the defaults of VSD's guidance have otherwise."""

TYPES: dict[str, tuple[str, ...]] = {
    "data_type": ("random-camera-datamodule",),
    "system_type": ("dreamfusion-system", "magic3d-system", "prolificdreamer-system"),
    "system.geometry_type": ("implicit-volume",),
    "system.material_type": ("no-material", "diffuse-with-point-light-material"),
    "system.background_type": ("neural-environment-map-background", "solid-color-background"),
    "system.renderer_type": ("nerf-volume-renderer",),
    "system.prompt_processor_type": ("stable-diffusion-prompt-processor",),
    "system.guidance_type": tuple(METHODS),
}
"""Classes that a file names, and those of them that have a counterpart here."""

LIVE: dict[str, dict[str, Any]] = {
    "": {"seed": 0},
    "data": {
        "height": 64, "width": 64, "batch_size": 1, "resolution_milestones": None,
        "eval_height": 512, "eval_width": 512, "n_test_views": 120,
        "elevation_range": [-10, 90], "azimuth_range": [-180, 180],
        "camera_distance_range": [1.0, 1.5], "fovy_range": [40, 70], "camera_perturb": 0.1,
        "center_perturb": 0.2, "up_perturb": 0.02, "eval_elevation_deg": 15.0,
        "eval_camera_distance": 1.5, "eval_fovy_deg": 70.0, "batch_uniform_azimuth": True,
    },
    "system": {},
    "system.geometry": {
        "radius": 1.0, "normal_type": "finite_difference", "density_blob_scale": 10.0,
        "density_blob_std": 0.5,
    },
    "system.geometry.pos_encoding_config": {
        "otype": "HashGrid", "n_levels": 16, "log2_hashmap_size": 19, "base_resolution": 16,
        "per_level_scale": 1.447269237440378, "start_level": 8, "start_step": 2000,
        "update_steps": 500,
    },
    "system.geometry.mlp_network_config": {"n_neurons": 64},
    "system.material": {},
    "system.background": {
        "random_aug": False, "random_aug_prob": 0.5, "learned": False, "color": [1.0, 1.0, 1.0],
    },
    "system.renderer": {"num_samples_per_ray": 512},
    "system.prompt_processor": {"prompt": "", "negative_prompt": "", "use_perp_neg": False},
    "system.guidance": {
        "pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5",
        "guidance_scale": 100.0, "weighting_strategy": "sds",
        "half_precision_weights": True, "min_step_percent": 0.02, "max_step_percent": 0.98,
        "view_dependent_prompting": True,
    },
    "system.loss": {
        "lambda_sds": 1.0, "lambda_vsd": 1.0, "lambda_orient": 0.0, "lambda_sparsity": 0.0,
        "lambda_opaque": 0.0,
    },
    "system.optimizer": {"name": "Adam"},
    "system.optimizer.args": {"lr": 0.001, "weight_decay": None},
    "system.optimizer.params": {},
    "system.loggers": {},
    "system.loggers.wandb": {"enable": False, "project": "threestudio"},
    "trainer": {"max_steps": 10_000, "log_every_n_steps": 50, "val_check_interval": None},
    "checkpoint": {"save_last": False, "every_n_train_steps": None},
}  # fmt: skip
"""Section -> name -> the default that holds where a file leaves it out."""

LAWS = frozenset(
    {f"system.loss.lambda_{name}" for name in ("orient", "sparsity", "opaque")}
    | {f"system.guidance.{end}_step_percent" for end in ("min", "max")}
)
"""Numbers that may change in the course of a run: [first step, value, value, last step]."""

SIZES = frozenset({"data.height", "data.width", "data.batch_size"})
"""Whole numbers, or lists of them, one a stage of `resolution_milestones`."""

RATES = (
    "geometry", "geometry.encoding", "geometry.density_network", "geometry.feature_network",
    "background", "guidance",
)  # fmt: skip
"""Parts that may have a learning rate of their own in system.optimizer.params."""

UNSUPPORTED: dict[str, dict[str, Any]] = {
    "": {"resume": None},
    "data": {"progressive_until": 0, "rays_d_normalize": True},
    "system": {
        "stage": "coarse", "refinement": False, "weights": None, "weights_ignore_modules": None,
        "scheduler": None, "geometry_convert_from": None,
    },
    "system.geometry": {
        "n_input_dims": 3, "n_feature_dims": 3, "density_activation": "softplus",
        "density_bias": "blob_magic3d", "anneal_density_blob_std_config": None,
    },
    "system.geometry.pos_encoding_config": {"n_features_per_level": 2, "include_xyz": False},
    "system.geometry.mlp_network_config": {
        "otype": "VanillaMLP", "activation": "ReLU", "output_activation": "none",
        "n_hidden_layers": 1,
    },
    "system.material": {
        "n_output_dims": 3, "color_activation": "sigmoid", "albedo_activation": "sigmoid",
        "input_feature_dims": None, "mlp_network_config": None,
    },
    "system.background": {
        "n_output_dims": 3, "color_activation": "sigmoid", "dir_encoding_config": None,
        "mlp_network_config": None, "eval_color": None,
    },
    "system.renderer": {
        "randomized": True, "near_plane": 0.0, "far_plane": 1e10, "estimator": "occgrid",
        "grid_prune": True, "prune_alpha_threshold": True, "radius": None,
    },
    "system.prompt_processor": {
        "prompt_front": None, "prompt_side": None, "prompt_back": None, "prompt_overhead": None,
        "use_prompt_debiasing": False, "prompt_debiasing_mask_ids": None,
    },
    "system.guidance": {
        "grad_clip": None, "sqrt_anneal": False, "use_img_loss": False, "use_sjc": False,
        "token_merging": False, "guidance_scale_lora": 1.0,
    },
    "system.loss": {"lambda_z_variance": 0.0},
    "system.optimizer.args": {"betas": [0.9, 0.99], "eps": 1e-15, "amsgrad": False},
    "trainer": {"accumulate_grad_batches": 1, "gradient_clip_val": None},
}  # fmt: skip

DEAD: dict[str, tuple[str, ...]] = {
    "": (
        "name", "tag", "description", "exp_root_dir", "use_timestamp", "timestamp", "exp_dir",
        "trial_name", "trial_dir", "n_gpus",
    ),
    "data": (
        "light_position_perturb", "light_distance_range", "light_sample_strategy",
        "eval_batch_size", "n_val_views",
    ),
    "system": (
        "exporter_type", "exporter", "cleanup_after_validation_step", "cleanup_after_test_step",
        "visualize_samples", "geometry_convert_inherit_texture", "geometry_convert_override",
    ),
    "system.geometry": (
        "finite_difference_normal_eps", "isosurface", "isosurface_method",
        "isosurface_resolution", "isosurface_threshold", "isosurface_chunk",
        "isosurface_coarse_to_fine", "isosurface_deformable_grid", "isosurface_remove_outliers",
        "isosurface_outlier_n_faces_threshold",
    ),
    "system.material": (
        "requires_normal", "ambient_only_steps", "ambient_light_color", "diffuse_light_color",
        "diffuse_prob", "textureless_prob", "soft_shading", "ambient_only_on_test",
    ),
    "system.renderer": (
        "eval_chunk_size", "return_comp_normal", "return_normal_perturb",
        "proposal_network_config", "prop_optimizer_config", "prop_scheduler_config",
        "num_samples_per_ray_proposal", "num_samples_per_ray_importance",
    ),
    "system.prompt_processor": (
        "pretrained_model_name_or_path", "overhead_threshold", "front_threshold",
        "back_threshold", "view_dependent_prompt_front", "use_cache", "spawn",
        "perp_neg_f_sb", "perp_neg_f_fsb", "perp_neg_f_fs", "perp_neg_f_sf",
        "pretrained_model_name_or_path_prompt_debiasing",
    ),
    "system.guidance": (
        "pretrained_model_name_or_path_lora", "enable_memory_efficient_attention",
        "enable_sequential_cpu_offload", "enable_attention_slicing",
        "enable_channels_last_format", "trainer_max_steps", "var_red", "token_merging_params",
        "max_items_eval", "lora_cfg_training", "lora_n_timestamp_samples",
        "camera_condition_type",
    ),
    "system.loss": ("lambda_lora",),
    "system.loggers.wandb": ("name",),
    "trainer": (
        "num_sanity_val_steps", "enable_progress_bar", "precision", "max_epochs", "devices",
        "accelerator", "strategy", "benchmark", "deterministic", "enable_model_summary",
        "inference_mode", "limit_val_batches", "check_val_every_n_epoch",
    ),
    "checkpoint": (
        "save_top_k", "every_n_epochs", "filename", "dirpath", "monitor", "mode", "verbose",
        "save_weights_only",
    ),
}  # fmt: skip

SUBSECTIONS = {
    section: tuple(
        name.removeprefix(f"{section}." if section else "")
        for name in LIVE
        if name and name.rpartition(".")[0] == section
    )
    for section in LIVE
}
"""Section -> the names in it that are sections themselves."""
