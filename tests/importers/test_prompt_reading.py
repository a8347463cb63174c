"""Clip skip, prompt lengths and masks drawn anew of other trainers are read, or told."""

import json

import pytest

from frisket.config.tree import Config
from frisket.importers.base import IMPORT_FORMATS

TOML = """
pretrained_model_name_or_path = "{base}"
train_data_dir = "sets"
resolution = "{side},{side}"
network_module = "networks.lora"
network_train_unet_only = true
{options}
"""


def sd_scripts(drawn, options: str, base: str):
    root = drawn("sets/1_cat", "a.png", caption="a cat").parents[0]
    path = root.parent / "train.toml"
    side = 1024 if "xl" in base else 512
    path.write_text(TOML.format(options=options, base=base, side=side), encoding="utf-8")
    return IMPORT_FORMATS.load("kohya").read(path)


def told(imported, option: str) -> list[str]:
    return [note.kind for note in imported.notes if note.option == option]


@pytest.mark.parametrize(
    ("options", "found", "kind"),
    [
        ("clip_skip = 2", {"clip_skip": 2}, "mapped"),
        ("clip_skip = 1", {}, "not needed"),
        ("clip_skip = 13", {}, "no equivalent"),
    ],
)
def test_sd_scripts_layer_is_read(drawn, options, found, kind):
    imported = sd_scripts(drawn, options, "runwayml/stable-diffusion-v1-5")
    model = imported.sections["model"]
    assert {name: model[name] for name in ("clip_skip", "max_tokens") if name in model} == found
    assert told(imported, "clip_skip") == [kind]


@pytest.mark.parametrize(
    ("length", "found", "kind"),
    [(150, {"max_tokens": 150}, "mapped"), (225, {"max_tokens": 225}, "mapped"),
     (75, {}, "not needed"), (300, {}, "no equivalent")],
)  # fmt: skip
@pytest.mark.parametrize(
    "base", ["runwayml/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"]
)
def test_sd_scripts_prompts_are_as_long(drawn, base, length, found, kind):
    imported = sd_scripts(drawn, f"max_token_length = {length}", base)
    model = imported.sections["model"]
    assert {name: model[name] for name in ("clip_skip", "max_tokens") if name in model} == found
    assert told(imported, "max_token_length") == [kind]


def test_sd_scripts_ignores_the_layer_of_sdxl(drawn):
    imported = sd_scripts(drawn, "clip_skip = 2", "stabilityai/stable-diffusion-xl-base-1.0")
    assert imported.sections["model"]["variant"] == "sdxl"
    assert "clip_skip" not in imported.sections["model"]
    assert told(imported, "clip_skip") == ["not needed"]


@pytest.mark.parametrize(
    ("kind", "skip", "found", "note"),
    [
        ("STABLE_DIFFUSION_15", 1, {"clip_skip": 2}, "mapped"),
        ("STABLE_DIFFUSION_15", 3, {"clip_skip": 4}, "mapped"),
        ("STABLE_DIFFUSION_XL_10_BASE", 1, {}, "no equivalent"),
        ("FLUX_DEV_1", 1, {}, "no equivalent"),
    ],
)
def test_onetrainer_counts_the_layers_left_out(drawn, kind, skip, found, note):
    root = drawn("set", "a.png", caption="a cat")
    tree = {
        "__version": 11, "training_method": "LORA", "model_type": kind,
        "text_encoder_layer_skip": skip, "concepts": [{"__version": 2, "path": "set"}],
    }  # fmt: skip
    path = root.parent / "config.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    imported = IMPORT_FORMATS.load("onetrainer").read(path)
    model = imported.sections["model"]
    assert {name: model[name] for name in ("clip_skip",) if name in model} == found
    assert told(imported, "text_encoder_layer_skip") == [note]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("source", ["sample", "filename"])
def test_onetrainers_circular_shrink_is_ours(drawn, masked, source):
    root = drawn("set", "a.png", caption="a cat")
    drawn("set", "a-masklabel.png", mode="L")
    concept = {
        "__version": 2, "path": "set", "text": {"prompt_source": source},
        "image": {"enable_random_circular_mask_shrink": True},
    }  # fmt: skip
    tree = {
        "__version": 11, "training_method": "LORA", "model_type": "FLUX_DEV_1",
        "masked_training": masked, "concepts": [concept],
    }  # fmt: skip
    path = root.parent / "config.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    imported = IMPORT_FORMATS.load("onetrainer").read(path)
    kinds = [note.kind for note in imported.notes if "circular_mask_shrink" in note.option]
    assert kinds == ["mapped" if masked else "not needed"]
    masks = imported.data[0].get("masks")
    kind = "sidecar" if source == "sample" else "listed"
    assert masks == {"source": kind, "shrink": 0.2} if masked else masks in (None, "none")
    if masked and source == "sample":
        assert Config.model_validate({"data": list(imported.data)}).data[0].masks.shrink == 0.2


def test_ai_toolkits_blur_is_ours(drawn):
    root = drawn("set", "a.png", caption="a cat")
    masks = drawn("masks", "a.png", mode="L")
    row = {"folder_path": str(root), "mask_path": str(masks), "resolution": [512]}
    process = {
        "type": "sd_trainer", "datasets": [row], "network": {"type": "lora", "linear": 4},
        "model": {"name_or_path": "black-forest-labs/FLUX.1-dev", "arch": "flux"},
    }  # fmt: skip
    tree = {"job": "extension", "config": {"name": "x", "process": [process]}}
    path = root.parent / "job.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    imported = IMPORT_FORMATS.load("ai_toolkit").read(path)
    assert imported.data[0]["masks"] == {
        **{"source": "folder", "path": str(masks), "unmasked": "train", "blur": 0.005}
    }
    assert Config.model_validate({"data": list(imported.data)}).data[0].masks.drawn
