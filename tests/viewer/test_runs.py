"""What a run's folder says of itself, whatever has become of its files."""

import json
import time

import pytest
import yaml

from gs_ssd.viewer import runs
from gs_ssd.viewer.runs import read_last_metrics, read_settings

BOMB = "a0: &a0 [x, x, x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)
)
HOSTILE = {
    "lists in lists": "[" * 100_000,
    "dashes in dashes": "- " * 50_000,
    "mappings in mappings": "{a: " * 50_000,
    "keys in keys": "\n".join(" " * depth + "a:" for depth in range(600)),
    "aliases that double": BOMB,
    "itself": "a: &a [*a]",
    "a long text": f"prompt: {'x' * 1_000_000}",
    "no number": "num_steps: .nan",
    "no end": "num_steps: .inf",
    "no YAML": "prompt: [",
    "no mapping": "[1, 2]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_settings_that_no_run_writes_are_passed_over_soon(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    begun = time.process_time()
    assert read_settings(tmp_path) == {}
    assert time.process_time() - begun < 2


def test_settings_are_read_as_they_were_written(tmp_path):
    settings = {"prompt": "a cat &dog *star", "seed": 3, "prior": {"lora": ["a", "b"]}, "M": None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert read_settings(tmp_path) == settings


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"num_splats": NaN}', '{"num_splats": 1e400}', "[" * 60_000]
)
def test_a_last_line_that_no_run_writes_is_passed_over(line, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + f"\n{line}\n")
    assert read_last_metrics(tmp_path) == {}


def test_numbers_that_are_being_written_are_not_there_yet(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    for text, last in (("", {}), ('{"step"', {}), ('{"step": 1}\n{"ste', {"step": 1})):
        path.write_text(text)
        assert read_last_metrics(tmp_path) == last
    assert not caplog.records


def test_a_run_whose_splat_moves_away_leaves_the_others_on_the_page(tmp_path, monkeypatch, caplog):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "point_cloud.ply").touch()
    opened = runs.open_run

    def open_run(folder):
        if folder.name == "first":  # as a finished run does that takes more steps
            (folder / "point_cloud.ply").unlink()
        return opened(folder)

    monkeypatch.setattr(runs, "open_run", open_run)
    assert [run.folder.name for run in runs.find_runs([tmp_path])] == ["second"]
    assert "first holds no point_cloud.ply; it is left out" in caplog.text
