"""Every file of a model's folder, broken in every way: one sentence that names the folder, never a
traceback."""

import contextlib
import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gs_ssd.errors import UserError
from gs_ssd.prior import PriorConfig, load, sources
from gs_ssd.prior.condition import Condition
from gs_ssd.prior.described import describe

pytest.importorskip("diffusers")

NEEDED = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json|tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)
JSON_DAMAGES = {
    "list": "[]",
    "number": "3",
    "text": '"a"',
    "null": "null",
    "not utf-8": b"\xff\xfe{}",
}


@pytest.fixture
def model(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "gs_ssd.json").write_text(json.dumps({"kinds": ["mug"]}))
    return tmp_path / "model"


def _file(model, name):
    return next(model / one for one in name.split("|") if (model / one).is_file())


def _opened(model):
    return load(PriorConfig(model=str(model)), "cpu")


def _refused(model):
    with pytest.raises(UserError) as error:
        _opened(model)
    message = str(error.value)
    assert str(model) in message
    assert "huggingface.co" not in message, "a local folder's fault is not the hub's"


@pytest.mark.parametrize("name", [*NEEDED, "gs_ssd.json"])
def test_a_broken_file_is_refused(model, name):
    file = _file(model, name)
    whole = file.read_bytes()
    damages = {"half": whole[: len(whole) // 2], "empty": b"", "zeros": bytes(len(whole))}
    damages |= JSON_DAMAGES if file.suffix == ".json" else {}
    for damage in damages.values():
        file.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        _refused(model)
    file.unlink()
    if name != "gs_ssd.json":
        _refused(model)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named_and_the_hub_is_not_blamed(model, part):
    shutil.rmtree(model / part)
    with pytest.raises(
        UserError, match=rf"{part}: .+ is missing; the model's folder is incomplete"
    ) as error:
        _opened(model)
    assert "hub" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in NEEDED if name.endswith(".safetensors")])
def test_tensors_of_another_shape_or_kind_are_refused(model, name):
    file = _file(model, name)
    whole = load_file(str(file))
    key = max(whole, key=lambda key: whole[key].numel())
    for other in (whole[key][:-1], whole[key][None], torch.zeros(0)):
        save_file(whole | {key: other.contiguous()}, str(file), metadata={"format": "pt"})
        _refused(model)
    save_file({"something.else": torch.zeros(3)}, str(file), metadata={"format": "pt"})
    _refused(model)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "scheduler"])
def test_a_config_entry_of_another_type_is_refused_or_does_no_harm(model, part):
    file = model / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    whole = json.loads(file.read_text())
    refused = []
    for number, key in enumerate(sorted(whole)):
        wrong = ("many", -1, [], {}, None)[number % 5]
        file.write_text(json.dumps(whole | {key: wrong}))
        with contextlib.suppress(UserError):
            _opened(model)
            continue
        refused.append(key)
    assert len(refused) > len(whole) // 6, refused


