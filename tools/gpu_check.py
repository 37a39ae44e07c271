"""Everything that only a GPU can say, in one command of under ten minutes: builds the CUDA code,
tests it against the reference, and measures it.

python tools/gpu_check.py               build, check, benchmark; writes out/gpu_check/report.md
python tools/gpu_check.py --sanitizers  also compute-sanitizer's four tools (five minutes at most)
python tools/gpu_check.py --gsplat      also gsplat's CUDA kernels, where gsplat is installed
python tools/gpu_check.py --rehearse    the same steps, tiny, on the CPU's emulation (no GPU needed)

Needs CUDA (driver and nvcc), torch and numpy; the training steps also gs-ssd's own dependencies,
and are left out without them. Nothing is installed and nothing outside the output folder is
written.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from gpu_steps import Stopwatch, benchmark_scene, gsplat_step, measure, our_step
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
RASTERIZER = ROOT / "submodules" / "diff-gaussian-rasterization"
SIZES = tuple(
    (n, size, views) for n in (100_000, 1_000_000) for size in (512, 1024) for views in (1, 4)
)
REHEARSED_SIZES = ((300, 48, 1), (300, 48, 2))
# compute-sanitizer's tools with their own options, and the checks that they watch; racecheck, by
# far the slowest, watches the one of a single scene. The host emulation has seen the sources pass,
# these see what nvcc made of them.
SANITIZERS = {
    "memcheck": (("--report-api-errors", "no"), ("check_long_lists", "check_large_splats")),
    "synccheck": ((), ("check_long_lists", "check_large_splats")),
    "initcheck": ((), ("check_long_lists", "check_large_splats")),
    "racecheck": ((), ("check_equal_depths_keep_their_order",)),
}
SANITIZER_SECONDS = 75  # for each


@dataclass(frozen=True)
class Setting:
    """What every section gets."""

    device: str
    out: Path
    rehearse: bool
    sanitizers: bool
    gsplat: bool


@dataclass
class Section:
    """What a section found.

    `failed` counts what went wrong; `data` goes to the JSON, `markdown` to the report."""

    title: str
    markdown: str = ""
    failed: int = 0
    data: dict[str, Any] = field(default_factory=dict)


def module_from(path: Path) -> ModuleType:
    """Imports a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def output_of(*command: str) -> str:
    """A command's output in one piece; a short remark where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({error})"
    return (done.stdout or done.stderr).strip()


def environment(setting: Setting) -> Section:
    """The machine and the versions."""
    data = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.processor(),
    }
    if setting.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        data |= {
            "gpu": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "driver": output_of(
                "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"
            ),
            "nvcc": " ".join(output_of("nvcc", "--version").splitlines()[-1:]),
        }
    commit = output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    data["commit"] = commit
    return Section(
        "Machine", "\n".join(f"- {name}: {value}" for name, value in data.items()), data=data
    )


def build(setting: Setting) -> Section:
    """Compiles the backend into a copy of the package under the output folder and makes that copy
    importable."""
    start = time.perf_counter()
    package = setting.out / "package" / "diff_gaussian_rasterization"
    shutil.rmtree(package.parent, ignore_errors=True)
    shutil.copytree(
        RASTERIZER / "src" / package.name,
        package,
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    if setting.rehearse:
        sys.path.insert(0, str(RASTERIZER / "tests"))
        library = importlib.import_module("emulated").build_backend(package)
        library.rename(package / "libdgr_cpu.so")
        architecture = "host emulation"
    else:
        compiler = module_from(RASTERIZER / "csrc" / "cuda" / "compile.py")
        architecture = "{}{}".format(*torch.cuda.get_device_capability())
        compiler.compile_library(
            compiler.find_nvcc(), (architecture,), package / "libdgr_cuda.so", jobs=6
        )
    for folder in (package.parent, RASTERIZER / "tests", RASTERIZER / "tests" / "cuda"):
        sys.path.insert(0, str(folder))
    backend = importlib.import_module("diff_gaussian_rasterization.native").library(setting.device)
    data = {"architecture": architecture, "seconds": round(time.perf_counter() - start, 1)}
    name = backend.dgr_backend_name().decode()
    return Section(
        "Build", f"Backend {name!r} for {architecture} in {data['seconds']} s.", data=data
    )


def check(setting: Setting) -> Section:
    """Every check of tests/cuda: against the float64 reference and, on a GPU, of streams, devices
    and graphs."""
    section = Section("Checks, most of them against the float64 reference")
    checks = importlib.import_module("checks").ALL_CHECKS
    if setting.device == "cuda":
        checks += importlib.import_module("device_checks").DEVICE_CHECKS
    rows = ["| check | result | s |", "|---|---|---|"]
    for function in checks:
        start = time.perf_counter()
        try:
            left_out = function(setting.device)
            result = f"left out: {left_out}" if left_out else "passed"
        except Exception as error:
            traceback.print_exc()
            section.failed += 1
            result = f"FAILED: {type(error).__name__}: {error}"
        name = function.__name__.removeprefix("check_").replace("_", " ")
        section.data[name] = result
        rows.append(f"| {name} | {result} | {time.perf_counter() - start:.1f} |")
    section.markdown = "\n".join(rows)
    return section


def benchmark(setting: Setting) -> Section:
    """Forward and backward, 100k and 1M splats, 512 and 1024 pixels, one and four views."""
    section = Section("Forward and backward (ms, median; RGB, alpha, depth; all gradients)")
    rows: list[dict[str, Any]] = []
    remark = gsplat_remark(setting.device) if setting.gsplat else ""
    for count, size, views in REHEARSED_SIZES if setting.rehearse else SIZES:
        scene = benchmark_scene(count, views, setting.device)
        row: dict[str, Any] = {"splats": count, "pixels": size, "views": views} | our_figures(
            setting, scene, size
        )
        rows.append(row)
        if setting.gsplat and not remark:
            try:
                row["gsplat together"] = sum(measure(gsplat_step(scene, size), setting.device, 20))
                row["gsplat / ours"] = row["gsplat together"] / row["together"]
            except Exception as error:  # whatever it is, our figures stay
                remark = (
                    f"gsplat stopped at {count:,} splats, {size} pixels, {views} views:"
                    f" {named(error)}"
                )
        print(row, flush=True)
    section.data |= {"rows": rows, "gsplat": remark}
    section.markdown = table(rows) + (f"\n\n{remark}" if remark else "")
    return section


def our_figures(setting: Setting, scene: dict[str, Tensor], size: int) -> dict[str, float]:
    """Milliseconds and, on a GPU, the memory at most in use beyond the scene."""
    before = 0
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    forward, backward = measure(
        our_step(scene, size), setting.device, 2 if setting.rehearse else 20
    )
    figures = {"forward": forward, "backward": backward, "together": forward + backward}
    if setting.device == "cuda":
        figures["peak MiB"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return figures


def gsplat_remark(device: str) -> str:
    """Why gsplat cannot be measured; empty where it can. Its first step may compile its kernels."""
    try:
        gsplat_step(benchmark_scene(100, 1, device), 64)(Stopwatch(device))
    except Exception as error:
        return f"gsplat is left out: {named(error)}"
    return ""


def named(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def table(rows: list[dict[str, Any]]) -> str:
    """A markdown table with the columns of all rows; what a row lacks stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(name, "")) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: object) -> str:
    """A number as it is read best; anything else as it is."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def kernels(setting: Setting) -> Section:
    """Where the time goes: the profiler's total per kernel at 100k splats, 512 pixels, four
    views."""
    section = Section("Kernels (microseconds per step at 100k splats, 512 pixels, 4 views)")
    if setting.device != "cuda":
        section.markdown = "Left out: no GPU."
        return section
    step = our_step(benchmark_scene(100_000, 4, "cuda"), 512)
    step(Stopwatch("cuda"))
    repetitions = 5
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repetitions):
            step(Stopwatch("cuda"))
        torch.cuda.synchronize()
    events = list(profile.key_averages())
    clock = (
        "device_time_total"
        if events and hasattr(events[0], "device_time_total")
        else "cuda_time_total"
    )
    events.sort(key=lambda event: -getattr(event, clock))
    rows = [
        {"kernel": event.key[:90].replace("|", " "), "calls": event.count // repetitions,
         "us": getattr(event, clock) / repetitions}
        for event in events[:20]
    ]  # fmt: skip
    section.data["rows"] = rows
    section.markdown = table(rows) if rows else "The profiler saw no kernel."
    return section


def sanitizers(setting: Setting) -> Section:
    """compute-sanitizer's tools over a few checks, each in a process of its own."""
    section = Section("compute-sanitizer")
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not setting.sanitizers or not Path(tool).exists():
        section.markdown = (
            "Not run (--sanitizers was not given, or compute-sanitizer is not installed)."
        )
        return section
    for kind in SANITIZERS:
        failed, result = sanitized(tool, kind, setting)
        section.failed += failed
        section.data[kind] = result
    section.markdown = "\n".join(f"- {kind}: {result}" for kind, result in section.data.items())
    return section


