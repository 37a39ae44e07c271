"""The doctor: 0 where training can run, 2 where it cannot; what has never been run with real
weights is said."""

import importlib

import pytest

from gs_ssd import cli
from gs_ssd.commands import doctor
from gs_ssd.errors import UserError


def test_it_says_what_is_here_and_what_was_never_run(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for name in (
        "torch",
        "diff_gaussian_rasterization",
        "diffusers",
        "bundled prior",
        "Training can run here.",
    ):
        assert name in text
    never = [line for line in text.splitlines() if "never yet run with real" in line]
    for name in ("Stable Diffusion", "LoRA, ControlNet, tiny VAE", "Shap-E"):
        assert any(name in line for line in never)


@pytest.mark.parametrize("missing", ["diffusers", "the rasterizer"])
def test_what_is_missing_is_named_with_its_mend_and_exit_code_2(capsys, monkeypatch, missing):
    if missing == "diffusers":
        find = doctor.importlib.util.find_spec
        monkeypatch.setattr(
            doctor.importlib.util, "find_spec", lambda name: None if name == missing else find(name)
        )
    else:
        monkeypatch.setattr(doctor, "native", _absent)
    assert cli.main(["doctor"]) == 2
    bad = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("BAD")]
    assert bad
    assert all("pip install" in line for line in bad)


def test_a_gpu_without_the_cuda_backend_is_bad_and_the_command_is_named(capsys, monkeypatch):
    rasterizer = importlib.import_module("diff_gaussian_rasterization")
    monkeypatch.setattr(rasterizer, "available_backends", lambda: ("cpu", "reference"))
    monkeypatch.setattr(doctor, "_has_gpu", lambda: True)
    assert cli.main(["doctor"]) == 2
    (bad,) = (
        line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("BAD")
    )
    assert "compile.py --install" in bad
    monkeypatch.setattr(rasterizer, "available_backends", lambda: ("cpu", "cuda", "reference"))
    assert cli.main(["doctor"]) == 0


def _absent(name):
    raise UserError(f"{name} is not installed; pip install ./submodules/{name}")
