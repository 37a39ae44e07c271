"""Networks that say no, and caches that were filled on another day: a loopback server refuses,
resets or closes."""

import contextlib
import json
import shutil
import socket
import socketserver
import struct
import threading

import huggingface_hub
import pytest
from huggingface_hub import constants

from gs_ssd.errors import UserError
from gs_ssd.lab.evaluate.clip_score import ClipScore
from gs_ssd.prior import PriorConfig, hub, load, shap_e, sources

pytest.importorskip("diffusers")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSALS = [
    ("403", "proxy"),
    ("407", "proxy"),
    ("503", "server"),
    ("closes", "server"),
    ("resets", "server"),
]


class _Refusing(socketserver.BaseRequestHandler):
    """A server, or a proxy, that answers every request in the one way it was made for."""

    def handle(self):
        with contextlib.suppress(OSError):
            self.request.recv(65536)
            way = self.server.way
            if way == "resets":
                self.request.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            elif way == "silent":
                threading.Event().wait(20)
            elif way == "nonsense":
                self.request.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            elif way != "closes":
                self.request.sendall(
                    f"HTTP/1.1 {way} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                )


@pytest.fixture(params=REFUSALS, ids="-".join)
def refusing(request, monkeypatch, tmp_path):
    """The hub refuses, itself or through the proxy; the cache is `tmp_path / "cache"`."""
    way, where = request.param
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's pauses between tries
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refusing) as server:
        server.way, server.daemon_threads = way, True
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        if where == "proxy":
            for name in ("HTTPS_PROXY", "https_proxy"):
                monkeypatch.setenv(name, address)
        else:
            monkeypatch.setattr(constants, "ENDPOINT", address)
            template = address + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.close_session()
        yield
        server.shutdown()
    huggingface_hub.close_session()


def fill(cache, repository, folder, *, tree=()):
    """A cache as the hub's client keeps it: the snapshot, the ref and the repository's whole list
    of files."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    files = {
        str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()
    } | set(tree)
    (place / "trees").mkdir()
    entries = {file: {"size": 1, "blob_id": "0" * 40} for file in files}
    (place / "trees" / f"{COMMIT}.json").write_text(
        json.dumps({"format_version": 1, "files": entries})
    )
    return snapshot


@pytest.mark.usefixtures("refusing")
def test_a_refusal_falls_back_on_the_cache_else_on_one_sentence(folder, tmp_path):
    with pytest.raises(
        UserError, match=r"prior\.model=sd15: no weights\. Tried (?s:.)*hf download"
    ):
        sources.locate("sd15")
    with pytest.raises(UserError, match=r"prior\.tiny_vae=someone/tiny"):
        load(PriorConfig(model=str(folder), tiny_vae="someone/tiny"), "cpu")
    with pytest.raises(UserError, match=r"prior\.controlnet=someone/depth"):
        load(PriorConfig(model=str(folder), controlnet="someone/depth"), "cpu")
    with pytest.raises(UserError, match=r"prior\.lora=someone/style"):
        load(PriorConfig(model=str(folder), lora=("someone/style",)), "cpu")
    with pytest.raises(UserError, match=r"prior\.textual_inversion=someone/word"):
        load(PriorConfig(model=str(folder), textual_inversion=("someone/word",)), "cpu")
    with pytest.raises(
        UserError, match=r"initialize\.text_model=openai/shap-e (?s:.)*initialize\.shape=sphere"
    ):
        shap_e._load("openai/shap-e", False)
    with pytest.raises(UserError, match=r"--clip openai/clip cannot be fetched"):
        ClipScore("openai/clip")
    snapshot = fill(tmp_path / "cache", "stable-diffusion-v1-5/stable-diffusion-v1-5", folder)
    assert sources.locate("sd15") == snapshot


@pytest.mark.parametrize(
    "refusing", [("silent", "proxy"), ("silent", "server")], indirect=True, ids="-".join
)
@pytest.mark.usefixtures("refusing")
def test_nobody_waits_for_ever_for_a_server_that_says_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "SILENCE_S", 0.3)
    with pytest.raises(UserError, match=r"prior\.model=sd15: no weights\. Tried (?s:.)*time"):
        sources.locate("sd15")
    snapshot = fill(tmp_path / "cache", "stable-diffusion-v1-5/stable-diffusion-v1-5", folder)
    assert sources.locate("sd15") == snapshot
    hooks = huggingface_hub.utils.get_session().event_hooks["request"]
    assert hub._limit not in hooks  # the client is theirs, as it was


@pytest.mark.parametrize(
    "refusing", [("407", "proxy"), ("resets", "server")], indirect=True, ids="-".join
)
@pytest.mark.usefixtures("refusing")
def test_a_refusal_falls_back_on_cached_additions(folder, tmp_path, tiny_shap_e):
    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).save_pretrained(str(tmp_path / "taesd"))  # fmt: skip
    fill(tmp_path / "cache", "someone/tiny", tmp_path / "taesd")
    prior = load(PriorConfig(model=str(folder), tiny_vae="someone/tiny"), "cpu")
    assert type(prior.vae).__name__ == "AutoencoderTiny"
    fill(tmp_path / "cache", "openai/shap-e", tiny_shap_e)
    assert type(shap_e._load("openai/shap-e", False)).__name__ == "ShapEPipeline"


@pytest.fixture
def variants(folder, tmp_path, monkeypatch):
    """Fill a cache with one precision of a repository that has both; returns its snapshot."""

    def make(cached, *, without=()):
        other = tmp_path / "kept"
        shutil.copytree(folder, other)
        tree = []
        for file in sorted(other.rglob("*.safetensors")):
            half = file.with_name(file.name.replace(".safetensors", ".fp16.safetensors"))
            tree += [str(file.relative_to(other)), str(half.relative_to(other))]
            if file.parent.name in without:
                file.unlink()
            elif cached == "fp16":
                file.rename(half)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        return fill(tmp_path / "cache", "someone/model", other, tree=tree)

    return make


@pytest.mark.parametrize("cached", ["float32", "fp16"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_cache_of_the_other_precision_serves(variants, cached, dtype, caplog):
    snapshot = variants(cached)
    prior = load(PriorConfig(model="someone/model", offline=True, dtype=dtype), "cpu")
    assert prior.source == f"someone/model at {COMMIT}"
    assert str(prior.dtype) == f"torch.{dtype}"
    assert any((snapshot / "unet").glob("*.safetensors"))
    assert ("half precision files only" in caplog.text) == (cached == "fp16" and dtype == "float32")


def test_a_cache_without_a_part_is_named(variants):
    variants("float32", without=("vae",))
    with pytest.raises(UserError, match="the cache lacks the weights of vae"):
        load(PriorConfig(model="someone/model", offline=True), "cpu")