def test_parts_of_two_models_are_refused(model, tiny, tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = json.loads((model / "text_encoder" / "config.json").read_text()) | {"hidden_size": 16}
    shutil.rmtree(model / "text_encoder")
    CLIPTextModel(CLIPTextConfig(**config)).save_pretrained(str(model / "text_encoder"))
    with pytest.raises(UserError, match="gives 16 channels, the UNet reads 32"):
        _opened(model)


def _with_views(**changed):
    views = {"azimuth_words": [[0, "front"]], "elevation_words": [[0, ""]], "template": "{prompt}"}
    return {"views": views | changed}


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ({"kinds": "mug"}, "kinds"),
        ({"kinds": [1]}, "kinds.0"),
        ({"views": []}, "views"),
        (
            {"views": {"azimuth_words": [[0, 1]], "elevation_words": [], "template": ""}},
            "views.azimuth_words.0.1",
        ),
        ({"camera": {"radius": 3}}, "camera.radius"),
        ({"recipe": {"M": "many"}}, "recipe.M"),
        ({"recipe": {"t_schedule": [[0, 1]]}}, "recipe.t_schedule.0"),
        ({"synonyms": {"mug": "cup"}}, "synonyms.mug"),
        ({"volume": "here"}, "volume"),
        *[({"image_size": size}, "image_size") for size in ("64", -64, 1e9, 10**9, True)],
        *[({"camera": {"radius": radius}}, "camera.radius") for radius in ([3, 2], [-3, 3], None)],
        ({"camera": {"fov_y_deg": [0, 400]}}, "camera.fov_y_deg.0"),
        ({"camera": {"elevation_deg": [-300, 900]}}, "camera.elevation_deg.0"),
        ({"camera": {"closeup": {"fov_y_deg": [50, 20]}}}, "camera.closeup.fov_y_deg"),
        ({"camera": {"closeup": {"look_at_jitter": -1}}}, "camera.closeup.look_at_jitter"),
        ({"camera": {"closeup": {"template": "near"}}}, "camera.closeup.template"),
        ({"camera": {"closeup": {"template": "{azimuth} {prompt}"}}}, "camera.closeup.template"),
        *[
            (_with_views(azimuth_words=words), "views.azimuth_words")
            for words in ([], [[0, "front"], [360, "back"]], [[float("nan"), "front"]])
        ],
        *[
            (_with_views(elevation_words=words), "views.elevation_words")
            for words in ([], [[0, "level"], [0, "above"]])
        ],
        *[
            (_with_views(template=template), "views.template")
            for template in (
                *("", "{azimuth}", "{prompt", "{prompt} {0}", "{prompt} {}", "{prompt} {nothing}"),
                *("{prompt.__class__}", "{prompt!r}", "{prompt:>1000000000}", "}{prompt}"),
            )
        ],
        (_with_views(azimuth_words=[[0, "\ud800"]]), "views.azimuth_words.0.1"),
        ({"negative": "\ud800"}, "negative"),
    ],
)
def test_a_card_that_cannot_be_is_refused_by_entry(model, card, named):
    (model / "gs_ssd.json").write_text(json.dumps(card))
    for read in (_opened, lambda model: describe(PriorConfig(model=str(model)))):
        with pytest.raises(UserError, match=rf"gs_ssd\.json: {named}"):
            read(model)


@pytest.fixture
def whole(tiny, tmp_path):
    tiny.single_file(tiny.pipeline(tmp_path / "words", seed=1), tmp_path / "whole.safetensors")
    return load_file(str(tmp_path / "whole.safetensors"))


@pytest.mark.parametrize(
    ("part", "prefix"), [("text_encoder", "cond_stage_model"), ("vae", "first_stage_model")]
)
def test_a_pruned_single_file_takes_the_missing_part_from_the_base(
    folder, tmp_path, whole, part, prefix
):
    file = tmp_path / "pruned.safetensors"
    save_file({key: tensor for key, tensor in whole.items() if prefix not in key}, str(file))
    pruned = load(PriorConfig(model=str(file), base=str(folder), offline=True), "cpu")
    base = load(PriorConfig(model=str(folder)), "cpu")
    own = load(
        PriorConfig(model=str(tmp_path / "whole.safetensors"), base=str(folder), offline=True),
        "cpu",
    )
    for name in ("text_encoder", "vae", "unet"):
        taken, expected = getattr(pruned, name), getattr(base if name == part else own, name)
        torch.testing.assert_close(
            dict(taken.named_parameters()), dict(expected.named_parameters())
        )
    x, t = torch.zeros(1, 4, 16, 16), torch.tensor([500])
    assert pruned.predict_noise(x, t, Condition(pruned.embed(["a red mug"]))).isfinite().all()
    with pytest.raises(UserError, match=f"holds no {part}; set prior.base"):
        load(PriorConfig(model=str(file), offline=True), "cpu")


