"""Numbers of thousands of digits in files of others: one clear word, none of Python's advice."""

import struct
from pathlib import Path

import pytest

from gs_ssd import json_text
from gs_ssd.batch.rows import read_rows
from gs_ssd.body import bvh
from gs_ssd.errors import UserError
from gs_ssd.export import formats
from gs_ssd.lab.evaluate.suite import parse_suite
from gs_ssd.prior import pipelines
from gs_ssd.viewer.views import read_views

LONG = "9" * 5000
WORDS = "a number of more than 400 digits"
BVH = (
    "HIERARCHY\nROOT Hips\n{\n OFFSET 0 0 0\n CHANNELS 3 Zrotation Xrotation Yrotation\n"
    " End Site\n {\n  OFFSET 0 0 1\n }\n}\nMOTION\nFrames: LONG\nFrame Time: 0.1\n0 0 0\n"
)


def glb(path: Path) -> None:
    document = b'{"asset": LONG}'.replace(b"LONG", LONG.encode())
    document += b" " * (-len(document) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(document), len(document), b"JSON")
    path.write_bytes(head + document)


def batch(path: Path) -> None:
    path.write_text('{"prompt": "a red mug", "seed": LONG}\n'.replace("LONG", LONG))
    ((_, reason),) = [(line.line, line.reason) for line in read_rows(path)[1]]
    raise UserError(reason)


def text(path: Path, content: str) -> Path:
    path.write_text(content.replace("LONG", LONG))
    return path


READ = {
    "rows.jsonl": batch,
    "views.json": lambda path: read_views(text(path, '[{"azimuth_deg": LONG}]')),
    "suite": lambda path: parse_suite(path.name, '{"seeds": [LONG]}'.replace("LONG", LONG)),
    "gs_ssd.json": lambda path: pipelines.read_metadata(text(path, '{"image_size": LONG}').parent),
    "a.ply": lambda path: formats.read_splats(
        text(path, "ply\nformat ascii 1.0\nelement vertex LONG\nproperty float x\nend_header\n1\n")
    ),
    "a.bvh": lambda path: bvh.read(text(path, BVH)),
}


@pytest.mark.parametrize("name", READ)
def test_a_number_of_5000_digits_is_called_that(name, tmp_path):
    with pytest.raises(UserError, match=WORDS) as refused:
        READ[name](tmp_path / name)
    assert "set_int_max_str_digits" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_it_is_the_same_in_what_a_file_holds_inside(tmp_path):
    glb(tmp_path / "a.glb")
    with pytest.raises(UserError, match=WORDS):
        formats.read_splats(tmp_path / "a.glb")


def test_what_is_parsed_is_json():
    assert json_text.parse(b'{"a": [-12, 1.5e3, null]}') == {"a": [-12, 1500.0, None]}
    assert json_text.parse("9" * 400) == int("9" * 400)
    for bad, words in (("{", "Expecting"), ("[" * 100_000, "nested too deep")):
        with pytest.raises(ValueError, match=words):
            json_text.parse(bad)
