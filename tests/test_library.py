"""docs/library.md: its blocks run as they stand, in order, with the exact prior in place of the
bundled one."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL
)


def run(block, names=None):
    """Execute a block on the smoke config; returns what it defined."""
    block = block.replace('"configs/quickstart.yaml"', repr(str(ROOT / "configs" / "smoke.yaml")))
    block = block.replace("num_steps=200", "num_steps=6").replace('"bundled"', '"analytic"')
    defined = dict(names or {})
    exec(compile(block.replace("a red mushroom", "a red disc"), "docs/library.md", "exec"), defined)
    return defined


def test_the_document_has_the_blocks_that_are_tested():
    assert len(BLOCKS) == 5


def test_an_asset_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defined = run(BLOCKS[0])
    assert len(defined["splat"]) == 300
    assert (tmp_path / "out/library/point_cloud.ply").is_file()


def test_many_jobs_share_a_prior(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(BLOCKS[1])
    red, blue = (
        (tmp_path / "out" / name / "point_cloud.ply").read_bytes() for name in ("red", "blue")
    )
    assert red != blue
    assert "point_cloud.ply" in capsys.readouterr().out


def test_an_estimator_of_ones_own_guides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defined = run(BLOCKS[2])
    mine = defined["trainer"]
    assert mine.job.distillation.estimator is defined["half_and_half"]
    theirs = type(mine)(mine.config, tmp_path / "ssd")
    for _ in range(6):
        theirs.step()
    assert not torch.equal(theirs.asset.gaussians.sh_dc, mine.asset.gaussians.sh_dc)


def test_the_parts_alone_and_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defined = run(BLOCKS[3])
    assert not torch.equal(defined["splat"].sh_dc[:, 0], torch.zeros(500, 3))  # it has learned
    (tmp_path / "out").mkdir()
    again = run(BLOCKS[4], defined)["again"]
    assert again.means == pytest.approx(defined["splat"].means.detach().numpy(), abs=1e-6)
