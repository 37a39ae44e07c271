"""The report from a GPU: what is missing on the machine, or fails there, costs no other figure."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    for folder in (ROOT / "submodules" / "diff-gaussian-rasterization" / "tests", ROOT / "tools"):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "tools" / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def setting(tool, tmp_path):
    return tool.Setting("cpu", tmp_path, rehearse=True, sanitizers=True, gsplat=True)


def test_a_table_holds_words_and_gaps(tool):
    rows = [{"kernel": "sort", "calls": 1200, "us": 0.5}, {"kernel": "scan", "again": True}]
    assert tool.table(rows).splitlines() == [
        "| kernel | calls | us | again |", "|---|---|---|---|", "| sort | 1,200 | 0.500 |  |",
        "| scan |  |  | True |"
    ]  # fmt: skip


def test_without_gsplat_our_figures_stay(tool, setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    section = tool.benchmark(setting)
    assert section.failed == 0
    assert [row["together"] > 0 for row in section.data["rows"]] == [True] * len(
        tool.REHEARSED_SIZES
    )
    assert "gsplat is left out: ModuleNotFoundError" in section.markdown


def test_where_gsplat_stops_our_figures_stay(tool, setting, monkeypatch):
    def step_of_few_views(scene, size):
        if len(scene["w2c"]) > 1:
            raise MemoryError("too many views")
        return lambda watch: [watch.mark() for _ in range(3)]

    monkeypatch.setattr(tool, "gsplat_step", step_of_few_views)
    section = tool.benchmark(setting)
    first, second = section.data["rows"]
    assert "gsplat together" in first
    assert "gsplat together" not in second
    assert second["together"] > 0
    assert "gsplat stopped at 300 splats, 48 pixels, 2 views: MemoryError" in section.markdown


@pytest.mark.parametrize("missing", ["diffusers", "simple_knn"])
def test_training_steps_are_left_out_where_their_packages_are(tool, setting, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    section = tool.diffusion(setting)
    assert section.failed == 0
    assert section.markdown == f"Left out: {missing} is not installed."


def test_a_module_missing_from_the_checkout_is_a_failure(tool, setting, monkeypatch):
    monkeypatch.setitem(sys.modules, "gs_ssd.trainer", None)
    with pytest.raises(ModuleNotFoundError):
        tool.diffusion(setting)


@pytest.mark.parametrize(
    ("script", "failed", "said"),
    [
        ("echo ERROR SUMMARY: 0 errors", False, "exit 0: ERROR SUMMARY: 0 errors"),
        ("echo ERROR SUMMARY: 2 errors; exit 9", True, "exit 9: ERROR SUMMARY: 2 errors"),
        ("echo Error: Device not supported. >&2; exit 1", False, "not run"),
        (
            "echo cached: $PYTORCH_NO_CUDA_MEMORY_CACHING $3 $4",
            False,
            "cached: 1 --report-api-errors no",
        ),
        ("exec sleep 5", True, "not finished"),
    ],
)
def test_what_a_sanitizer_says(tool, setting, monkeypatch, tmp_path, script, failed, said):
    monkeypatch.setattr(tool, "SANITIZER_SECONDS", 1)
    sanitizer = tmp_path / "compute-sanitizer"
    sanitizer.write_text(f"#!/bin/sh\n{script}\n")
    sanitizer.chmod(0o755)
    result = tool.sanitized(str(sanitizer), "memcheck", setting)
    assert result[0] == failed
    assert said in result[1]
