"""The `gs-ssd` command: exit codes, lazy imports, strangers under our native packages' names."""

import argparse
import os
import subprocess
import sys
import types

import pytest

from gs_ssd import cli, native
from gs_ssd.errors import UserError


def test_help_names_every_subcommand(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)


@pytest.mark.parametrize(("word", "hint"), [("paint", "`gs-ssd --help`"), ("bacth", "mean batch?")])
def test_an_unknown_subcommand_exits_2_and_names_the_nearest(word, hint, capsys):
    assert cli.main([word]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_subcommand_can_print_its_help_and_refuse_an_option(name, capsys):
    """Both format every text of its arguments, where a lone % would be an error."""
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--nosuch", "--", "x"])
    assert stop.value.code == 2
    assert f"usage: gs-ssd {name}" in capsys.readouterr().err


def test_a_user_error_is_one_sentence_and_exit_code_2(monkeypatch, capsys):
    class Broken:
        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None: ...

        @staticmethod
        def run(args: argparse.Namespace) -> int:
            raise UserError("the key colour is unknown; did you mean color?")

    monkeypatch.setitem(sys.modules, "gs_ssd.commands.doctor", Broken)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "gs-ssd: the key colour is unknown; did you mean color?\n"


def test_a_folder_that_may_not_be_looked_into_is_a_sentence(tmp_path, capsys):
    """Root may look everywhere, so a name that no file system takes stands for it."""
    for words in (
        ["train", "--prompt", "x", "--out"],
        ["export", "--for", "web"],
        ["train", "--config"],
    ):
        assert cli.main([*words, str(tmp_path / ("x" * 300))]) == 2
        message = capsys.readouterr().err
        assert ": File name too long; choose another" in message
        assert message.count("\n") == 1


def test_an_axis_may_be_written_behind_its_option(monkeypatch):
    seen = []

    class Echo:
        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None:
            parser.add_argument("--up")
            parser.add_argument("source", nargs="*")

        @staticmethod
        def run(args: argparse.Namespace) -> int:
            seen.append((args.up, args.source))
            return 0

    monkeypatch.setitem(sys.modules, "gs_ssd.commands.doctor", Echo)
    for words in (["--up", "-y", "a.ply"], ["a.ply", "--up=-y"], ["a.ply", "--up", "+z"]):
        assert cli.main(["doctor", *words]) == 0
    assert seen == [("-y", ["a.ply"]), ("-y", ["a.ply"]), ("+z", ["a.ply"])]


@pytest.mark.parametrize(
    ("words", "seeds", "overrides"),
    [
        ("--seeds 0 1 a.b=2", [0, 1], ["a.b=2"]),
        ("a=1 --seeds 0 a=2 1 --out x a=3", [0, 1], ["a=1", "a=2", "a=3"]),
        ("--seeds 3 -- a=1", [3], ["a=1"]),
    ],
)
def test_a_setting_may_follow_a_list(words, seeds, overrides, monkeypatch):
    """As docs/scale.md writes it."""
    seen = []
    monkeypatch.setattr("gs_ssd.commands.batch.run", lambda args: seen.append(args) or 0)
    assert cli.main(["batch", "prompts.csv", *words.split()]) == 0
    assert (str(seen[0].input), seen[0].seeds) == ("prompts.csv", seeds)
    assert seen[0].overrides == overrides


def test_what_an_estimator_is_told_is_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr("gs_ssd.lab.commands.bench.run", lambda args: seen.append(args) or 0)
    words = "--estimators ssd csd@wide:guidance.scale=2,seed=1 num_steps=3 --limit 1"
    assert cli.main(["bench", *words.split()]) == 0
    assert seen[0].estimators == ["ssd", "csd@wide:guidance.scale=2,seed=1"]
    assert seen[0].overrides == ["num_steps=3"]


def test_importing_the_package_is_cheap():
    code = (
        "import sys, gs_ssd, gs_ssd.cli; sys.exit(any(m in sys.modules for m in ('torch',"
        " 'diffusers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("own", [None, "ACTIVE"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(own):
    """Set while it still counts: OpenMP reads it when torch is imported."""
    code = (
        "import os, sys; from gs_ssd import cli; cli.main(['trian'])\n"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    rest = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env=rest | ({"OMP_WAIT_POLICY": own} if own else {}),
    )  # fmt: skip
    assert done.stdout == f"{own or 'PASSIVE'} False\n"


def test_no_command_imports_diffusers_before_it_runs():
    """It takes seconds, and says lines of its own, which nobody wants of --help."""
    code = (
        "import importlib, sys\nfrom gs_ssd import cli\n"
        "for one in cli.COMMANDS.values(): importlib.import_module(one.module)\n"
        "sys.exit(' '.join({'diffusers', 'transformers', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert done.stderr == b"\n"


def test_a_stranger_under_our_name_is_recognised(tmp_path, monkeypatch):
    (tmp_path / "simple_knn.py").write_text("class KNN: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        sys.modules, "simple_knn", None
    )  # so that the stranger is gone again afterwards, too
    del sys.modules["simple_knn"]
    with pytest.raises(
        UserError, match=r"not ours.*pip uninstall simple-knn.*submodules/simple-knn"
    ):
        native.native("simple_knn")


@pytest.mark.parametrize(
    ("name", "function"),
    [("diff_gaussian_rasterization", "render_views"), ("hash_grid_encoding", "encode")],
)
def test_a_package_of_an_earlier_version_is_recognised(monkeypatch, name, function):
    earlier = types.ModuleType(name)
    setattr(earlier, function, None)
    monkeypatch.setitem(sys.modules, name, earlier)
    with pytest.raises(UserError, match=r"older than this gs_ssd.*make setup"):
        native.native(name)


def test_a_missing_native_package_says_how_to_build_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "simple_knn", None)
    with pytest.raises(UserError, match=r"pip install \./submodules/simple-knn"):
        native.native("simple_knn")


@pytest.mark.parametrize(
    ("words", "whose"),
    [
        (["train", "--out", ""], "--out is empty"),
        (["train", "--out="], "--out is empty"),
        (["batch", "prompts.txt", "--out", ""], "--out is empty"),
        (["export", "axes", "-o", ""], "-o is empty"),
        (["view", "--no-browser", ""], "--no-browser is empty"),
        (["inspect", ""], "an argument is empty"),
        (["studio", ""], "an argument is empty"),
    ],
)
def test_an_empty_name_is_not_the_present_folder(words, whose, tmp_path, monkeypatch, capsys):
    """What `--out "$OUT"` becomes where nothing has set OUT."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert whose in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_called_from_a_folder_that_is_gone(tmp_path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(["inspect", "x.ply"]) == 2
    assert "the folder that this was called in is gone" in capsys.readouterr().err
