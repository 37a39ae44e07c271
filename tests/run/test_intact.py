"""Checkpoints that were damaged after they were written, or hold what no run can continue from."""

import math
import pickle
import random
import zipfile

import pytest
import torch

from gs_ssd.run.intact import fault_of, is_intact


def tree():
    """Two Gaussians, say, of a run of ten steps."""
    parameters = {"means": torch.randn(2, 3), "sh_rest": torch.zeros(2, 0, 3)}
    adam = {
        name: {
            "step": torch.tensor(4.0),
            "exp_avg": torch.zeros_like(x),
            "exp_avg_sq": torch.ones_like(x),
        }
        for name, x in parameters.items()
    }
    asset = {"parameters": parameters, "adam": adam, "statistics": {"sightings": torch.zeros(2)}}
    return {
        "step": 4,
        "kind": "splat",
        "asset": asset,
        "guidance": {"weights": [torch.ones(3)]},
        "bad_steps": 0,
    }


def test_bits_that_flip_in_a_tensor_or_in_the_directory_are_seen(tmp_path):
    """Bits that carry nothing (padding, dates) may flip unseen: then what is loaded is what was
    saved."""
    path = tmp_path / "step_000004.pt"
    torch.save({"config": {}, "state": tree()}, path)
    good, rng = path.read_bytes(), random.Random(0)
    assert is_intact(path)
    seen = 0
    saved = torch.load(path, weights_only=True)["state"]
    for _ in range(300):
        bit = rng.randrange(8 * len(good))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        if not is_intact(path):
            seen += 1
            continue
        try:
            loaded = torch.load(path, weights_only=True)["state"]
        except (RuntimeError, pickle.UnpicklingError):  # it refuses what it cannot find its way in
            continue
        assert torch.equal(
            loaded["asset"]["parameters"]["means"], saved["asset"]["parameters"]["means"]
        )
        assert {**loaded, "asset": 0, "guidance": 0} == {**saved, "asset": 0, "guidance": 0}
    assert seen > 50


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" * 100, b"nothing of the kind"])
def test_what_is_no_archive_is_not_intact(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert not is_intact(tmp_path / "a.pt")


def test_a_truncated_archive_is_not_intact(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(tree(), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert not is_intact(path)


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (["step"], -3, "step is -3"),
        (["step"], 10**9, "step is 1000000000, of 10"),
        (["step"], 4.0, "step is float"),
        (["step"], True, "step is bool"),
        (["step"], KeyError, "lacks step"),
        (["kind"], 3, "kind is int"),
        (["asset"], KeyError, "lacks asset"),
        (["asset"], [], "asset is list"),
        (["guidance"], None, "guidance is NoneType"),
        (["bad_steps"], -1, "bad steps is -1"),
        (["bad_steps"], 5, "bad steps is 5"),
        (
            ["asset", "parameters", "means"],
            torch.full((2, 3), math.nan),
            "asset.parameters.means holds NaN",
        ),
        (["guidance", "weights", 0], torch.tensor([math.nan]), "guidance.weights.0 holds NaN"),
    ],
)
def test_a_state_that_no_run_can_go_on_from_is_named(path, value, word, changed):
    assert fault_of(tree(), 10) is None
    assert word in fault_of(changed(tree(), path, value), 10)
    assert fault_of(None, 10) == "it holds no state"


def test_a_record_that_is_marked_as_a_folder_is_seen(tmp_path):
    """One bit of a record's attributes: torch then loads whatever lay in memory as its numbers."""
    path = tmp_path / "step_000004.pt"
    torch.save({"config": {}, "state": tree()}, path)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, records = archive.start_dir, len(archive.infolist())
    at, found = start, 0
    while (at := good.find(b"PK\x01\x02", at)) >= 0:
        bad = bytearray(good)
        bad[at + 38] |= 0x10
        path.write_bytes(bad)
        assert not is_intact(path)
        at, found = at + 4, found + 1
    assert found == records
