"""check-model passes a model that is exact and fails the ways in which real ones are loaded
wrongly."""

import argparse
import json
import subprocess
import sys

import pytest
import torch

from gs_ssd import cli
from gs_ssd.commands import check_conditions, check_model
from gs_ssd.prior.analytic import AnalyticPrior
from gs_ssd.prior.base import BodyPicture


def _failures(prior):
    return {
        check.name for check in check_model.examine(prior, "a red ball", {}) if not check.passed
    }


def test_an_exact_model_passes():
    assert _failures(AnalyticPrior.discs()) == set()


class _Wrong(AnalyticPrior):
    """An exact model read wrongly."""

    fault = ""

    def predict_noise(self, x_t, t, condition):
        if self.fault == "shifted":
            t = (t + 100).clamp(max=999)
        eps = super().predict_noise(x_t, t, condition)
        if self.fault == "v as eps":
            alpha = self.alphas_cumprod[t].sqrt().reshape(-1, 1, 1, 1)
            return (eps - (1 - alpha**2).sqrt() * x_t) / alpha
        return torch.randn_like(eps) if self.fault == "untrained" else eps

    def encode(self, rgb, generator=None):
        latents = super().encode(rgb, generator)
        return latents * torch.inf if self.fault == "vae overflows" else latents


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ("shifted", "timestep offset"),
        ("v as eps", "prediction type"),
        ("untrained", "noise prediction error"),
        ("vae overflows", "VAE gradient"),
    ],
)
def test_faults_are_named(fault, caught):
    prior = _Wrong.discs()
    prior.fault = fault
    assert caught in _failures(prior)


def test_the_report_says_what_memory_was_needed(tmp_path):
    """In a process of its own: a heap that earlier tests left large could serve all of it."""
    out = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "gs_ssd.cli",
        "check-model",
        "--model",
        "analytic",
        "--device",
        "cpu",
    ]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    assert json.loads(out.read_text())["measured"]["peak_memory_mib"] > 0


def test_the_report_can_be_sent(tmp_path, capsys):
    out = tmp_path / "report.json"
    assert (
        cli.main(["check-model", "--model", "analytic", "--device", "cpu", "--out", str(out)]) == 0
    )
    report = json.loads(out.read_text())
    assert report["passed"] is True
    assert {"torch", "device", "gs-ssd"} <= set(report["environment"])
    assert "report in" in capsys.readouterr().out


def _report(tmp_path, monkeypatch, prior, *words):
    monkeypatch.setattr(check_model, "load", lambda *_: prior)
    code = cli.main(["check-model", "--device", "cpu", "--out", str(tmp_path / "r.json"), *words])
    refuse = pytest.fail  # NaN and Infinity are no JSON
    return code, json.loads((tmp_path / "r.json").read_text(), parse_constant=refuse)


def test_what_is_no_number_is_null_in_the_report(tmp_path, monkeypatch):
    prior = _Wrong.discs()
    prior.fault = "vae overflows"
    code, report = _report(tmp_path, monkeypatch, prior)
    assert (code, report["passed"], report["measured"]["latent_std"]) == (2, False, None)
    assert (
        next(check for check in report["checks"] if check["name"] == "short run")["passed"] is False
    )


def test_a_memory_that_is_too_small_is_a_failed_check_and_a_report(tmp_path, monkeypatch):
    prior = _Wrong.discs()
    monkeypatch.setattr(prior, "decode", _out_of_memory)
    code, report = _report(tmp_path, monkeypatch, prior)
    assert code == 2
    assert report["checks"][-1]["name"] == "memory"
    assert "CUDA out of memory" in report["checks"][-1]["found"]


def _out_of_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nand more")


def test_the_short_run_is_a_training(monkeypatch):
    """Renderer, guidance and Adam, three steps of two views."""
    steps = []
    step = check_model.Job.step
    monkeypatch.setattr(
        check_model.Job, "step", lambda self: steps.append(self.completed) or step(self)
    )
    measured = {}
    checks = {
        check.name: check
        for check in check_model.examine(AnalyticPrior.discs(), "a red ball", measured)
    }
    assert checks["short run"].passed
    assert steps == [0, 1, 2]
    assert len(set(measured["gradient_norms"])) == 3


def test_settings_of_the_prior_and_no_others(tmp_path, capsys):
    words = ["check-model", "--device", "cpu", "--out", str(tmp_path / "r.json")]
    assert cli.main([*words, "seed=1"]) == 2
    assert "only settings of the prior" in capsys.readouterr().err
    assert (
        cli.main([*words, "--model", "analytic", "prior.sliced_vae=true", "--vae-dtype", "float32"])
        == 0
    )
    model = json.loads((tmp_path / "r.json").read_text())["model"]
    assert (model["sliced_vae"], model["vae_dtype"], model["model"]) == (
        True,
        "float32",
        "analytic",
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image-size", "-1"], "prior.image_size is -1; it must be within 8..4,096"),
        (["--image-size", "0"], "prior.image_size is 0"),
        (["--base", "a\udc80"], "prior.base is"),
    ],
)
def test_options_are_checked_as_settings_are(words, said, capsys):
    assert cli.main(["check-model", "--model", "analytic", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "said"), [("toaster", "is none that this runs on"), ("cuda:99", "is not there")]
)
def test_a_device_that_is_not_there_is_a_message(capsys, device, said):
    assert cli.main(["check-model", "--model", "analytic", "--device", device]) == 2
    assert f"device={device} {said}" in capsys.readouterr().err


def test_a_random_model_fails_with_exit_code_2(tmp_path, monkeypatch):
    prior = _Wrong.discs()
    prior.fault = "untrained"
    monkeypatch.setattr(check_model, "load", lambda *_: prior)
    parser = argparse.ArgumentParser()
    check_model.add_arguments(parser)
    assert check_model.run(parser.parse_args(["--out", str(tmp_path / "r.json")])) == 2
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is False


def test_a_missing_model_is_a_message(capsys):
    assert cli.main(["check-model", "--model", "./absent", "--device", "cpu"]) == 2
    assert "./absent" in capsys.readouterr().err


class _Shown(AnalyticPrior):
    """An exact model that is told a pose and a depth, and keeps what it was told."""

    def predict_noise(self, x_t, t, condition):
        self.seen.append((condition.image, condition.depth))
        return super().predict_noise(x_t, t, condition)


@pytest.mark.parametrize(("kind", "channels"), [("regions", 5), ("openpose", 3)])
def test_a_prior_that_wants_a_body_or_a_depth_is_shown_one(kind, channels):
    if kind == "openpose":
        pytest.importorskip("cv2", reason="needs opencv-python-headless")
    prior = _Shown.discs()
    size = prior.image_size  # depth and image share theirs
    prior.body_picture, prior.uses_depth, prior.seen = BodyPicture(kind, size), True, []
    assert check_conditions.prompt_for(prior).startswith("a person")
    assert _failures(prior) == set()
    assert len(prior.seen) > 25
    for image, depth in prior.seen:
        assert image.shape[1:] == (channels, size, size)
        assert depth.shape[:2] == (len(image), 1)
        assert image.amax() > 0.5
        assert not torch.equal(image[0], image[1])


@pytest.mark.slow
def test_the_person_prior_passes(tmp_path, capsys):
    words = ["--model", "person", "--device", "cpu", "--out", str(tmp_path / "r.json")]
    assert cli.main(["check-model", *words]) == 0
    assert "FAIL" not in capsys.readouterr().out
