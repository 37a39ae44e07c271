"""A sample of the tries that docs/reliability.md counts: runs killed, two writers, flipped bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools" / "reliability"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the tools fork")
@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["kills.py", "--kills", "4", "--seed", "7"], "the same bytes: "),
        (["writers.py", "--times", "3"], "resume: one continues: 1"),
        (["flips.py", "--flips", "40", "--seed", "7"], "named: "),
        (
            ["calls.py", "--every", "173", "--first", "11"],
            " 0 tracebacks or unexplained codes, 0 hangs",
        ),
        (["sync_cost.py", "--repeat", "1", "--splats", "500"], "with checksums"),
    ],
    ids=["kills", "writers", "flips", "calls", "sync_cost"],
)
def test_a_sample_has_no_fault(words, seen):
    done = subprocess.run(
        [sys.executable, TOOLS / words[0], *words[1:]], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen in done.stdout
