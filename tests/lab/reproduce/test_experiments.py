"""Each experiment at its tiny size, with what it must conclude: on exact scores, and on the bundled
prior if built."""

import csv
import json
import math

import pytest

from gs_ssd import cli
from gs_ssd.lab.evaluate.intervals import Interval
from gs_ssd.lab.reproduce import EXPERIMENTS, comparison, numerical, speed
from gs_ssd.lab.reproduce.grid import CONFIG
from gs_ssd.lab.reproduce.report import (
    Claim,
    Context,
    Report,
    is_finished,
    write_page,
    write_report,
)
from gs_ssd.prior import BUNDLED

bundled = pytest.mark.skipif(
    not (BUNDLED / "model_index.json").is_file(), reason="the bundled prior is not in this checkout"
)


@bundled
def test_numerical_study_of_the_bundled_prior(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(CONFIG.parent.absolute())
    monkeypatch.chdir(tmp_path)
    report = numerical.run(Context("tiny", tmp_path))
    assert report.holds("The prediction's linear correlation with the noise rises to 1")
    assert report.holds("Reduction by r lowers the total variance")
    assert report.holds("The mode-disengaging term is far smaller")
    assert report.holds("On true objects: The mode-disengaging term is far smaller")
    table = list(csv.DictReader((tmp_path / "moments.csv").open()))
    assert list(dict.fromkeys(row["source"] for row in table)) == [
        "SDS-made assets",
        "true objects",
    ]
    for source in ("SDS-made assets", "true objects"):
        rows = {int(row["t"]): row for row in table if row["source"] == source}
        assert float(rows[900]["pearson"]) > 0.95
        assert float(rows[900]["pearson"]) > float(rows[100]["pearson"])
        assert all(float(row["variance_r"]) < float(row["variance_raw"]) for row in rows.values())
    assert (
        len(
            list(
                tmp_path.glob(
                    "out/reproduce/numerical-*/runs/sds/a-red-mushroom/seed-0/point_cloud.ply"
                )
            )
        )
        == 1
    )


def test_numerical_study_of_an_exact_mixture(tmp_path):
    report = numerical.run(Context("tiny", tmp_path, prior="analytic"))
    assert report.holds("The prediction's linear correlation with the noise rises to 1")
    assert report.holds("Reduction by r lowers the total variance")
    assert (tmp_path / "moments.png").read_bytes()[:4] == b"\x89PNG"


def test_speed_counts_the_inversion(tmp_path):
    report = speed.run(Context("tiny", tmp_path, prior="analytic"))
    assert report.holds("SSD needs fewer noise predictions than ISM")
    rows = {
        row["estimator"]: float(row["unet_images"])
        for row in csv.DictReader((tmp_path / "speed.csv").open())
    }
    assert rows["ssd"] == rows["csd"] == 2 * speed.VIEWS
    assert rows["ism"] > rows["ssd"]


def _record(variant, prompt, **numbers):
    return {"variant": variant, "prompt": prompt, "seed": 0, "saturation_truth": 0.5} | numbers


def test_comparisons_are_settled_by_paired_intervals():
    records = []
    for i in range(8):
        records += [
            _record(
                "ssd", f"p{i}", saturation=0.5 + 0.01 * i, outside=0.01, iou=0.8, cpu_seconds=10.0
            ),
            _record(
                "csd", f"p{i}", saturation=0.7 + 0.01 * i, outside=0.01, iou=0.9, cpu_seconds=10.0
            ),
            _record("ism", f"p{i}", cpu_seconds=20.0 + i),
        ]
    verdicts = {claim.text: claim.holds for claim in comparison.claims(records)}
    assert verdicts["SSD is less saturated than CSD"] is True
    assert verdicts["SSD has the better silhouette than CSD"] is False
    assert verdicts["SSD has fewer floaters than CSD"] is None
    assert verdicts["SSD is less saturated than SDS"] is None
    assert verdicts["SSD is faster than ISM"] is True
    assert (
        verdicts[
            "Without the inversion a training is 75 % faster: ISM takes 1.75 times as long, or more"
        ]
        is True
    )
    few = {claim.text: claim.holds for claim in comparison.claims(records[:15])}
    assert few["SSD is less saturated than CSD"] is None
    assert comparison.verdict(Interval(0.1, -0.1, 0.3), 0.01, 1) is None
    assert comparison.verdict(Interval(0.2, 0.1, 0.3), 0.08, 1) is None
    assert comparison.verdict(Interval(0.2, 0.1, 0.3), 0.01, -1) is False


def test_the_page_shows_what_is_done_and_what_is_not(tmp_path):
    report = Report(
        "Title",
        "Setting.",
        (Claim("It works", False, "||h|| in 0 of 3"),),
        (("a.png", "A figure"),),
    )
    write_report(report, tmp_path / "speed", "speed", "tiny", 0.0)
    write_page(tmp_path, list(EXPERIMENTS))
    text = (tmp_path / "README.md").read_text()
    assert r"| It works | **does not hold** | \|\|h\|\| in 0 of 3 |" in text
    assert "![A figure](speed/a.png)" in text
    assert "Not run yet: `gs-ssd reproduce numerical`" in text
    assert "Weights" not in text
    assert is_finished(tmp_path / "speed", "tiny", "")
    assert not is_finished(tmp_path / "numerical", "tiny", "")


def test_what_was_run_on_earlier_bundled_weights_is_marked(tmp_path):
    for name, weights in (
        ("numerical", "bundled aaaa, recipe 11"),
        ("speed", "bundled bbbb, recipe 22"),
        ("janus", "my-model cccc"),
        ("illustrative", ""),
    ):
        write_report(Report(name, "S", (), ()), tmp_path / name, name, "tiny", 0.0, weights)
    write_page(tmp_path, list(EXPERIMENTS), "bundled bbbb, recipe 22")
    sections = (tmp_path / "README.md").read_text().split("\n## ")[1:]
    marked = {text.split("\n")[0] for text in sections if "On earlier bundled weights" in text}
    assert marked == {"numerical"}


def test_only_the_same_size_on_the_same_weights_run_to_its_end_is_finished(tmp_path):
    claim, folder = Claim("It works", True, "3 of 3"), tmp_path / "speed"
    write_report(
        Report("Title", "Setting.", (claim,), ()), folder, "speed", "small", 0.0, "bundled aaaa"
    )
    assert is_finished(folder, "small", "bundled aaaa")
    assert not is_finished(folder, "full", "bundled aaaa")
    assert not is_finished(folder, "small", "bundled bbbb")
    assert "Setting. Weights: bundled aaaa." in (folder / "README.md").read_text()
    write_report(
        Report("Title", "S", (claim,), (), complete=False),
        folder,
        "speed",
        "small",
        0.0,
        "bundled aaaa",
    )
    assert not is_finished(folder, "small", "bundled aaaa")


def test_the_command_that_is_named_says_which_part_was_run(tmp_path):
    whole, part = (
        Context("small", tmp_path),
        Context("small", tmp_path, rows=("ssd", "csd"), limit=3),
    )
    assert (whole.options, whole.restricted, part.restricted) == ("", False, True)
    write_report(
        Report("Title", "S", (), ()), tmp_path, "comparison", "small", 0.0, options=part.options
    )
    text = (tmp_path / "README.md").read_text()
    assert "`gs-ssd reproduce comparison --size small --limit 3 --rows ssd csd`" in text


def test_the_command_runs_once(tmp_path, capsys):
    arguments = [
        "reproduce",
        "speed",
        "--size",
        "tiny",
        "--out",
        str(tmp_path),
        "--prior",
        "analytic",
    ]
    assert cli.main(arguments) == 0
    assert "holds: SSD needs fewer" in capsys.readouterr().out
    assert json.loads((tmp_path / "speed" / "result.json").read_text())["size"] == "tiny"
    assert cli.main(arguments) == 0
    assert "already there" in capsys.readouterr().out
    assert math.isfinite(json.loads((tmp_path / "speed" / "result.json").read_text())["seconds"])
