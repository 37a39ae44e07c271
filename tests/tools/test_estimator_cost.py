"""The counted cost of SSD against ISM: what dropping the inversion and the zero-weight negatives
saves."""

import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("diffusers")
    path = Path(__file__).parents[2] / "tools" / "estimator_cost.py"
    spec = importlib.util.spec_from_file_location("estimator_cost", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ssd_needs_far_fewer_unet_images_than_ism(tool):
    assert tool.unet_images("ism", False) / tool.unet_images("ssd", False) >= 2.3
    assert tool.unet_images("ism", True) / tool.unet_images("ssd", True) >= 1.75


def test_vsd_pays_for_its_critic(tool, monkeypatch, capsys):
    pytest.importorskip("peft")
    assert tool.unet_images("vsd", False) == 16
    assert tool.unet_images("vsd", True) == pytest.approx(tool.unet_images("ssd", True) + 8)
    parts = {"unet": 1.0, "encode": 2.0, "encode_backward": 3.0, "critic_backward": 1.5}
    assert tool.Row("vsd", False, False).counted(parts, 16) == 16 + 20 + 6
    monkeypatch.setitem(tool.PARTS, "unet", (tool.UNet2DConditionModel, tool.TOY["unet"]))
    common = ["--image-size", "64", "--perp-neg", "no"]
    rows = tool.timed_rows(tool.arguments([*common, "--encoders", "tiny"]))
    assert [row["estimator"] for row in rows] == list(tool.ESTIMATORS)
    assert tool.count_critic(64) > 0
    timed = [*common, "--encoders", "vae", "--toy", "--time", "--timesteps", "300", "500"]
    (row,) = tool.timed_rows(tool.arguments([*timed, "--estimators", "vsd"]))
    assert row["timed_images"] == 16
    assert row["seconds"] > 0
    assert "vsd" not in {row["estimator"] for row in tool.timed_rows(tool.arguments(timed))}


def test_the_share_compares_a_ratio_of_times_with_the_ratio_of_counts(tool):
    parts = {
        "unet": 1.0,
        "encode": 2.0,
        "encode_backward": 3.0,
        "tiny_encode": 0.5,
        "tiny_encode_backward": 0.5,
    }
    ssd, ism = tool.Row("ssd", False, False), tool.Row("ism", False, False)
    assert ssd.counted(parts, 8) == 28
    assert tool.Row("ssd", False, True).counted(parts, 8) == 12
    ssd.seconds, ssd.images, ssd.steps = 20.0, 16, 2
    ism.seconds, ism.images, ism.steps = 54.0, 72, 2
    rows = ssd.report(parts), ism.report(parts)
    assert [row["seconds"] for row in rows] == [10, 27]
    assert [row["timed_tera"] for row in rows] == [28, 56]
    assert tool.share_of_possible(*rows) == {"faster": 2.7, "allowed": 2.0, "share": 1.35}


def test_a_toy_is_timed_trained_and_measured(tool, capsys):
    """The paths that need a GPU or gigabytes, on an architecture that needs neither."""
    common = ["--toy", "--image-size", "64", "--timesteps", "300", "--estimators", "ssd", "ism"]
    rows = tool.timed_rows(tool.arguments([*common, "--time", "--encoders", "vae"]))
    assert [(row["estimator"], row["perp_neg"]) for row in rows] == [
        ("ssd", False), ("ism", False), ("ssd", True), ("ism", True)
    ]  # fmt: skip
    assert [row["timed_images"] for row in rows] == [8, 16, 16, 24]
    assert all(row["seconds"] > 0 for row in rows)
    assert all("share" in row for row in rows[::2])
    training = tool.timed_training(tool.arguments([*common, "--train", "1"]))
    assert training["minutes"] == pytest.approx(5000 / 60 * training["step"], rel=0.01)
    assert (
        sum(training[part] for part in ("render", "encode", "unet", "backward")) <= training["step"]
    )


def test_low_vram_needs_less_and_answers_the_same(tool, capsys):
    tool.report_memory(tool.arguments(["--toy", "--image-size", "256", "--memory"]))
    whole, parts = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert (whole[0], parts[0]) == ("object:", "low_vram:")
    assert float(parts[1]) < 0.3 * float(whole[1])  # 23.6 of 96.5 MiB
    assert float(parts[7]) < 1e-4


def test_what_is_in_use_at_most_is_counted_and_not_what_was_there_before(tool):
    before = torch.ones(1000, 1000)

    def call():
        gone = before + 1  # 4 MB, freed before the next two
        del gone
        both = [before + 1, before + 2]
        del both

    assert tool.most_in_use(call, torch.device("cpu")) == pytest.approx(8e6, rel=0.01)


@pytest.mark.slow
def test_full_size_multiply_adds(tool):
    parts = tool.count_parts(512)
    assert parts["unet"] == pytest.approx(0.40, abs=0.01)
    assert parts["encode"] == pytest.approx(0.56, abs=0.01)
    assert parts["encode_backward"] == pytest.approx(0.58, abs=0.01)
    pytest.importorskip("peft")
    assert tool.count_critic(512) == pytest.approx(0.455, abs=0.01)
