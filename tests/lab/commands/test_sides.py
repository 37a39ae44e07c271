"""`gs-ssd sides` refuses what nothing can be drawn with, before it loads a model."""

import pytest

from gs_ssd import cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dtype", "float8"], "prior.dtype is 'float8'; choose one of"),
        (["--device", "nowhere"], "device=nowhere"),
        (["--steps", "0"], "--steps 0: it must be within 1..1,000"),
        (["--scale", "nan"], "--scale nan: it must be within"),
        (["--seeds", "0", "-1"], "--seeds -1: it must be within"),
        (["--kinds", "unicorn"], "--kinds unicorn is not one of"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_nonsense_is_one_sentence(words, said, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(["sides", *words]) == 2
    assert said in capsys.readouterr().err
