"""Folders that peft itself writes: what its layers add to a weight is what Frisket loads."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frisket.adapters import files, formats, lora
from frisket.adapters.arithmetic import delta
from frisket.adapters.lora import AdapterMismatch
from frisket.config.provenance import ConfigError
from frisket.families.models.wan.family import FAMILY as WAN
from frisket.recipes import convert

TARGETS = ["attn1.to_q", "ffn.net.0.proj"]
FIRST, SECOND = "blocks.0.attn1.to_q", "blocks.1.ffn.net.0.proj"
CASES = {
    "alpha": (LoraConfig, {"r": 4, "lora_alpha": 1}),
    "rslora": (LoraConfig, {"r": 4, "lora_alpha": 3, "use_rslora": True}),
    "alpha_pattern": (LoraConfig, {"r": 4, "lora_alpha": 2, "alpha_pattern": {FIRST: 8}}),
    "alpha_pattern of ends": (LoraConfig, {"r": 4, "lora_alpha": 2, "alpha_pattern": {"to_q": 8}}),
    "alpha_pattern, anchored": (
        LoraConfig,
        {"r": 4, "lora_alpha": 2, "alpha_pattern": {f"^{FIRST}": 8, r".*\d\.ffn.+": 1}},
    ),
    "rank_pattern": (LoraConfig, {"r": 4, "lora_alpha": 2, "rank_pattern": {"net.0.proj": 2}}),
    "all of these": (
        LoraConfig,
        {
            "r": 4,
            "lora_alpha": 2,
            "use_rslora": True,
            "rank_pattern": {FIRST: 2},
            "alpha_pattern": {"to_q": 8, SECOND: 1},
        },
    ),
    "dora": (LoraConfig, {"r": 4, "lora_alpha": 1, "use_dora": True}),
    "dora with rslora": (
        LoraConfig,
        {"r": 4, "lora_alpha": 1, "use_dora": True, "use_rslora": True},
    ),
    "loha": (LoHaConfig, {"r": 4, "alpha": 1}),
    "loha with patterns": (
        LoHaConfig,
        {"r": 4, "alpha": 1, "alpha_pattern": {"to_q": 3}, "rank_pattern": {SECOND: 2}},
    ),
    "lokr": (LoKrConfig, {"r": 2, "alpha": 1, "decompose_both": True}),
    "lokr, one factor whole": (LoKrConfig, {"r": 2, "alpha": 1}),
    "lokr of whole factors": (LoKrConfig, {"r": 16, "alpha": 2}),
    "lokr of whole factors with patterns": (
        LoKrConfig,
        {"r": 16, "alpha": 2, "alpha_pattern": {"to_q": 5}, "rank_pattern": {"to_q": 32}},
    ),
}


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return WAN.tiny("2.1-t2v-1.3b").denoiser


def folder(tiny: nn.Module, path: Path, kind: Any, options: dict[str, Any]) -> nn.Module:
    """A folder of peft's own save_pretrained, and the model it is of."""
    model = get_peft_model(deepcopy(tiny), kind(target_modules=TARGETS, **options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad and "magnitude" not in name:
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    model.save_pretrained(path)
    return model


def deltas(model: nn.Module) -> dict[str, Tensor]:
    return {
        name.removeprefix("base_model.model."): layer.get_delta_weight("default").detach()
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight") and hasattr(layer, "base_layer")
    }


@pytest.mark.parametrize("case", CASES)
def test_what_peft_saves_is_read_at_its_scale(tiny, tmp_path, case):
    wanted = deltas(folder(tiny, tmp_path, *CASES[case]))
    assert len(wanted) == 4
    read = formats.read(tmp_path / files.PEFT_FILE, WAN.names)
    assert not read.assumed
    assert read.layers.keys() == wanted.keys()
    for name, layer in read.layers.items():
        torch.testing.assert_close(delta(layer, wanted[name].shape), wanted[name])
    if "patterns" in case:
        return  # peft's LoHa and LoKr are loaded at one rank and alpha alone
    model = deepcopy(tiny)
    lora.load(model, tmp_path, names=WAN.names)  # the folder itself
    found = deltas(model)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name])


