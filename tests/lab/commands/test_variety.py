"""`gs-ssd variety`: refuses what nothing can be drawn with, and writes what it prints."""

import json

import pytest

from gs_ssd import cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--noises", "1"], "--noises 1: it must be within 4..1,024"),
        (["--kinds", "unicorn"], "--kinds unicorn is not one of"),
        (["--steps", "0"], "--steps 0: it must be within 1..1,000"),
        (["--seeds", "-1"], "--seeds -1: it must be within"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_nonsense_is_one_sentence(words, said, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["variety", *words]) == 2
    assert said in capsys.readouterr().err


def test_numbers_and_pictures_are_written(tmp_path, capsys):
    words = ["--kinds", "mug", "--noises", "4", "--steps", "1", "--out", str(tmp_path)]
    assert cli.main(["variety", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "variety.json").read_text())
    assert lines[1].split()[:2] == ["mug", f"{written['kinds']['mug']['aspect_prior']:.3f}"]
    assert written["mean"] == written["kinds"]["mug"]  # of one kind
    assert (tmp_path / "variety.png").stat().st_size > 0
