"""The numbers of a run: what is written, what is kept, and what a full disk does."""

import json
import subprocess
import sys

import torch

from gs_ssd.run.metrics import Recorder

BEFORE = (
    '{"step": 0, "loss": 0.00123457, "t": [20, 980], "grad_norm": null}\n'
    '{"step": 5, "loss": 1e-12, "t": [21, 981], "grad_norm": 3.0}\n'
    '{"step": 9, "loss": 2.5, "t": [22, 982], "grad_norm": 3.0}\n'
)


def test_lines_of_the_version_before_stay_to_the_byte_up_to_the_step_that_is_resumed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(BEFORE + '{"step": 14, "lo')
    with Recorder(tmp_path, 6, 10) as recorder:
        recorder.log({"step": 6, "loss": float("nan"), "norm": torch.tensor(0.25)})
    kept, last = BEFORE.splitlines(keepends=True)[:2], '{"step": 6, "loss": null, "norm": 0.25}\n'
    assert path.read_text() == "".join(kept) + last


FILL = """
import resource, sys
from pathlib import Path
from gs_ssd.errors import UserError
from gs_ssd.run.metrics import Recorder
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    with Recorder(Path(sys.argv[1]), 0, 10) as recorder:
        for step in range(10):
            recorder.log({"step": step, "loss": 1.25})
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_said_in_a_sentence_and_leaves_whole_lines(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path], capture_output=True, text=True, check=True
    )
    path = tmp_path / "metrics.jsonl"
    assert done.stdout == f"cannot write {path}: File too large; free some room, then --resume\n"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows))) != []
