"""All native packages install into an empty environment: build isolation, no torch, no CUDA,
seconds."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent
SECONDS = 60  # of processor time, three to four times what was measured: see the README

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The Python of a new environment that can reach a package index."""
    folder = tmp_path_factory.mktemp("empty")
    python = folder / "venv" / "bin" / "python"
    assert run(sys.executable, "-m", "venv", folder / "venv").returncode == 0
    build_tool = run(
        python,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--dest",
        folder / "wheels",
        "scikit-build-core>=0.10",
    )
    if build_tool.returncode:
        pytest.skip(
            "no package index to take scikit-build-core from:"
            f" {build_tool.stderr.strip().splitlines()[-1]}"
        )
    return python


@pytest.mark.parametrize(
    ("folder", "module"),
    [
        (PACKAGE, "diff_gaussian_rasterization"),
        (PACKAGE.parent / "simple-knn", "simple_knn"),
        (PACKAGE.parent / "hash-grid-encoding", "hash_grid_encoding"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_installs_without_torch(empty, folder, module, record_property):
    start = children_seconds()
    done = run(empty, "-m", "pip", "install", folder, env=os.environ | {"DGR_CUDA": "OFF"})
    seconds = children_seconds() - start
    assert done.returncode == 0, done.stderr
    assert seconds < SECONDS
    record_property("seconds", round(seconds, 1))
    installed = {
        line.split("==")[0] for line in run(empty, "-m", "pip", "freeze").stdout.splitlines()
    }
    assert "torch" not in installed
    files = run(
        empty,
        "-c",
        f"import importlib.util as u; print(u.find_spec({module!r}).submodule_search_locations[0])",
    )
    assert list(Path(files.stdout.strip()).glob("lib*.so")) or list(
        Path(files.stdout.strip()).glob("lib*.dylib")
    )
    imported = run(empty, "-c", f"import {module}")
    assert "torch" in imported.stderr.splitlines()[-1]  # needed at run time only, and said so
