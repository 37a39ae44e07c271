"""One tiny pipeline folder a session for all tests of the real loading code."""

import contextlib
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


@pytest.fixture
def open_hub(load_beside, tmp_path, monkeypatch):
    """Serve a folder as `NAME` to the hub's client, with an empty cache; returns the server."""
    import huggingface_hub
    from huggingface_hub import constants

    hubs = load_beside("loopback_hub")
    with contextlib.ExitStack() as stack:

        def serve(folder):
            hub = stack.enter_context(hubs.serving(folder))
            template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "ENDPOINT", hub.address)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            huggingface_hub.close_session()
            return hub

        yield serve
    huggingface_hub.close_session()
