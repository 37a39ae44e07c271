"""One tiny pipeline folder a session for all tests of the real loading code."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny():
    """The module that builds tiny pipelines (imported by path: tests are no package)."""
    pytest.importorskip("diffusers")
    spec = importlib.util.spec_from_file_location(
        "tiny_diffusion", Path(__file__).with_name("tiny_diffusion.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def folder(tiny, tmp_path_factory):
    """A saved SD-1-like pipeline. Read only: copy it before changing it."""
    path = tmp_path_factory.mktemp("sd") / "tiny"
    tiny.pipeline(path.parent / "scratch").save_pretrained(str(path))
    return path
