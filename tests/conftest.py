"""Shared by all tests: fixed seeds, and no silent skipping where the browser and the readers of
others are promised."""

import asyncio
import copy
import importlib.util
import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def changed() -> Callable[[Any, list[Any], Any], Any]:
    """A tree of dicts and lists with another value at the end of a way into it; `KeyError`: without
    that entry."""

    def change(tree: Any, path: list[Any], value: Any) -> Any:
        tree = copy.deepcopy(tree)
        *way, last = path
        inner = tree
        for key in way:
            inner = inner[key]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value
        return tree

    return change


@pytest.fixture(autouse=True, scope="session")
def _signals_as_at_a_terminal() -> None:
    """A shell's `&` starts programs that ignore Ctrl-C, `nohup` such that ignore SIGHUP, and what
    they start inherits it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="module")
def _handlers_of_signals_stay() -> Iterator[None]:
    """A handler that a library leaves behind answers Ctrl-C or SIGTERM in its own way, in a user's
    program as in the tests that follow."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.getsignal(number) for number in numbers]
    yield
    after = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    assert after == before


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, None, None]:
    """With GS_SSD_REQUIRE_READERS set, a test marked `browser` or `readers` that skips has
    failed."""
    outcome = yield
    report = outcome.get_result()
    marked = any(item.get_closest_marker(name) for name in ("browser", "readers"))
    if report.skipped and marked and os.environ.get("GS_SSD_REQUIRE_READERS"):
        report.outcome = "failed"
        report.longrepr = f"skipped although GS_SSD_REQUIRE_READERS is set: {report.longrepr}"


@pytest.fixture(scope="session")
def node_package() -> Callable[[str], Path]:
    """Folder of an installed Node package; skips, saying so, where it or Node is missing."""
    modules = Path(
        os.environ.get("GS_SSD_NODE_MODULES", Path(__file__).parent / "node" / "node_modules")
    ).resolve()

    def find(name: str) -> Path:
        if shutil.which("node") is None:
            pytest.skip("Node is not installed (`make readers`)")
        if not (modules / name).is_dir():
            pytest.skip(f"{name} is not in {modules} (`make readers`, or set GS_SSD_NODE_MODULES)")
        return modules / name

    return find


@pytest.fixture(scope="session")
def serve_app() -> Callable[[Any], AbstractContextManager[int]]:
    """Serve an application in a thread, as long as a `with` lasts; it gives the port."""
    from gs_ssd.studio import serving

    @contextmanager
    def served(app: Any) -> Iterator[int]:
        with serving.listening("127.0.0.1", 0) as sock:
            port, server = sock.getsockname()[1], serving.Server(app)
            thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
            thread.start()
            yield port
            server.should_exit = True
            thread.join(2 * serving.LAST_S)

    return served


def _beside_the_priors_tests(name: str) -> Any:
    """A module of tests/prior by its path, as tests are no package."""
    builder = Path(__file__).parent / "prior" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, builder)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline folder of the right classes with small random weights: 32 pixels,
    16x16 latents."""
    folder = tmp_path_factory.mktemp("models") / "stable_diffusion"
    pipeline = _beside_the_priors_tests("tiny_diffusion").pipeline(folder.parent / "scratch")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_mvdream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder laid out as the public port of MVDream, small and random: 32 pixels, 16x16
    latents. Read only: copy it before changing it."""
    folder = tmp_path_factory.mktemp("models") / "mvdream"
    multiview = _beside_the_priors_tests("tiny_multiview")
    rest = _beside_the_priors_tests("tiny_diffusion").pipeline(folder.parent / "scratch", sd2=True)
    multiview.write_folder(folder, rest, multiview.tensors())
    return folder


@pytest.fixture(scope="session")
def tiny_taesd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random AutoencoderTiny for the latents of `tiny_stable_diffusion`."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "taesd"
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def tiny_shap_e(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ShapEPipeline folder with small random weights, whose every shape is the cube from -1 to
    1."""
    import diffusers
    from diffusers.pipelines.shap_e import ShapERenderer
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    tokenizer = _letters()
    prior = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, embedding_dim=16, num_embeddings=32,
        embedding_proj_dim=16,
        time_embed_dim=64, num_layers=1, clip_embed_dim=32, additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer", encoder_hid_proj_type=None, added_emb_type=None,
    )  # fmt: skip
    renderer = ShapERenderer(
        param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=16, d_hidden=8, n_output=12
    )
    last = renderer.mlp.mlp[-1]
    with torch.no_grad():
        last.weight[0], last.bias[0] = 0.0, 1.0  # the signed distance: inside everywhere
    # The table of marching cubes is part of the weights. Three crossed edges a cell make a rough
    # but closed-in surface.
    for case, edges in enumerate(_crossed_edges()):
        if edges:
            renderer.mesh_decoder.cases[case, 0] = torch.tensor(edges[:3])
            renderer.mesh_decoder.masks[case, 0] = True
    scheduler = diffusers.HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
    )
    pipe = diffusers.ShapEPipeline(
        prior=prior, text_encoder=CLIPTextModelWithProjection(_text_config(tokenizer)),
        tokenizer=tokenizer,
        scheduler=scheduler, shap_e_renderer=renderer,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "shap_e"
    pipe.save_pretrained(folder)
    return folder


def _letters() -> Any:
    """A CLIP tokenizer that spells."""
    from transformers import CLIPTokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,.'-<>_"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77
    )


def _text_config(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    end = tokenizer.eos_token_id
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, projection_dim=16, intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1, bos_token_id=tokenizer.bos_token_id, eos_token_id=end,
        pad_token_id=end,
    )  # fmt: skip


def _crossed_edges() -> list[list[int]]:
    """For each of the 256 corner masks (bit x + 2 y + 4 z), the edges with one end inside: 4 along
    x, 4 y, 4 z."""
    edges = []
    for axis in (1, 2, 4):
        others = [step for step in (1, 2, 4) if step != axis]
        edges += [
            (near, near + axis)
            for far, low in itertools.product((0, others[1]), (0, others[0]))
            for near in [far + low]
        ]
    return [
        [i for i, (a, b) in enumerate(edges) if (case >> a & 1) != (case >> b & 1)]
        for case in range(256)
    ]
