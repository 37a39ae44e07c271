"""The experiment on avatars: it trains, measures, continues where it stopped, and decides."""

import json
from pathlib import Path

import numpy as np
import pytest

from gs_ssd.errors import UserError
from gs_ssd.lab.commands import reproduce
from gs_ssd.lab.evaluate import avatars
from gs_ssd.lab.evaluate.avatars import AvatarNumbers
from gs_ssd.lab.reproduce import avatar
from gs_ssd.lab.reproduce.report import Context
from gs_ssd.prior.outfit import REGIONS, read


def test_it_runs_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(avatars, "VIEWS", 2)
    monkeypatch.setattr(avatars, "SIZE", 32)
    monkeypatch.setattr(avatars, "UNSEEN", {"kick": avatars.UNSEEN["kick"]})
    first = avatar.run(Context("tiny", tmp_path, rows=("ssd",)))
    assert first.complete
    assert first.holds("SSD's silhouettes") is not None
    ledger = tmp_path / "results-tiny.jsonl"
    assert len(ledger.read_text().splitlines()) == 1
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + whole[:-40])  # killed while a second was written
    report = avatar.run(Context("tiny", tmp_path))
    lines = ledger.read_text().splitlines()
    assert [f"{line}\n".encode() == whole for line in lines] == [True, False, False]
    assert json.loads(lines[2])["row"] == "sds"  # it came on a line of its own; SSD was there
    assert report.complete
    assert {claim.holds for claim in report.claims[:-1]} == {None}  # one person tells nothing
    assert (tmp_path / "sheet.png").is_file()
    assert (tmp_path / "avatars.csv").read_text().count("\n") == 3
    record = json.loads(ledger.read_text().splitlines()[0])
    assert set(AvatarNumbers._fields) < set(record)


def test_without_time_for_one_it_says_that_none_is_there(tmp_path):
    report = avatar.run(Context("tiny", tmp_path, minutes=1e-9))
    assert "0 of 2 avatars are there" in report.setting
    assert not report.complete
    assert {claim.holds for claim in report.claims} == {None}
    assert report.figures == ()


def test_unknown_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--rows dreamfusion: choose from ssd, sds"):
        avatar.run(Context("tiny", tmp_path, rows=("dreamfusion",)))


def test_the_sentences_say_what_the_outfits_are():
    from gs_ssd.lab.world import COLORS

    for who in avatar.PERSONS:
        colors = read(who.prompt, COLORS).colors
        assert colors == tuple(getattr(who.outfit, name) for name in REGIONS), who.prompt


def test_a_clear_difference_is_decided():
    base = {"detail": 1.0, "color_error": 0.2, "silhouette_iou": 0.9}
    found = [
        base | {"row": row, "number": number, "seed": 0, "detail": detail + 0.01 * number}
        for row, detail in (("ssd", 1.3), ("sds", 0.9))
        for number in range(6)
    ]
    for record in found:
        record |= {name: 1.0 for name in AvatarNumbers._fields if name not in record}
    claims = avatar._claims(found, ("ssd", "sds"))
    verdicts = {claim.text: claim.holds for claim in claims}
    assert verdicts["SSD's avatars have more detail than sds's"] is True
    assert verdicts["SSD's avatars have truer colours than sds's"] is None
    assert np.isfinite([record["detail"] for record in found]).all()


def test_its_weights_are_the_person_priors():
    made_with = reproduce._weights("avatar", Context("tiny", Path("avatar")))
    bundled = reproduce._weights("comparison", Context("tiny", Path("comparison")))
    assert made_with.startswith("bundled_person ")
    assert bundled.startswith("bundled ")
    assert reproduce._weights("avatar", Context("tiny", Path(), prior="analytic")) == "analytic"