def test_configs_of_a_whole_single_file_come_from_its_family(
    tiny, open_hub, folder, tmp_path, whole, monkeypatch
):
    """Online they are fetched, without weights; offline they come from the cache or a sentence
    says so, and nothing is asked."""
    monkeypatch.setitem(sources.SHORT_NAMES, "sd15", ("someone/model",))
    hub = open_hub(folder)
    config = PriorConfig(model=str(tmp_path / "whole.safetensors"))
    offline = dataclasses.replace(config, offline=True)
    with pytest.raises(UserError, match=r"needs configs, and those of sd15 .* set prior\.base"):
        load(offline, "cpu")
    assert hub.asked == []
    online = load(config, "cpu")
    assert hub.sent
    assert not any(name.endswith(".safetensors") for name in hub.sent)
    asked = len(hub.asked)
    again = load(offline, "cpu")
    assert len(hub.asked) == asked
    x, t = torch.zeros(1, 4, 16, 16), torch.tensor([500])
    drawn = [p.predict_noise(x, t, Condition(p.embed(["a red mug"]))) for p in (online, again)]
    assert torch.equal(*drawn)


def test_a_single_file_of_stable_diffusion_2_needs_a_base(tmp_path, whole):
    """It holds the same tensors whether it predicts noise or v."""
    old, new = "cond_stage_model.transformer.", "cond_stage_model.model.transformer."
    file = tmp_path / "sd2.safetensors"
    save_file({key.replace(old, new): tensor for key, tensor in whole.items()}, str(file))
    with pytest.raises(UserError, match=r"does not say whether it predicts noise or v; set prior"):
        load(PriorConfig(model=str(file), offline=True), "cpu")


@pytest.mark.parametrize("quantised", ["int8", "scaled fp8"])
def test_a_quantised_single_file_is_refused(folder, tmp_path, whole, quantised):
    key = "model.diffusion_model.input_blocks.0.0.weight"
    tensors = dict(whole)
    if quantised == "int8":
        tensors[key] = tensors[key].to(torch.int8)
    else:
        tensors[key] = tensors[key].to(torch.float8_e4m3fn)
        tensors[key.replace(".weight", ".scale_weight")] = torch.ones(())
    file = tmp_path / "quantised.safetensors"
    save_file(tensors, str(file))
    with pytest.raises(UserError, match=r"quantised\.safetensors is quantised"):
        load(PriorConfig(model=str(file), base=str(folder), offline=True), "cpu")


def test_a_single_file_as_the_base_is_refused(tmp_path, whole):
    file = str(tmp_path / "whole.safetensors")
    with pytest.raises(UserError, match=r"prior\.base=.* must be a pipeline folder"):
        load(PriorConfig(model=file, base=file, offline=True), "cpu")


def test_a_single_file_that_is_no_model_is_named_for_what_it_is(folder, tmp_path, whole):
    file = tmp_path / "other.safetensors"
    for tensors, said in (
        ({"lora_unet_mid_block.lora_down.weight": torch.zeros(4, 4)}, "is a LoRA, not a model"),
        ({"unet.mid.to_q.lora.down.weight": torch.zeros(4, 4)}, "is a LoRA, not a model"),
        ({"<thing>": torch.zeros(1, 32)}, "not a Stable Diffusion checkpoint"),
        (
            {key: value for key, value in whole.items() if "diffusion_model" not in key},
            "belongs to a UNet",
        ),
    ):
        save_file(tensors, str(file))
        with pytest.raises(UserError, match=said):
            load(PriorConfig(model=str(file), base=str(folder), offline=True), "cpu")


@pytest.mark.parametrize("model", ["folder", "bundled"])
def test_a_base_that_does_not_exist_is_refused(folder, model):
    with pytest.raises(UserError, match=r"prior\.base.*/nonexistent"):
        load(
            PriorConfig(model=str(folder) if model == "folder" else model, base="/nonexistent"),
            "cpu",
        )