def sanitized(tool: str, kind: str, setting: Setting) -> tuple[bool, str]:
    """Whether one of its tools failed, and what it said last."""
    options, checks = SANITIZERS[kind]
    paths = [
        str(setting.out / "package"),
        str(RASTERIZER / "tests"),
        str(RASTERIZER / "tests" / "cuda"),
    ]
    calls = "; ".join(f"checks.{name}('cuda')" for name in checks)
    code = f"import sys; sys.path[:0] = {paths!r}; import checks; {calls}"
    command = [tool, "--tool", kind, *options, "--error-exitcode", "9", sys.executable, "-c", code]
    # torch's cache hands out pieces of large blocks, within which no access is out of bounds and
    # all is initialized.
    environ = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SANITIZER_SECONDS,
            check=False,
            env=environ,
        )
    except subprocess.TimeoutExpired:
        return True, f"not finished after {SANITIZER_SECONDS} s"
    said = done.stdout + done.stderr
    if done.returncode != 0 and "device not supported" in said.lower():
        return False, "not run: this device is not supported by it"
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    return done.returncode != 0, f"exit {done.returncode}: {last}"


def diffusion(setting: Setting) -> Section:
    """Stable Diffusion 2.1's full-size architecture with random weights: estimators, whole training
    steps."""
    section = Section(
        "Guidance and whole training steps (random weights, half precision, 512 px, 4 views)"
    )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))  # gs_ssd, which need not be installed
    try:
        tool = module_from(ROOT / "tools" / "estimator_cost.py")
        importlib.import_module("simple_knn")  # gs_ssd looks for it when the training begins
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "gs_ssd":
            raise  # it is in this checkout
        section.markdown = f"Left out: {error.name} is not installed."
        return section
    size = (
        ("--toy", "--image-size", "64")
        if setting.rehearse
        else ("--dtype", "float16", "--image-size", "512")
    )
    command = ["--device", setting.device, *size]
    rows = tool.timed_rows(
        tool.arguments([*command, "--time", "--estimators", "ssd", "sds", "csd", "ism"])
    )
    training = tool.timed_training(
        tool.arguments([*command, "--train", "2" if setting.rehearse else "20"])
    )
    section.data |= {"rows": rows, "training": training}
    section.markdown = f"{table(rows)}\n\n{table([training])}"
    return section


