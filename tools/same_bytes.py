"""Does a change leave every number as it was? Trains seven small runs and prints the SHA-256 of
each splat.

    OMP_NUM_THREADS=1 python tools/same_bytes.py --out out/before > before.txt    (old code)
    OMP_NUM_THREADS=1 python tools/same_bytes.py --out out/after | diff before.txt -  (new code)

The runs go through `train.py` alone, so the tool does not care how the code behind it is arranged.
Hashes agree on one machine with the same packages and the same number of threads; between machines
the last bits of a sum differ.
"""

import argparse
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUIET = ["output.turntable_frames=0", "output.preview_every=0", "device=cpu"]

LUCID = {
    "seed": 0,
    "ModelParams": {"sh_degree": 0, "bg_aug_ratio": 0.66},
    "GuidanceParams": {
        "model_key": "stabilityai/stable-diffusion-2-1-base", "text": "a red mug.", "perpneg": True,
        "negative": "ugly.", "inverse_text": "", "C_batch_size": 4, "t_range": [0.02, 0.5],
        "max_t_range": 0.98, "guidance_scale": 7.5, "denoise_guidance_scale": 1.0,
        "annealing_intervals": True, "delta_t": 50, "delta_t_start": 100, "xs_delta_t": 200,
        "xs_inv_steps": 5, "xs_eta": 0.0,
    },
    "GenerateCamParams": {"init_shape": "sphere", "init_prompt": ".", "init_num_pts": 500},
    "OptimizationParams": {
        "iterations": 40, "warmup_iter": 12, "densify_from_iter": 5, "densify_until_iter": 30,
        "densification_interval": 5, "opacity_reset_interval": 10, "progressive_view_iter": 8,
        "scale_up_cameras_iter": 8, "pro_frames_num": 0,
    },
}  # fmt: skip
"""A LucidDreamer file of its usual shape (ISM, Perp-Neg, adaptive densification), a hundred times
shorter."""

EVERY_TERM = [
    *("initialize.sh_degree=1", "regularize.tv_rgb=[[0,0.1]]", "regularize.tv_disparity=[[0,0.1]]"),
    *("regularize.flat=[[0,0.1]]", "regularize.scale=[[0,0.1]]", "regularize.opacity=[[0,0.1]]"),
    *("finish.steps=12", "finish.image_size=64", "optimizer.reach=0.9"),
]


def cases(folder: Path, bundled: str) -> dict[str, tuple[list[str], int]]:
    """Arguments of `train.py` by the run's name, and the step after which it is interrupted and
    resumed (0: never)."""
    smoke, quickstart = (["--config", f"configs/{name}.yaml"] for name in ("smoke", "quickstart"))
    short = [*quickstart, f"prior.model={bundled}", "num_steps=40", "finish.steps=20", *QUIET]
    mcmc = [
        "densify.policy=mcmc",
        "densify.mcmc.every=5",
        "densify.mcmc.budget=330",
        "densify.mcmc.noise=1e3",
    ]
    tiny = [
        "--config",
        str(folder / "lucid.json"),
        f"prior.model={folder / 'tiny'}",
        "viewpoints.image_size=64",
    ]
    return {
        "quickstart": (short, 0),
        "quickstart_resumed": (short, 15),
        "smoke": ([*smoke, *QUIET], 0),
        "lucid_dreamer": ([*tiny, *QUIET], 0),
        "mcmc": ([*smoke, *mcmc, *QUIET], 0),
        "adaptive_every_term": ([*smoke, *EVERY_TERM, *QUIET], 0),
        "vsd_resumed": ([*smoke, "guidance.estimator=vsd", *QUIET], 10),
    }


def train(arguments: list[str], out: Path, stop_after: int) -> None:
    """One run to its end; with `stop_after`, one that gets Ctrl-C after that many steps and is
    resumed."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "--out", str(out)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **os.environ}
    log = out.with_suffix(".log")
    with log.open("w") as sink:
        start = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
        if stop_after:
            metrics = out / "metrics.jsonl"
            while start.poll() is None and not (
                metrics.is_file() and metrics.read_text().count("\n") >= stop_after
            ):
                time.sleep(0.01)
            start.send_signal(signal.SIGINT)
            if start.wait() != 128 + signal.SIGINT:
                sys.exit(f"{out.name}: not interrupted, see {log}")
            start = subprocess.Popen(
                [*command, "--resume"], cwd=ROOT, env=environment, stdout=sink, stderr=sink
            )
        if start.wait():
            sys.exit(f"{out.name}: failed, see {log}")


def main() -> None:
    """Run the cases and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where the runs go; must not exist")
    parser.add_argument(
        "--prior", default="bundled", help="folder of a bundled prior (default: the program's own)"
    )
    parser.add_argument("--only", nargs="*", help="names of cases")
    args = parser.parse_args()
    folder = args.out.resolve()
    folder.mkdir(parents=True)
    sys.path.insert(0, str(ROOT / "tests" / "prior"))
    tiny_diffusion = importlib.import_module("tiny_diffusion")
    tiny_diffusion.pipeline(folder / "words").save_pretrained(folder / "tiny")
    (folder / "lucid.json").write_text(json.dumps(LUCID))  # JSON is YAML
    for name, (arguments, stop_after) in cases(folder, args.prior).items():
        if args.only and name not in args.only:
            continue
        train(arguments, folder / name, stop_after)
        splat = (folder / name / "point_cloud.ply").read_bytes()
        print(f"{hashlib.sha256(splat).hexdigest()}  {name}", flush=True)


if __name__ == "__main__":
    main()
