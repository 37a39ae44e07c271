import io
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.sheet import Strip, contact_sheet, page
from gs_ssd.lab.evaluate.summary import (
    differences,
    kind_table,
    markdown,
    matrix,
    summarise,
    variants,
)


def record(prompt, variant="ssd", seed=0, **numbers):
    return {
        "key": f"{variant}/{prompt}/{seed}", "prompt": prompt, "variant": variant, "seed": seed,
        "kind_share": 0.75, "kind_ceiling": 0.9375, "color_share": 1.0, "color_ceiling": 1.0,
        "haze": 0.2, "haze_truth": 0.1, "outside": 0.01, "iou": 0.9, "seconds": 100.0,
    } | numbers  # fmt: skip


RECORDS = [
    record("a red car"),
    record("a red car", seed=1, kind_share=0.9375),
    record("a blue mug", kind_share=0.5, outside=0.05),
    {
        "key": "x",
        "prompt": "a blue mug",
        "variant": "ssd",
        "seed": 1,
        "failed": "exit code 2: no splats",
    },
    record("a red car", "csd", haze=0.4),
    record("a blue mug", "csd", haze=0.3),
]


def test_shares_are_of_the_judge_s_ceiling_and_failures_are_missing():
    np.testing.assert_allclose(
        matrix(RECORDS, "ssd", "kind"), [[0.5333, np.nan], [0.8, 1.0]], atol=1e-4
    )
    assert summarise(RECORDS)["ssd"]["kind"].mean == pytest.approx((0.53333 + 0.9) / 2, abs=1e-4)
    assert "edge" not in summarise(RECORDS)["ssd"]


def test_differences_are_paired():
    assert variants(RECORDS) == ["ssd", "csd"]
    assert differences(RECORDS, "ssd")["csd"]["haze"].mean == pytest.approx(-1.5)


def test_a_ceiling_of_zero_says_nothing():
    assert math.isnan(matrix([record("a", kind_ceiling=0.0)], "ssd", "kind")[0, 0])


def test_the_page_names_what_was_missed():
    text = markdown(RECORDS, "Quick")
    assert "6 assets, 1 failed" in text
    assert "no splats" in text
    assert "**missed** by a blue mug 0.53" in text
    assert "colour named right / ceiling >= 0.9: 1 [1, 1], reached (without 1 that failed)" in text
    assert "haze / truth <= 4.0: 2" in text
    assert "alpha outside the main component <= 0.02: 0.03" in text
    assert kind_table(RECORDS, "ssd")["a red car"]["outside"] == pytest.approx(0.01)


def test_a_prompt_without_an_asset_is_missed():
    failed = {
        "key": "y",
        "prompt": "a gray boat",
        "variant": "ssd",
        "seed": 0,
        "failed": "exit code 2",
    }
    assert "- every kind >= 0.7 of its ceiling: **missed** by a gray boat failed" in markdown(
        [record("a red car", kind_share=0.9375), failed], "Quick"
    )


def test_a_table_names_its_weights_and_refuses_to_mix_them():
    ours, theirs = (
        {"origin": {"weights": f"bundled {name}", "recipe": "r"}} for name in ("aaaa", "bbbb")
    )
    assert "Weights: bundled aaaa, recipe r." in markdown([RECORDS[0] | ours], "Quick")
    with pytest.raises(UserError, match="different weights"):
        markdown([RECORDS[0] | ours, RECORDS[1] | theirs], "Quick")
    with pytest.raises(UserError, match="not recorded"):
        markdown([RECORDS[0] | ours, RECORDS[1]], "Quick")


def test_a_sheet_holds_its_pictures_and_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    green = np.zeros((2, 64, 64, 3), np.uint8)
    green[..., 1] = 255
    rows = [[Strip("truth", green), Strip("ssd", noise)]] * 6
    path = tmp_path / "sheet.png"
    contact_sheet(rows, path, max_kb=80)
    assert path.stat().st_size <= 80_000
    sheet = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
    assert sheet.shape == (6 * (14 + 64 + 4), 6 * 64 + 4 * 4, 3)
    assert np.abs(sheet[40, 40].astype(int) - [0, 255, 0]).max() < 20
    contact_sheet(rows[:1], path)
    exact = np.asarray(Image.open(path))
    np.testing.assert_array_equal(exact[14:78, 4 + 128 + 8 : 4 + 128 + 8 + 64], noise[0])


def test_the_page_is_whole_and_quotes_what_it_shows():
    text = page(
        "A <suite>",
        "| a | b |",
        [("a red car", [("runs/x/strip.png", "ssd & co", "runs/x/index.html")])],
    )
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, dict(attrs)))
    parser.feed(text)
    assert ("img", {"loading": "lazy", "src": "runs/x/strip.png", "alt": ""}) in found
    assert "A &lt;suite&gt;" in text
    assert "ssd &amp; co" in text
