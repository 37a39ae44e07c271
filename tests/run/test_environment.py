"""What a result was made with: told in full, kept, and compared when a run goes on."""

import json

import torch

from gs_ssd.prior import sources
from gs_ssd.run import environment


def test_it_names_versions_and_device():
    found = environment.describe(torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert found["device"] == "cpu"
    assert found["threads"] == str(torch.get_num_threads())
    assert all(isinstance(value, str) and value for value in found.values())
    assert environment._version("no-such-package") == "absent"


def test_what_changed_is_told_and_the_new_is_kept(tmp_path):
    path = tmp_path / "environment.json"
    assert environment.write(path, {"torch": "1", "prior": "a"}) == {}
    found = {"torch": "2", "prior": "a", "peft": "3"}
    assert environment.write(path, found, completed=7) == {"torch": ("1", "2")}
    assert json.loads(path.read_text()) == found | {"until_step_7": {"torch": "1"}}
    for damaged in ("{", "[1]"):
        path.write_text(damaged)
        assert environment.write(path, {"torch": "2"}, completed=7) == {}


def test_weights_out_of_the_cache_are_called_by_repository_and_commit(tmp_path):
    folder = tmp_path / "models--owner--some--name" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert sources.name_of(folder) == "owner/some--name at abc"
    assert sources.name_of(tmp_path) == str(tmp_path.resolve())
