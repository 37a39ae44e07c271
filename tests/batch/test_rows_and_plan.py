"""The input of a batch, and what is refused of it before anything starts."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from gs_ssd import cli
from gs_ssd import config as configs
from gs_ssd.batch import plan as plans
from gs_ssd.batch.plan import plan
from gs_ssd.batch.rows import Row, read_rows
from gs_ssd.batch.storage import Store, is_torn_url
from gs_ssd.batch.task import Task
from gs_ssd.errors import UserError

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    rows, bad = read_rows(write(tmp_path / "p.txt", "\ufeffa mug\r\n\n# no\n  ein Häuschen \n"))
    assert [(row.line, row.prompt) for row in rows] == [(1, "a mug"), (4, "ein Häuschen")]
    assert not bad


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = 'prompt,name,seed,tags,guidance.M\n"a mug, red",mug,3,x; y,250\na duck,,,,\n'
    objects = (
        '{"prompt": "a mug, red", "name": "mug", "seed": 3, "tags": ["x", "y"],'
        ' "guidance.M": 250}\n\n{"prompt": "a duck"}\n'
    )
    csv_rows, _ = read_rows(write(tmp_path / "p.csv", table))
    json_rows, _ = read_rows(write(tmp_path / "p.jsonl", objects))
    first = csv_rows[0]
    assert (first.prompt, first.name, first.seed) == ("a mug, red", "mug", 3)
    assert (first.tags, first.settings) == (("x", "y"), ("guidance.M=250",))
    assert [vars(row) | {"line": 0} for row in csv_rows] == [
        vars(row) | {"line": 0} for row in json_rows
    ]
    assert [row.line for row in json_rows] == [1, 3]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("p.csv", "text\na mug\n", "none is `prompt`"),
        ("p.csv", "prompt,seed,seed\na mug,1,2\n", "twice"),
        ("p.csv", 'prompt\n"a mug\n', "line"),
        ("p.txt", "\n# nothing\n", "no prompt"),
        ("p.doc", "a mug\n", ".jsonl"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, text: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        read_rows(write(tmp_path / name, text))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "JSON"),
        ("[1]", "object"),
        ('{"seed": 1}', "prompt"),
        ('{"prompt": "a mug", "seed": 1.5}', "seed"),
        ('{"prompt": "a mug", "seed": true}', "seed"),
        ('{"prompt": "a mug", "tags": [1]}', "tags"),
        ('{"prompt": "a mug", "name": 3}', "name"),
        ('{"prompt": "a mug", "prompt": "a disc"}', "'prompt' stands there twice"),
        ('{"prompt": "a mug", "guidance": {"M": 1, "M": 2}}', "'M' stands there twice"),
    ],
)
def test_a_line_that_is_none_is_refused_by_its_number(tmp_path: Path, line: str, word: str) -> None:
    rows, bad = read_rows(write(tmp_path / "p.jsonl", f'{{"prompt": "a disc"}}\n{line}\n'))
    assert len(rows) == 1
    assert [refusal.line for refusal in bad] == [2]
    assert word in bad[0].reason


def test_a_row_wins_over_the_command_line_and_that_over_the_file(tmp_path: Path) -> None:
    table = "prompt,num_steps\na disc,7\na ball,\n"
    rows, _ = read_rows(write(tmp_path / "p.csv", table))
    tasks, bad = plan(rows, config=SMOKE, overrides=["num_steps=5"], seeds=[1, 2])
    assert not bad
    assert [task.name for task in tasks] == [
        *("a-disc-seed1", "a-disc-seed2", "a-ball-seed1", "a-ball-seed2")
    ]
    assert [task.config.num_steps for task in tasks] == [7, 7, 5, 5]
    assert [task.config.seed for task in tasks] == [1, 2, 1, 2]
    assert len({task.fingerprint for task in tasks}) == 4


def test_rows_that_cannot_run_are_named_and_the_others_planned(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "a red mug"}',
        '{"prompt": "a red mug", "num_stepz": 3}',
        '{"prompt": "a sunset"}',
        '{"prompt": "A red mug!"}',
        '{"prompt": "a red mug", "seed": 1}',
        '{"prompt": "a blue mug", "num_steps": 0}',
        '{"prompt": "a blue\\u0000 mug"}',
    ]
    rows, _ = read_rows(write(tmp_path / "p.jsonl", "\n".join(lines)))
    tasks, bad = plan(rows)  # the bundled prior, which knows what it knows
    assert [task.line for task in tasks] == [1, 5]
    assert [refusal.line for refusal in bad] == [2, 3, 4, 6, 7]
    reasons = {refusal.line: refusal.reason for refusal in bad}
    assert "num_steps" in reasons[2]
    assert "sunset" in reasons[3]
    assert "line 1's" in reasons[4]
    assert "num_steps" in reasons[6]
    assert [task.line for task in plan(rows, anyway=True)[0]] == [1, 3, 5]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a red\nmug", r"prompt is 'a red\nmug'; write it in one line"),
        ("a red\u2028mug", r"prompt is 'a red\u2028mug'; write it in one line"),
        ("a red\x0bmug", r"prompt is 'a red\x0bmug'; it holds bytes that are no text"),
        ("a red \udcff mug", r"prompt is 'a red \udcff mug'; it holds bytes that are no text"),
        ("a red\tmug", None),
        ("a red mug\n", None),
    ],
)
def test_a_prompt_is_one_line_in_a_batch_as_in_train(prompt: str, reason: str | None) -> None:
    tasks, bad = plan([Row(1, prompt)])
    assert [refusal.reason for refusal in bad] == ([] if reason is None else [reason])
    if reason is None:
        assert [task.config.prompt for task in tasks] == [prompt.strip()]
        assert configs.load(None, [f"prompt={prompt}"]).prompt == prompt.strip()
    else:
        with pytest.raises(UserError, match=f"^{re.escape(reason)}$"):
            configs.load(None, [f"prompt={prompt}"])


def test_a_seed_has_the_same_bounds_in_a_batch_as_in_train() -> None:
    _, (refusal,) = plan([Row(1, "a red mug", seed=2**63)])
    with pytest.raises(UserError, match=f"^{re.escape(refusal.reason)}$"):
        configs.load(None, [f"seed={2**63}"])


def test_settings_that_no_row_could_use_are_refused_at_once(tmp_path: Path) -> None:
    rows, _ = read_rows(write(tmp_path / "p.txt", "a mug"))
    with pytest.raises(UserError, match="num_stepz"):
        plan(rows, overrides=["num_stepz=3"])
    with pytest.raises(UserError, match="twice"):
        plan(rows, seeds=[1, 1])


def test_a_fingerprint_is_that_of_all_settings_whatever_tasks_share() -> None:
    """Numbers that are equal and written differently are different settings."""
    base = configs.load(SMOKE)
    marks = [dataclasses.replace(base.guidance, M=200), dataclasses.replace(base.guidance, M=201)]
    made = [
        Task(f"{i}", dataclasses.replace(base, seed=seed, guidance=guidance))
        for i, (seed, guidance) in enumerate((seed, mark) for seed in (1, 2) for mark in marks)
    ]
    for task in made:
        whole = json.dumps(configs.to_mapping(task.config), sort_keys=True)
        assert task.fingerprint == hashlib.sha256(whole.encode()).hexdigest()[:12]
    assert len({task.fingerprint for task in made}) == 4


def test_rows_of_many_settings_read_the_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, load = [], configs.load
    monkeypatch.setattr(plans.configs, "load", lambda *args: (reads.append(args), load(*args))[1])
    rows = [
        Row(i, "a disc", seed=i, settings=(f"num_steps={i + 1}", "guidance.M=300"))
        for i in range(50)
    ]
    tasks, bad = plan(rows, config=SMOKE, overrides=["num_steps=7", "guidance.scale=2"])
    assert not bad
    assert len(reads) == 1
    for task, row in zip(tasks[::20], rows[::20], strict=True):
        whole = load(SMOKE, ["num_steps=7", "guidance.scale=2", *row.settings])
        assert task.config == dataclasses.replace(whole, prompt=row.prompt, seed=row.seed)


def test_rows_of_another_programs_file_are_in_its_words(tmp_path: Path) -> None:
    """Its translation depends on its own keys, and on the estimator."""
    file = write(tmp_path / "lucid.yaml", "GuidanceParams:\n  text: a mug\n  guidance_scale: 7.5\n")
    settings = [
        ("OptimizationParams.iterations=40",),
        ("guidance.estimator=sds",),
        ("guidance.M=300",),
    ]
    rows = [Row(i, "a mug", settings=words) for i, words in enumerate(settings)]
    tasks, bad = plan(rows, config=file)
    assert [refusal.line for refusal in bad] == [1, 2]  # names that are given twice
    rows = [dataclasses.replace(row, seed=i) for i, row in enumerate(rows)]
    tasks, bad = plan(rows, config=file)
    assert not bad
    for task, words in zip(tasks, settings, strict=True):
        whole = dataclasses.replace(configs.load(file, words), prompt="a mug", seed=task.line)
        assert task.config == whole
    assert tasks[0].config.num_steps == 40


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://127.0.0.1:1/x", "ftp://127.0.0.1:1/x cannot be used: .*refused"),
        ("nosuch://x", "Protocol not known: nosuch"),
    ],
)
def test_a_place_that_cannot_be_reached_is_one_sentence(url, reason):
    """Some file systems of fsspec connect as they are made, others at the first use."""
    pytest.importorskip("fsspec")
    with pytest.raises(UserError, match=reason):
        Store(url).check()


def test_a_url_that_lacks_a_slash_makes_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("a red disc\n")
    assert cli.main(["batch", "p.txt", "--out", "s3:/bucket/batch"]) == 2
    assert "a URL has two slashes" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]
    assert not any(
        map(is_torn_url, ("s3://b", "C:/x", "out/b", "run:1", "memory://x", "a::file://x"))
    )
