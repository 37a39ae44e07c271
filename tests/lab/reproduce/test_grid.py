"""Experiments that train assets, at their tiny size: trained in this process, or stand-ins where
they are many."""

import csv
import json

import pytest
import torch

from gs_ssd import cli, config
from gs_ssd.errors import UserError
from gs_ssd.guidance.config import LUCID_T_SCHEDULE
from gs_ssd.guidance.estimators import ESTIMATORS
from gs_ssd.lab.evaluate.benchmark import Variant
from gs_ssd.lab.evaluate.measure import photograph
from gs_ssd.lab.evaluate.suite import Entry
from gs_ssd.lab.evaluate.trainings import Cost
from gs_ssd.lab.reproduce import comparison, defaults, janus, nerf, tuning
from gs_ssd.lab.reproduce.assets import QUIET, Workshop
from gs_ssd.lab.reproduce.grid import CONFIG
from gs_ssd.lab.reproduce.origin import origin_of_prior
from gs_ssd.lab.reproduce.report import Context
from gs_ssd.prior import BUNDLED, PriorConfig

pytestmark = pytest.mark.skipif(
    not (BUNDLED / "model_index.json").is_file(), reason="the bundled prior is not in this checkout"
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A checkout to run in: the configs are the project's, `out/` is empty."""
    (tmp_path / "configs").symlink_to(CONFIG.parent.absolute())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train_here(self, job, folder) -> Cost:
    from gs_ssd.trainer import Trainer

    settings = (*QUIET, "output.checkpoint_every=0", *job.overrides, f"prompt={job.entry.prompt}")
    Trainer(config.load(self.config, settings), folder).fit()
    return Cost(1.0, 1.0)


@pytest.fixture
def numbers(monkeypatch):
    """Assets are numbers, by the row's label and the prompt; a set of the keys that were
    trained."""
    table, trained = {}, []

    def train(self, job, folder):
        trained.append(job.key)
        return Cost(1.0, 1.0)

    def measure(self, job, folder):
        spread = 0.01 * (sum(map(ord, job.entry.prompt)) % 7)
        ceilings = {"kind_ceiling": 1.0, "color_ceiling": 1.0, "fronts_truth": 3.0}
        return ceilings | {
            name: value + spread for name, value in table.get(job.variant.label, {}).items()
        }

    monkeypatch.setattr(Workshop, "train", train)
    monkeypatch.setattr(Workshop, "measure", measure)
    return table, trained


def test_the_comparison_counts_what_inversion_costs(here, monkeypatch):
    pytest.importorskip("diff_gaussian_rasterization")
    monkeypatch.setattr(Workshop, "train", train_here)
    context = Context("tiny", here / "page" / "comparison")
    report = comparison.run(context)
    assert report.complete
    lines = [
        json.loads(line)
        for line in (context.folder / "results-tiny.jsonl").read_text().splitlines()
    ]
    images = {line["variant"]: line["unet_images"] for line in lines}
    assert images["ssd"] == 4 * 4 * 2  # steps x views x (prompt, null)
    assert images["ism"] > 1.5 * images["ssd"]
    origin = origin_of_prior(PriorConfig())
    assert all(line["origin"].items() >= origin.items() for line in lines)
    table = {
        row["variant"]: row for row in csv.DictReader((context.folder / "comparison.csv").open())
    }
    assert 0 < float(table["ssd"]["iou"]) < 1
    assert f"Weights: {origin['weights']}" in (context.folder / "summary.md").read_text()
    assert (context.folder / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_radiance_fields_are_measured_as_fields(here, monkeypatch):
    pytest.importorskip("hash_grid_encoding")
    monkeypatch.setattr(Workshop, "train", train_here)
    seen = []

    def watch(asset, *rest):
        seen.append(asset.kind)
        return photograph(asset, *rest)

    monkeypatch.setattr("gs_ssd.lab.reproduce.assets.photograph", watch)
    context = Context("tiny", here / "page" / "nerf")
    report = nerf.run(context)
    assert report.complete
    assert seen == ["nerf", "nerf"]
    lines = map(json.loads, (context.folder / "results-tiny.jsonl").read_text().splitlines())
    for line in lines:
        assert 0 < line["iou"] < 1
        assert line["num_cells"] > 0
        assert {"outside", "saturation", "detail", "haze", "kind_share"} <= set(line)
        assert line["origin"].items() >= origin_of_prior(PriorConfig()).items()
    assert (context.folder / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert all(claim.holds is None for claim in report.claims)  # one prompt settles nothing
    assert {
        "Fig. 18: SSD is less saturated than CSD",
        "Fig. 7: M = 0 has more floaters than M = 300",
    } <= {claim.text for claim in report.claims}


def test_claims_about_fields_are_settled_by_the_rows_that_are_there(here, numbers):
    table, trained = numbers
    even = {"saturation": 0.5, "saturation_truth": 0.5, "detail": 1.0, "detail_truth": 1.0}
    table |= {row: even | {"iou": 0.8} for row in nerf.ROWS}
    table["csd"] = even | {"iou": 0.8, "saturation": 0.7}
    table["sds_reduced@g101"] = even | {"iou": 0.9}
    table["ssd@M1000"] = even | {"iou": 0.8, "detail": 2.0}
    report = nerf.run(Context("small", here / "page" / "nerf"))
    assert report.complete
    assert len(trained) == 6 * len(nerf.SIZES["small"].rows)
    assert report.holds("Fig. 18: SSD is less saturated than CSD") is True
    assert report.holds("Fig. 7: M = 0 is more saturated") is True
    assert report.holds("Fig. 9: seeking alone is smoother than SSD") is False
    assert report.holds("Figs. 14-16: adaptive variance reduction gives SDS a better sil") is True
    assert report.holds("Figs. 14-16: adaptive variance reduction gives SDS more detail") is None
    with pytest.raises(KeyError):  # a row of size full
        report.holds("Fig. 7: M = 80")


def test_the_comparison_goes_on_from_committed_lines_and_drops_those_of_other_weights(
    here, numbers, monkeypatch
):
    table, trained = numbers
    table |= {"ssd": {"iou": 0.8, "unet_images": 64.0}, "ism": {"iou": 0.7, "unet_images": 170.0}}
    context = Context("tiny", here / "page" / "comparison", rows=("ssd",))
    assert not comparison.run(context).complete  # a part of it
    assert trained == ["ssd/a-blue-mug/seed-0"]
    lines = context.folder / "results-tiny.jsonl"
    (here / "out").rename(here / "lost")
    comparison.run(Context("tiny", context.folder))
    assert trained[1:] == ["ism/a-blue-mug/seed-0"]
    both = lines.read_text()
    report = comparison.run(context)  # a part of it again: the other rows' lines stay
    assert lines.read_text() == both
    assert "1 rows" in report.setting
    assert len(trained) == 2
    other = {"weights": "bundled ffffffffffff", "recipe": "0"}
    monkeypatch.setattr("gs_ssd.lab.reproduce.origin.origin_of_prior", lambda *_: other)
    monkeypatch.setattr("gs_ssd.lab.reproduce.comparison.origin_of_prior", lambda *_: other)
    comparison.run(Context("tiny", context.folder))
    assert len(trained) == 4
    with pytest.raises(UserError, match="no row 'sdss'"):
        comparison.run(Context("tiny", context.folder, rows=("sdss",)))


def test_after_its_minutes_a_grid_is_not_complete(here, numbers):
    report = comparison.run(Context("tiny", here / "page" / "comparison", minutes=0.0))
    assert not report.complete
    assert "0 of 2 assets" in report.setting


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers"),
        (["--limit", "0"], "--limit"),
        (["--device", "foo"], "foo"),
    ],
)
def test_mistakes_exit_with_2_and_one_sentence(words, message, here, capsys):
    assert (
        cli.main(["reproduce", "comparison", "--size", "tiny", "--out", str(here / "page"), *words])
        == 2
    )
    assert message in capsys.readouterr().err
    assert not (here / "page").exists()


def test_tuning_freezes_the_best_and_the_comparison_reads_it(here, numbers):
    table, trained = numbers
    good, bad = (
        {"kind_share": 0.9, "color_share": 0.9, "iou": 0.8},
        {"kind_share": 0.5, "color_share": 0.9, "iou": 0.6},
    )
    labels = {"ssd": "M400", "csd": "slow"}
    for name, tries in tuning.CANDIDATES.items():
        table |= {
            f"{name}@{label.replace(' ', '-')}": good if labels.get(name) == label else bad
            for label in tries
        }
    report = tuning.run(Context("tiny", here / "page" / "tuning"))
    assert report.complete
    assert len(trained) == 8  # four tries each
    tuned = tuning.read_tuned(
        here / "page" / "tuning",
        json.loads((here / "page/tuning/tuned.json").read_text())["weights"],
    )
    assert tuned == {"ssd": ["guidance.M=400"], "csd": list(tuning.SLOW)}
    rows = comparison.variants(("ssd", "csd", "ssd@M200", "sds"), tuned)
    assert rows[0].overrides == ("guidance.estimator=ssd", "guidance.M=400")
    assert rows[2].overrides == (
        "guidance.estimator=ssd",
        "guidance.M=400",
        "guidance.M=200",
    )  # the last one counts
    assert rows[3].overrides == ("guidance.estimator=sds", "guidance.cfg_scale=26")
    with pytest.raises(UserError, match="was tuned on bundled"):
        tuning.read_tuned(here / "page" / "tuning", "bundled ffffffffffff")


def test_estimators_are_tuned_one_by_one_and_only_whole_ones_are_frozen(here, numbers):
    table, trained = numbers
    for name, tries in tuning.CANDIDATES.items():
        table |= {f"{name}@{label.replace(' ', '-')}": {"iou": 0.8} for label in tries}
    folder = here / "page" / "tuning"

    def tuned(*rows: str) -> list[str]:
        assert not tuning.run(Context("tiny", folder, rows=rows)).complete
        path = folder / tuning.FILE
        return list(json.loads(path.read_text())["estimators"]) if path.exists() else []

    assert tuned("csd@slow", "ssd@M200") == []
    assert tuned("csd") == ["csd"]
    assert len(trained) == 5
    with pytest.raises(UserError, match=r"does not have ssd: run `gs-ssd reproduce tuning --rows"):
        comparison.run(Context("tiny", here / "page" / "comparison", rows=("ssd",)))
    assert tuned("ssd") == ["ssd", "csd"]
    comparison.run(Context("tiny", here / "page" / "comparison", rows=("ssd",)))
    with pytest.raises(UserError, match="does not have ism"):
        comparison.run(Context("tiny", here / "page" / "comparison"))
    with pytest.raises(UserError, match="there is no row 'cds'"):
        tuned("cds")


@pytest.mark.parametrize(
    "damaged",
    ["", "[]", "{}", '{"weights": ""', '{"weights": "", "estimators": 3}'],
)
def test_a_damaged_tuning_is_refused(damaged, tmp_path):
    (tmp_path / tuning.FILE).write_text(damaged)
    with pytest.raises(UserError, match=r"tuned\.json is damaged; run `gs-ssd reproduce tuning`"):
        tuning.read_tuned(tmp_path, "bundled ffffffffffff")


def test_estimators_can_be_compared_as_they_come_whatever_was_tuned_on_which_weights(here, numbers):
    page = here / "page"
    (page / "tuning").mkdir(parents=True)
    won = {"ssd": {"overrides": ["guidance.M=400"]}}
    stale = {"weights": "bundled ffffffffffff", "estimators": won}
    (page / "tuning" / "tuned.json").write_text(json.dumps(stale))
    with pytest.raises(UserError, match="--untuned"):
        comparison.run(Context("tiny", page / "comparison"))
    report = comparison.run(Context("tiny", page / "comparison", untuned=True))
    assert "no estimator was tuned" in report.setting
    assert not report.complete  # what the size asks for is the comparison of tuned ones
    lines = (page / "comparison" / "results-tiny.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert "M=400" not in "".join(lines)


def test_a_change_of_the_default_is_adopted_only_where_it_betters(here, numbers, monkeypatch):
    table, _ = numbers
    monkeypatch.setitem(defaults.SIZES, "tiny", defaults.SIZES["full"])
    plain = {"kind_share": 0.9, "color_share": 0.9, "iou": 0.6}
    table |= {
        "ssd": plain,
        "ssd@perpneg": plain | {"iou": 0.7},
        "ssd@M200": plain | {"kind_share": 0.8},
    }
    table |= {"ssd@negative": plain, "ssd@M400": plain}
    report = defaults.run(Context("tiny", here / "page" / "defaults"))
    assert report.complete
    assert report.holds("Perp-Neg improves the silhouette") is True
    assert report.holds("Perp-Neg improves recognition") is None
    assert report.holds("M = 200 improves recognition") is False
    evidence = next(
        claim.evidence for claim in report.claims if claim.text.startswith("M = 200 improves recog")
    )
    assert evidence.endswith("p 0.031, 6 prompts")
    assert report.holds("A negative prompt improves the silhouette") is None


def test_every_estimator_has_the_same_number_of_tries_and_every_setting_exists():
    assert all(len(set(tries.values())) == len(tries) == 4 for tries in tuning.CANDIDATES.values())
    rows = (
        *comparison.variants(tuple(comparison.ROWS), {}),
        *(Variant("ssd", s) for _, s in defaults.CHANGES.values()),
    )
    settings = [tuning.LUCID_LAW, *(text for row in rows for text in row.overrides), *tuning.FAST]
    found = config.load(CONFIG, list({text.partition("=")[0]: text for text in settings}.values()))
    assert found.optimizer.means == (0.012, 0.004)
    plain, recipe = config.load(CONFIG), config.load(CONFIG, tuning.RECIPE)
    assert recipe == plain  # what the row csd@recipe goes back to
    assert found.guidance.t_schedule == LUCID_T_SCHEDULE
    assert found.guidance.prompts.perp_neg
    assert found.guidance.prompts.negative == "blurry, low quality"
    assert {row.label.partition("@")[0] for row in rows} <= set(ESTIMATORS)


def test_perp_neg_is_judged_by_the_faces_on_the_backs(here, numbers, monkeypatch):
    table, _ = numbers
    monkeypatch.setattr(
        janus, "draw_backs", lambda _, entries, *__: torch.rand(len(entries), 3, 64, 64)
    )
    monkeypatch.setattr(janus, "load", lambda *_: None)
    table |= {"ssd": {"face_behind": 0.6, "fronts": 6.0, "iou": 0.7}}
    table |= {"ssd@perpneg": {"face_behind": 0.2, "fronts": 6.0, "iou": 0.7}}
    arguments = [
        "reproduce",
        "janus",
        "--size",
        "small",
        "--prior",
        str(BUNDLED),
        "--out",
        str(here / "page"),
    ]
    assert cli.main(arguments) == 0
    result = json.loads((here / "page" / "janus" / "result.json").read_text())
    verdicts = {text: holds for text, holds, _ in result["claims"]}
    assert verdicts["Perp-Neg lowers the face on the back (SSD)"] is True
    assert verdicts["Perp-Neg lowers the number of fronts (SSD)"] is None
    assert "6 prompts" in result["claims"][0][2]
    assert (here / "page" / "janus" / "backs.png").read_bytes()[:4] == b"\x89PNG"
    assert "bundled" in result["setting"]


def test_a_prior_with_the_fault_can_be_made(here, monkeypatch):
    """Two steps of it: other weights, its own kinds, mostly fronts, and made anew where the source
    is another."""
    from gs_ssd.lab.prior_training import bias
    from gs_ssd.prior import load

    small = bias.BiasConfig(pictures=32, steps=2, batch=4)
    monkeypatch.setattr(bias, "BiasConfig", lambda: small)
    folder = janus.front_biased(here / "out" / "front_biased")
    origin = origin_of_prior(PriorConfig(model=str(folder)))
    assert origin["weights"].split()[1] != origin_of_prior(PriorConfig())["weights"].split()[1]
    assert load(PriorConfig(model=str(folder)), "cpu").metadata["kinds"] == list(small.kinds)
    drawn = janus.draw_backs(
        load(PriorConfig(), "cpu"), [Entry("a red car"), Entry("a red duck")], 2, 0
    )
    assert drawn.shape == (2, 3, 64, 64)
    assert not torch.equal(drawn[0], drawn[1])
    what = {"kinds": small.kinds, "law": small.camera}
    front = (
        bias.shard(here / "out" / "front_biased-pictures", 0, 32, 64, **what).azimuth_deg.abs() < 45
    )
    assert front.float().mean() > 0.6
    written = (folder / "model_index.json").stat().st_mtime_ns
    assert janus.front_biased(folder) == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == written