def edited(tiny: nn.Module, path: Path, **changes: Any) -> Path:
    """peft's folder with another configuration."""
    folder(tiny, path, *CASES["alpha"])
    config = json.loads((path / "adapter_config.json").read_text("utf-8"))
    (path / "adapter_config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    return path / files.PEFT_FILE


def test_a_file_away_from_its_configuration_says_what_was_assumed(tiny, tmp_path, caplog):
    file = edited(tiny, tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    read = formats.read(file, WAN.names)
    assert "nothing in it says its alpha" in read.assumed
    assert "adapter_config.json" in read.assumed
    lora.load(deepcopy(tiny), file, names=WAN.names)
    assert caplog.text.count("nothing in it says its alpha") == 1


def test_a_diffusers_file_that_says_no_alpha_says_so_and_kohya_keys_need_none(tmp_path):
    values = {"lora_A.weight": torch.ones(2, 24), "lora_B.weight": torch.ones(32, 2)}
    name = "blocks.0.ffn.net.0.proj"
    save_file({f"transformer.{name}.{end}": v for end, v in values.items()}, tmp_path / "a")
    assert "nothing in it says its alpha" in formats.read(tmp_path / "a", WAN.names).assumed
    save_file(
        {f"diffusion_model.blocks.0.ffn.0.{end}": v for end, v in values.items()}, tmp_path / "b"
    )
    assert not formats.read(tmp_path / "b", WAN.names).assumed  # all readers of these agree


def test_a_loha_or_lokr_of_peft_without_its_configuration_is_refused(tiny, tmp_path):
    for case in ("loha", "lokr of whole factors"):
        folder(tiny, tmp_path / case, *CASES[case])
        (tmp_path / case / "adapter_config.json").unlink()
        with pytest.raises(AdapterMismatch, match=r"does not say its rank and alpha.*adapter_conf"):
            formats.read(tmp_path / case / files.PEFT_FILE, WAN.names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "OFT"}, "is of a OFT; Frisket knows peft's LORA, LOHA, LOKR"),
        ({"peft_type": "LOHA"}, "is a lora, and .*adapter_config.json is of a loha"),
        ({"r": 8}, "has rank 4, and .* says 8: they do not belong together"),
        ({"lora_alpha": "16"}, "says lora_alpha = '16'"),
        ({"lora_alpha": None}, "does not say the alpha of blocks"),
        ({"lora_alpha": float("nan")}, "says lora_alpha = nan"),
        ({"r": True}, "says r = True"),
        ({"alpha_pattern": {"to_q": None}}, "says alpha_pattern = "),
        ({"alpha_pattern": ["to_q"]}, "says alpha_pattern = "),
        ({"alpha_pattern": {"(": 1}}, "no regular expression"),
        ({"alpha_pattern": {"(a+)+b": 1}}, "may search for hours"),
        ({"alpha_pattern": {".*.*.*.*.*b": 1}}, "may search for hours"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights too"),
        ({"init_lora_weights": "olora"}, "changes the base's own weights too"),
        ({"use_qalora": True}, "says use_qalora, which Frisket does not know"),
        ({"use_of_a_later_peft": {"x": 1}}, "says use_of_a_later_peft"),
        ({"fan_in_fan_out": True}, "says fan_in_fan_out"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused_by_word(
    tiny, tmp_path, changes, message
):
    file = edited(tiny, tmp_path, **changes)
    with pytest.raises(AdapterMismatch, match=message) as caught:
        formats.read(file, WAN.names)
    assert "adapter_config.json" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 100_000, "1" * 5000, "\ufeff[1]", '{"r": 1' + "0" * 5000]
)
def test_a_configuration_that_is_no_json_is_one_sentence(tiny, tmp_path, text):
    file = edited(tiny, tmp_path)
    (tmp_path / "adapter_config.json").write_text(text, "utf-8")
    with pytest.raises(AdapterMismatch, match=r"adapter_config\.json.*it says the adapter's alpha"):
        formats.read(file, WAN.names)


def test_a_configuration_beside_another_programs_file_is_none_of_its(tiny, tmp_path):
    """A downloads folder holds all kinds: only peft's own keys or file name go with it."""
    edited(tiny, tmp_path)
    values = {
        "diffusion_model.blocks.0.ffn.0.lora_A.weight": torch.ones(2, 24),
        "diffusion_model.blocks.0.ffn.0.lora_B.weight": torch.ones(32, 2),
    }
    save_file(values, tmp_path / "other.safetensors")
    layer = formats.read(tmp_path / "other.safetensors", WAN.names).layers[
        "blocks.0.ffn.net.0.proj"
    ]
    assert layer.scale == 1


def test_the_models_name_may_stand_in_the_keys(tiny, tmp_path):
    """peft around a pipeline's part keeps the part's name."""
    file = edited(tiny, tmp_path)
    for start in ("base_model.model.transformer.", "transformer.base_model.model."):
        values = {
            key.replace("base_model.model.", start): value for key, value in load_file(file).items()
        }
        save_file(values, tmp_path / "adapter_model.safetensors")
        layers = formats.read(file, WAN.names).layers
        assert len(layers) == 4
        assert all(layer.scale == 0.25 for layer in layers.values())
        edited(tiny, tmp_path)


def test_a_folder_without_an_adapter_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is a folder without adapter_model\.safetensors"):
        formats.read(tmp_path, WAN.names)


def test_folders_of_peft_are_converted_under_their_own_names(tiny, tmp_path):
    for name in ("first", "second"):
        edited(tiny, tmp_path / name)
    folders = [tmp_path / "first", tmp_path / "second" / files.PEFT_FILE]
    convert.run(folders, tmp_path / "out", family="wan")
    out = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in out] == ["first.safetensors", "second.safetensors"]
    assert all(formats.read(file, WAN.names).layers[FIRST].scale == 0.25 for file in out)
    with pytest.raises(ConfigError, match=r"several files would be written as .*first\.saf"):
        convert.run([folders[0], folders[0] / files.PEFT_FILE], tmp_path / "out", family="wan")
