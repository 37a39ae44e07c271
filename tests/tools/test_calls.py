"""The bad calls of `tools/reliability/calls.py` are of every subcommand and every experiment, and
each is a good call but for what is bad on purpose."""

import argparse
import importlib
import sys
from pathlib import Path

import pytest

from gs_ssd import cli
from gs_ssd.lab.commands import reproduce
from gs_ssd.lab.reproduce import EXPERIMENTS

sys.path.append(str(Path(__file__).parents[2] / "tools" / "reliability"))
calls = importlib.import_module("calls")


def test_every_subcommand_and_every_experiment_is_called():
    good = [tried.good for tried in calls.TRIED]
    assert {words[0] for words in good} == set(cli.COMMANDS)
    assert {words[1] for words in good if words[0] == "reproduce"} == {*EXPERIMENTS, "all"}


@pytest.mark.parametrize(
    "words", [tried.good[1:] for tried in calls.TRIED if tried.good[0] == "reproduce"], ids=" ".join
)
def test_no_experiment_is_refused_before_it_sees_what_is_bad(words):
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    args = parser.parse_args(words)
    reproduce.check(args, list(EXPERIMENTS) if args.name == "all" else [args.name])
    assert args.size == "tiny"
