import json
import threading

import pytest

from gs_ssd import cli
from gs_ssd.lab.evaluate.trainings import Cost
from gs_ssd.lab.reproduce.assets import Workshop
from gs_ssd.locks import held

CONFIG = "configs/smoke.yaml"


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps(
            {"seeds": [0, 1], "prompts": [{"prompt": "a red disc"}, {"prompt": "a blue disc"}]}
        )
    )
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--suite", "quik"], "unknown suite"),
        (["--suite", "quick", "--config", "missing.yaml"], "no config"),
        (["--suite", "quick", "--config", CONFIG, "--workers", "0"], "--workers"),
        (["--suite", "quick", "--config", CONFIG, "--limit", "-1"], "--limit"),
        (["--suite", "quick", "--config", CONFIG, "--estimators", "ssd:M"], "key=value"),
        (["--suite", "quick", "--config", CONFIG, "--estimators", "ssd", "nosuch"], "nosuch"),
        (["--suite", "quick", "--config", CONFIG, "--seeds", "1", "1"], "named twice"),
        (["--suite", "quick", "--config", CONFIG, "--seeds", "-1"], "--seeds"),
        (["--suite", "quick", "--config", CONFIG, "--minutes", "nan"], "--minutes"),
        (["--suite", "quick", "--config", CONFIG, "--", "num_stepps=3"], "num_stepps"),
        (
            ["--suite", "quick", "--config", CONFIG, "--", "guidance.views_per_pass=-1"],
            "views_per_pass",
        ),
    ],
)
def test_mistakes_exit_with_2_and_one_sentence_before_anything_is_trained(
    arguments, word, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(Workshop, "train", lambda *_: pytest.fail("it trains"))
    arguments = [*arguments[:2], "--out", str(tmp_path / "out"), *arguments[2:]]
    assert cli.main(["bench", *arguments]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_second_one_in_the_same_folder_is_refused_and_may_report(
    suite, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    arguments = ["bench", "--suite", suite, "--config", CONFIG, "--out", str(out)]
    monkeypatch.setattr(Workshop, "write_summary", lambda *_: tmp_path / "mine.json")
    codes = []
    with held(out, "gs-ssd bench"):
        for words in (arguments, [*arguments, "--report"]):
            thread = threading.Thread(target=lambda words=words: codes.append(cli.main(words)))
            thread.start()
            thread.join()
    assert codes == [2, 1]  # 1: not all are there
    assert "in use by" in capsys.readouterr().err


def test_it_trains_what_is_missing_and_reports(suite, tmp_path, monkeypatch, capsys):
    trained = []

    def train(self, job, folder):
        trained.append((job.key, job.overrides))
        return Cost(1.0, 1.0)

    monkeypatch.setattr(Workshop, "train", train)
    monkeypatch.setattr(Workshop, "measure", lambda self, job, folder: {"iou": 0.5, "outside": 0.1})
    monkeypatch.setattr(Workshop, "_sheet_rows", lambda self, jobs: [])
    monkeypatch.setattr("gs_ssd.lab.evaluate.sheet.contact_sheet", lambda rows, path: None)
    out = tmp_path / "out"
    arguments = [
        "bench",
        "--suite",
        suite,
        "--config",
        CONFIG,
        "--out",
        str(out),
        "--seeds",
        "0",
        "--limit",
        "1",
    ]
    assert cli.main([*arguments, "--", "num_steps=3"]) == 0
    assert trained == [
        ("ssd/a-red-disc/seed-0", ("seed=0", "num_steps=3", "guidance.estimator=ssd"))
    ]
    assert (
        "alpha outside the main component <= 0.02: 0.1 [0.1, 0.1], **missed**"
        in capsys.readouterr().out
    )
    assert cli.main([*arguments[:-2], "--", "num_steps=3"]) == 0
    assert [key for key, _ in trained[1:]] == ["ssd/a-blue-disc/seed-0"]
    assert cli.main(arguments) == 2
    assert "settings (those were seed=0 num_steps=3 " in capsys.readouterr().err


@pytest.mark.slow
def test_the_smoke_config_end_to_end(suite, tmp_path):
    pytest.importorskip("diff_gaussian_rasterization")
    out = tmp_path / "out"
    arguments = [
        "bench",
        "--suite",
        suite,
        "--config",
        CONFIG,
        "--out",
        str(out),
        "--seeds",
        "0",
        "--workers",
        "2",
    ]
    assert cli.main([*arguments, "--", "num_steps=10"]) == 0
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(records) == 2
    assert all(record["steps"] == 10 and 0 <= record["haze"] <= 1 for record in records)
    assert "densify" in (out / "summary.md").read_text()
    assert (out / "sheet.png").stat().st_size < 300_000
