"""`gs-ssd reproduce` from the command line: what it refuses, and that one works in a folder."""

import json
import threading

import pytest

from gs_ssd import cli
from gs_ssd.lab.reproduce import illustrative
from gs_ssd.lab.reproduce.report import Report
from gs_ssd.locks import NAME, held


@pytest.fixture
def quick(monkeypatch):
    """The experiment takes no time; counts how often it is run."""
    runs = []
    report = Report("Title", "setting", (), ())
    monkeypatch.setattr(illustrative, "run", lambda context: runs.append(context.seed) or report)
    return runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "ssd"], "--rows has no effect on illustrative"),
        (["--limit", "3"], "--limit has no effect on illustrative"),
        (["--minutes", "3"], "--minutes has no effect on illustrative"),
        (["--prior", "sd15"], "--prior has no effect on illustrative"),
        (["--untuned"], "--untuned has no effect on illustrative"),
        (["--minutes", "nan"], "--minutes must be above 0"),
        (["--seed", "-1"], "--seed must be from 0"),
        (["--workers", "0"], "--workers and --limit must be at least 1"),
    ],
)
def test_what_cannot_be_or_has_no_effect_is_refused(words, said, quick, tmp_path, capsys):
    assert cli.main(["reproduce", "illustrative", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not quick
    assert not (tmp_path / "out").exists()


def test_another_seed_is_another_result(quick, tmp_path):
    for seed in ("0", "1", "1"):
        words = ["reproduce", "illustrative", "--out", str(tmp_path), "--seed", seed]
        assert cli.main(words) == 0
    assert quick == [0, 1]
    assert json.loads((tmp_path / "illustrative" / "result.json").read_text())["seed"] == 1
    assert "--seed 1" in (tmp_path / "illustrative" / "README.md").read_text()
    assert not (tmp_path / NAME).exists()


def test_a_second_one_in_the_same_folder_is_refused(quick, tmp_path, capsys):
    codes = []
    with held(tmp_path, "gs-ssd reproduce"):
        words = ["reproduce", "illustrative", "--out", str(tmp_path)]
        thread = threading.Thread(target=lambda: codes.append(cli.main(words)))
        thread.start()
        thread.join()
    assert codes == [2]
    assert f"{tmp_path} is in use by" in capsys.readouterr().err
    assert not quick
