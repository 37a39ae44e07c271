"""One tiny pipeline folder a session for all tests of the real loading code."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def load_beside():
    """Import a module of this folder by its path, as tests are no package."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def tiny(load_beside):
    """The module that builds tiny pipelines."""
    pytest.importorskip("diffusers")
    return load_beside("tiny_diffusion")


@pytest.fixture(scope="session")
def folder(tiny, tmp_path_factory):
    """A saved SD-1-like pipeline. Read only: copy it before changing it."""
    path = tmp_path_factory.mktemp("sd") / "tiny"
    tiny.pipeline(path.parent / "scratch").save_pretrained(str(path))
    return path
