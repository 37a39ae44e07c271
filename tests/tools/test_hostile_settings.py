"""A sample of the hostile values that the tool tries; the whole takes most of a minute."""

import importlib.util
import random
from pathlib import Path

import pytest

from gs_ssd import config as configs


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[2] / "tools" / "hostile_settings.py"
    spec = importlib.util.spec_from_file_location("hostile_settings", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tries(tool):
    keys = configs.known_keys().items()
    return [(key, value) for key, (annotation, _) in keys for value in tool.values_of(annotation)]


def test_hostile_values_are_refused_by_name_or_taken(tool, tries):
    for key, value in random.Random(0).sample(tries, 400):
        ended, said = tool.outcome(key, value, steps=0, seconds=60)
        assert ended in ("refused", "taken"), f"{key}={value[:40]!r}: {said}"


@pytest.mark.slow
def test_what_is_taken_trains_or_is_refused(tool, tries):
    for key, value in random.Random(1).sample(tries, 60):
        ended, said = tool.outcome(key, value, steps=1, seconds=120)
        assert ended in ("refused", "taken", "unnamed"), f"{key}={value[:40]!r}: {said}"
