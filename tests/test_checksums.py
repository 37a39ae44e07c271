"""The weights that come with the program: as they were published, and damage is named before
anything is made of it."""

import random
import shutil
import subprocess

import pytest

import gs_ssd.prior
from gs_ssd import checksums
from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate import judge
from gs_ssd.prior import BUNDLED, PriorConfig, load

SHIPPED = [BUNDLED, judge.FOLDER]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_what_is_shipped_is_what_was_published(folder):
    """After publishing by hand: python -c "from gs_ssd import checksums;
    checksums.write(FOLDER)"."""
    checksums.check(folder, "publish it anew")
    assert len((folder / checksums.FILE).read_text().splitlines()) >= 2


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_sha256sum_agrees(folder):
    subprocess.run(
        ["sha256sum", "--strict", "--quiet", "-c", checksums.FILE], cwd=folder, check=True
    )


@pytest.fixture
def model(tmp_path):
    """A published folder of small files."""
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(random.Random(0).randbytes(5000))
    (folder / "gs_ssd.json").write_text("{}")
    (folder / "README.md").write_text("a page")
    checksums.write(folder)
    return folder


def test_any_flipped_bit_is_named(model):
    path = model / "unet" / "weights.safetensors"
    good = path.read_bytes()
    rng = random.Random(1)
    for _ in range(50):
        bit = rng.randrange(8 * len(good))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(
            UserError, match=r"unet/weights\.safetensors is damaged .*; fetch it again"
        ):
            checksums.check(model, "fetch it again")
    path.write_bytes(good)
    checksums.check(model, "fetch it again")


def test_missing_and_foreign_files_are_named_and_pages_may_change(model):
    (model / "README.md").write_text("another page")
    checksums.check(model, "")
    (model / "vae.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"vae\.safetensors is not in SHA256SUMS"):
        checksums.check(model, "")
    (model / "vae.safetensors").unlink()
    (model / "gs_ssd.json").unlink()
    with pytest.raises(UserError, match=r"gs_ssd\.json is missing"):
        checksums.check(model, "")


@pytest.mark.parametrize("content", [None, b"", b"nonsense\n", b"\xff\xfe", b"abc  gs_ssd.json\n"])
def test_a_list_that_is_missing_or_damaged_is_a_sentence(model, content):
    (
        (model / checksums.FILE).unlink()
        if content is None
        else (model / checksums.FILE).write_bytes(content)
    )
    with pytest.raises(UserError, match="fetch it again"):
        checksums.check(model, "fetch it again")


def test_a_damaged_prior_of_ours_is_not_loaded_and_a_changed_one_may_be(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED, folder)
    text = (folder / "gs_ssd.json").read_text()
    (folder / "gs_ssd.json").write_text(text.replace(" ", "  ", 1))
    with pytest.raises(UserError, match=r"gs_ssd\.json is damaged .* delete SHA256SUMS"):
        load(PriorConfig(model=str(folder)), "cpu")
    (folder / checksums.FILE).unlink()
    assert gs_ssd.prior._locate(PriorConfig(model=str(folder)), half=False) == folder


def test_a_damaged_judge_judges_nothing(tmp_path):
    folder = tmp_path / "judge"
    shutil.copytree(judge.FOLDER, folder)
    weights = bytearray((folder / "judge.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "judge.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"judge\.safetensors is damaged"):
        judge.load(folder)
