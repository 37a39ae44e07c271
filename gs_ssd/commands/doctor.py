"""`gs-ssd doctor`: what is installed, which backend will run and why, and what is missing."""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gs_ssd
from gs_ssd.errors import UserError
from gs_ssd.native import native
from gs_ssd.render import device as rendering_device

_REQUIRED = (
    "numpy",
    "scipy",
    "diffusers",
    "transformers",
    "safetensors",
    "omegaconf",
    "pydantic",
    "plyfile",
    "pillow",
    "imageio-ffmpeg",
    "fastapi",
    "uvicorn",
)
_OPTIONAL = {
    "open3d": ("mesh", "meshes and mesh start shapes"),
    "trimesh": ("mesh", "mesh files (.glb)"),
    "usd-core": ("usd", "OpenUSD files"),
    "peft": ("lora", "guidance.estimator=vsd"),
    "tensorboard": ("logging", "TensorBoard logs"),
}
_NEVER_RUN = {
    "Stable Diffusion": "weights: gs-ssd check-model",
    "LoRA, ControlNet, tiny VAE": "files: prior.lora, prior.controlnet, prior.tiny_vae",
    "Shap-E": "weights: initialize.shape=text",
}
_MODULES = {"pillow": "PIL", "imageio-ffmpeg": "imageio_ffmpeg", "usd-core": "pxr"}


class Finding(NamedTuple):
    """One line of the report: `state` is "ok", "note" (optional thing absent) or "bad" (training
    cannot run)."""

    state: str
    name: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor takes no options."""
    parser.epilog = (
        "Exit code 0: training can run on this machine. 2: something it needs is missing."
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; 0 if training can run here, else 2."""
    del args
    marks = {"ok": "ok  ", "note": "--  ", "bad": "BAD "}
    bad = 0
    for title, section in _SECTIONS.items():
        print(f"{title}")
        for finding in section():
            bad += finding.state == "bad"
            print(f"  {marks[finding.state]}{finding.name:<28}{finding.text}")
    print(
        "Training can run here."
        if not bad
        else f"Training cannot run: {bad} thing(s) above must be fixed."
    )
    return 2 if bad else 0


def _machine() -> Iterator[Finding]:
    yield Finding("ok", "gs-ssd", f"{gs_ssd.__version__} at {Path(gs_ssd.__file__).parent}")
    yield Finding(
        "ok" if sys.version_info >= (3, 11) else "bad",
        "python",
        f"{platform.python_version()} (3.11 or newer)",
    )
    yield Finding(
        "ok", "machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    )
    if importlib.util.find_spec("torch") is None:
        yield Finding("bad", "torch", "not installed; `make setup`, or pip install torch")
        return
    torch = importlib.import_module("torch")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Finding("ok", "torch", f"{torch.__version__}, {built}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            yield Finding(
                "ok",
                f"cuda:{index}",
                f"{properties.name}, {memory:.0f} GiB, sm_{properties.major}{properties.minor}",
            )
    else:
        yield Finding("note", "GPU", "none that torch can use; everything runs on the CPU")
    yield Finding(*_nvcc())


def _nvcc() -> tuple[str, str, str]:
    path = shutil.which("nvcc")
    if path is None:
        return "note", "nvcc", "not on the PATH; needed only to build the rasterizer's CUDA backend"
    try:
        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return "note", "nvcc", f"{path} does not run: {error}"
    release = next(
        (line.strip() for line in text.splitlines() if "release" in line), "version unknown"
    )
    return "ok", "nvcc", release


def _packages() -> Iterator[Finding]:
    for name in ("diff_gaussian_rasterization", "simple_knn", "hash_grid_encoding"):
        try:
            module = native(name)
        except UserError as error:
            yield Finding("bad", name, str(error))
            continue
        if name != "diff_gaussian_rasterization":
            yield Finding("ok", name, _version(name.replace("_", "-")))
            continue
        backends = module.available_backends()
        text = f"{_version(name.replace('_', '-'))}, backends: {', '.join(backends)}"
        if "cuda" not in backends and _has_gpu():
            yield Finding(
                "bad",
                name,
                f"{text}; there is a GPU: {rendering_device.GET_CUDA}, or train with device=cpu",
            )
        else:
            yield Finding("ok", name, text)
    for name in _REQUIRED:
        present = importlib.util.find_spec(_MODULES.get(name, name)) is not None
        yield Finding(
            "ok" if present else "bad",
            name,
            _version(name) if present else f"missing; pip install {name}",
        )


def _has_gpu() -> bool:
    return (
        importlib.util.find_spec("torch") is not None
        and importlib.import_module("torch").cuda.is_available()
    )


def _extras() -> Iterator[Finding]:
    for name, (extra, purpose) in _OPTIONAL.items():
        if importlib.util.find_spec(_MODULES.get(name, name)) is None:
            yield Finding("note", name, f"absent ({purpose}); pip install 'gs-ssd[{extra}]'")
        else:
            yield Finding("ok", name, f"{_version(name)} ({purpose})")
    for program, purpose in (
        ("node", ".sog and .compressed.ply files"),
        ("chromium", "browser tests"),
    ):
        path = shutil.which(program)
        yield Finding("ok" if path else "note", program, f"{path or 'absent'} ({purpose})")


def _models() -> Iterator[Finding]:
    bundled = Path(gs_ssd.__file__).parent / "prior" / "bundled"
    if (bundled / "model_index.json").is_file():
        size = sum(file.stat().st_size for file in bundled.rglob("*") if file.is_file()) / 2**20
        yield Finding("ok", "bundled prior", f"{size:.1f} MiB at {bundled}")
    else:
        yield Finding(
            "bad",
            "bundled prior",
            f"no weights at {bundled}; reinstall, or run tools/train_prior.py",
        )
    for name, next_step in _NEVER_RUN.items():
        yield Finding(
            "note",
            name,
            f"code tested with small random models only, never yet run with real {next_step}",
        )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


_SECTIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Machine": _machine,
    "Packages": _packages,
    "Models": _models,
    "Extras": _extras,
}