# In the order of the report.
SECTIONS: tuple[Callable[[Setting], Section], ...] = (
    environment, build, check, benchmark, kernels, diffusion, sanitizers,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "gpu_check", help="folder of the report"
    )
    parser.add_argument("--sanitizers", action="store_true", help="run compute-sanitizer too")
    parser.add_argument("--gsplat", action="store_true", help="measure gsplat's CUDA kernels too")
    parser.add_argument(
        "--rehearse", action="store_true", help="on the CPU, through the host emulation, tiny sizes"
    )
    arguments = parser.parse_args()
    if not arguments.rehearse and not torch.cuda.is_available():
        print(
            "no CUDA device: torch.cuda.is_available() is false; --rehearse runs the same steps on"
            " the CPU",
            file=sys.stderr,
        )
        return 2
    setting = Setting(
        "cpu" if arguments.rehearse else "cuda", arguments.out.resolve(), arguments.rehearse,
        arguments.sanitizers,
        arguments.gsplat,
    )  # fmt: skip
    setting.out.mkdir(parents=True, exist_ok=True)
    sections = []
    for make in SECTIONS:
        start = time.perf_counter()
        try:
            section = make(setting)
        except Exception as error:
            traceback.print_exc()
            section = Section(make.__name__, f"FAILED: {type(error).__name__}: {error}", failed=1)
        section.data["section_seconds"] = round(time.perf_counter() - start, 1)
        sections.append(section)
        print(f"\n## {section.title}\n\n{section.markdown}", flush=True)
        report = "# GPU check\n" + "".join(
            f"\n## {part.title}\n\n{part.markdown}\n" for part in sections
        )
        (setting.out / "report.md").write_text(report)
        (setting.out / "report.json").write_text(
            json.dumps([asdict(part) for part in sections], indent=1)
        )
    failed = sum(section.failed for section in sections)
    print(f"\n{setting.out / 'report.md'}: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
