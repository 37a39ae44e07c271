"""threestudio's three files, their methods run for a few steps through `gs-ssd train` on a random
Stable Diffusion: a checkpoint, a page, a resumed run."""

import json

import pytest
import torch
import yaml

from gs_ssd import cli

pytest.importorskip("diffusers")
pytest.importorskip("hash_grid_encoding")

GRID = {
    "n_levels": 4, "n_features_per_level": 2, "log2_hashmap_size": 9, "base_resolution": 4,
    "per_level_scale": 1.5,
}  # fmt: skip
PROGRESSIVE = {"otype": "ProgressiveBandHashGrid", "start_level": 2, "start_step": 1,
               "update_steps": 1}  # fmt: skip
PLAIN = {"otype": "HashGrid"}
FILES = {
    "dreamfusion-sd": ("sds", "dreamfusion-system", "stable-diffusion-guidance", PROGRESSIVE),
    "magic3d-coarse-sd": ("sds", "magic3d-system", "stable-diffusion-guidance", PLAIN),
    "prolificdreamer": ("vsd", "prolificdreamer-system", "stable-diffusion-vsd-guidance", PLAIN),
}


def file_of(name, model, tmp_path):
    """The threestudio file of that name, at a size for tests; its estimator."""
    method, system, guidance, encoding = FILES[name]
    shaded = name != "prolificdreamer"
    kind = "diffuse-with-point-light" if shaded else "no"
    orient = [0, 10.0, 1000.0, 2] if shaded else 0.0
    parts = ["encoding", "density_network", "feature_network"]
    rates = {"geometry": 0.01} if shaded else {f"geometry.{part}": 0.01 for part in parts}
    rates |= {"background": 0.001} | ({} if shaded else {"guidance": 0.0001})
    content = {
        "name": name, "data_type": "random-camera-datamodule", "system_type": system,
        "data": {"batch_size": 2, "width": 16, "height": 16, "camera_distance_range": [1.5, 2.0],
                 "elevation_range": [-10, 45], "n_test_views": 4, "eval_height": 32,
                 "eval_width": 32},
        "system": {
            "geometry_type": "implicit-volume",
            "geometry": {"radius": 1.5, "normal_type": "analytic" if shaded else None,
                         "pos_encoding_config": GRID | encoding},
            "material_type": f"{kind}-material",
            "background_type": "neural-environment-map-background",
            "renderer_type": "nerf-volume-renderer",
            "renderer": {"radius": "${system.geometry.radius}", "num_samples_per_ray": 24},
            "prompt_processor_type": "stable-diffusion-prompt-processor",
            "prompt_processor": {"pretrained_model_name_or_path": str(model), "prompt": "???"},
            "guidance_type": guidance,
            "guidance": {"pretrained_model_name_or_path": str(model)},
            "loss": {"lambda_orient": orient, "lambda_sparsity": 1.0, "lambda_opaque": 0.0},
            "optimizer": {"name": "AdamW", "params": {k: {"lr": v} for k, v in rates.items()}},
        },
        "trainer": {"max_steps": 3, "val_check_interval": 200, "log_every_n_steps": 1},
        "checkpoint": {"save_last": True, "every_n_train_steps": "${trainer.max_steps}"},
    }  # fmt: skip
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path, method


@pytest.mark.parametrize(
    ("name", "own"), [*((name, True) for name in FILES), ("prolificdreamer", False)]
)
def test_it_runs_to_a_page_and_goes_on(name, own, tiny_stable_diffusion, tmp_path, capsys, caplog):
    path, method = file_of(name, tiny_stable_diffusion, tmp_path)
    out = tmp_path / "out"
    words = ["--config", str(path), "--prompt", "a red mug", "nerf.conversion.steps=0",
             "output.turntable_frames=0"]  # fmt: skip
    words += [f"guidance.estimator={method}"] if own else []
    assert cli.main(["train", *words, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["grad_norm"] > 0 and row["bad_steps"] == 0 for row in rows)
    assert ("orientation" in rows[-1]) == (name != "prolificdreamer")
    for left in ("index.html", "point_cloud.ply", "views.png"):
        assert (out / left).stat().st_size > 1000
    (saved,) = (out / "checkpoints").glob("*.pt")
    state = torch.load(saved, weights_only=True)["state"]
    assert all(t.isfinite().all() for t in state["asset"]["parameters"].values())
    assert bool(state["guidance"]) == (own and method == "vsd")  # the critic is saved with it
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["guidance"]["estimator"] == (method if own else "ssd")
    assert cli.main(["train", "--resume", "--out", str(out), "num_steps=4"]) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 4
    said = capsys.readouterr().err + caplog.text
    assert ("are not shaded" in said) == (name != "prolificdreamer")
