"""`frisket convert` as a user calls it: describe, convert, sums, merge and extract."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from frisket.adapters import files, lora
from frisket.adapters.lora import AdapterMismatch, LoraSpec
from frisket.config.provenance import ConfigError
from frisket.families.base import Parts, Source
from frisket.families.models.wan.family import FAMILY as WAN
from frisket.recipes import convert
from frisket.runs.adapter_base import base_of

VARIANT = "2.1-t2v-1.3b"
SAID = {
    "frisket.base": json.dumps({"family": "wan", "variant": VARIANT, "source": ""}),
    "modelspec.trigger_phrase": "ohwx",
    "ss_steps": "20",
}


@pytest.fixture(scope="module")
def tiny() -> Parts:
    return WAN.tiny(VARIANT)


def adapted(tiny: Parts, seed: int = 7, **options) -> nn.Module:
    model = deepcopy(tiny.denoiser)
    spec = LoraSpec(**{"rank": 4, "targets": WAN.lora_targets, **options})
    lora.attach(model, spec, seed=0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in lora.trainable(model).values():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    return model


@pytest.fixture
def trained(tiny, tmp_path) -> Path:
    file = tmp_path / "a.safetensors"
    lora.save(adapted(tiny), file, SAID, names=WAN.names, form="comfyui")
    return file


def predict(denoiser: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(1, 16, 1, 4, 6, generator=generator)
    text = {"text": torch.randn(1, 5, 32, generator=generator)}
    with torch.no_grad():
        return WAN.predict(denoiser.eval(), noisy, torch.tensor([0.6]), text)


def loaded(tiny: Parts, file: Path) -> nn.Module:
    model = deepcopy(tiny.denoiser)
    lora.load(model, file, names=WAN.names)
    return model


def test_a_file_alone_is_described(trained):
    said = "\n".join(convert.run([trained], None))
    assert "lora, rank 4, alpha 4, " in said
    assert "comfyui keys" in said
    assert f"base: wan {VARIANT} (frisket.base)" in said
    assert "trigger: ohwx" in said
    assert "steps: 20" in said


def test_a_file_that_says_nothing_is_described_as_far_as_it_goes(tmp_path):
    file = tmp_path / "x.safetensors"
    values = {
        "lora_unet_abc_0.lora_down.weight": torch.ones(2, 3),
        "lora_unet_abc_0.lora_up.weight": torch.ones(3, 2),
        "lora_te1_x.lora_down.weight": torch.ones(2, 3),
    }
    save_file(values, file)
    said = "\n".join(convert.run([file], None))
    assert "lora, rank 2, alpha 2, 1 layers, kohya keys, 2 tensors" in said
    assert "base: not said" in said
    assert "1 of lora_te1 (left out with --drop-text)" in said
    with pytest.raises(ConfigError, match=r"does not say which model it is for.*--family"):
        convert.run([file], tmp_path / "y.safetensors")


@pytest.mark.parametrize("to", ["comfyui", "diffusers", "kohya"])
def test_every_format_does_the_same_and_keeps_what_the_file_said(tiny, trained, tmp_path, to):
    out = tmp_path / "out.safetensors"
    lines = convert.run([trained], out, to=to)
    assert lines[0].startswith(f"read {trained}: lora, rank 4")
    assert lines[-1].startswith(f"wrote {out}: lora, rank 4")
    assert torch.equal(predict(loaded(tiny, out)), predict(adapted(tiny)))
    metadata = files.header(out)[1]
    assert SAID.items() <= metadata.items()
    assert metadata["modelspec.architecture"] == f"{WAN.variants[VARIANT].architecture}/lora"
    assert json.loads(metadata["frisket.made_from"]) == ["a.safetensors"]


def test_several_files_go_into_a_folder(trained, tmp_path):
    other = tmp_path / "b.safetensors"
    shutil.copy(trained, other)
    convert.run([trained, other], tmp_path / "out", to="diffusers")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.safetensors",
        "b.safetensors",
    ]
    with pytest.raises(ConfigError, match="must be a folder"):
        convert.run([trained, other], tmp_path / "one.safetensors")


def test_resize_scale_and_dtype(tiny, trained, tmp_path):
    out = tmp_path / "out.safetensors"
    lines = convert.run([trained], out, rank=2, scale=0.5, dtype="bfloat16")
    assert any("resized to rank 2: " in line and "of the energy kept" in line for line in lines)
    spec = lora.spec_of(out)
    assert (spec.rank, spec.scale) == (2, 1.0)
    kinds = {value.dtype for key, value in load_file(out).items() if "lora_" in key}
    assert kinds == {torch.bfloat16}
    assert files.header(out)[1]["ss_network_dim"] == "2"
    assert lora.get_spec(loaded(tiny, out)) == spec


def test_an_average_of_a_file_with_itself_is_the_file(tiny, trained, tmp_path):
    out = tmp_path / "out.safetensors"
    lines = convert.run([trained, trained], out, average="0.25,0.75", exact=True)
    assert lora.spec_of(out).rank == 8
    assert "averaged: rank 8" in "\n".join(lines)
    wanted = predict(adapted(tiny))
    torch.testing.assert_close(predict(loaded(tiny, out)), wanted, rtol=1e-4, atol=1e-5)
    convert.run([trained, trained], out, average="0.25,0.75")
    assert lora.spec_of(out).rank == 4
    torch.testing.assert_close(predict(loaded(tiny, out)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_merge_into_a_folder_and_extract_again(tiny, trained, tmp_path, whole):
    base = tmp_path / "base"
    if whole:
        WAN.save(tiny, base)
    else:
        tiny.denoiser.save_pretrained(base)
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    lines = convert.run([trained], tmp_path / "merged", merge_into=base)
    assert lines[-1] == f"wrote {tmp_path / 'merged'}"
    assert {path: path.read_bytes() for path in before} == before
    wanted = predict(adapted(tiny))
    if whole:
        found = WAN.load_denoiser(Source(VARIANT, str(tmp_path / "merged")))
        torch.testing.assert_close(predict(found), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="is there already"):
        convert.run([trained], tmp_path / "merged", merge_into=base)
    out = tmp_path / "out.safetensors"
    pair = (base, tmp_path / "merged")
    lines = convert.run([], out, extract=pair, family="wan", variant=VARIANT, rank=4)
    assert "100.0% of the energy kept" in lines[0]
    torch.testing.assert_close(predict(loaded(tiny, out)), wanted, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.glob(".*"))


def test_text_encoders_are_left_out_only_when_asked(tiny, trained, tmp_path):
    values, metadata = files.tensors(trained)
    file, out = tmp_path / "te.safetensors", tmp_path / "out.safetensors"
    save_file({**values, "lora_te_x.lora_down.weight": torch.ones(2, 2)}, file, metadata)
    with pytest.raises(AdapterMismatch, match=r"1 of lora_te.*--drop-text"):
        convert.run([file], out)
    assert "left out: 1 tensors of lora_te" in convert.run([file], out, drop_text=True)
    assert torch.equal(predict(loaded(tiny, out)), predict(adapted(tiny)))


def test_an_expert_is_written_into_a_silent_file(tiny, tmp_path):
    file, out = tmp_path / "a.safetensors", tmp_path / "high.safetensors"
    lora.save(adapted(tiny), file, {}, names=WAN.names, form="kohya")
    variant = next(name for name, card in WAN.variants.items() if card.experts)
    convert.run([file], out, family="wan", variant=variant, expert="high")
    metadata = files.header(out)[1]
    assert metadata["frisket.expert"] == "high"
    low, high = WAN.variants[variant].experts["high"]
    assert json.loads(metadata["frisket.expert_range"]) == [low, high]
    assert "expert: high, for t from" in "\n".join(convert.run([out], None))
    with pytest.raises(ConfigError, match="has no expert 'middle'"):
        convert.run([file], out, family="wan", variant=variant, expert="middle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "webui"}, "--to webui is no format; there are: comfyui, diffusers, kohya"),
        ({"dtype": "int4"}, "--dtype int4 is none of float32"),
        ({"average": "a,b"}, "--average a,b: write numbers"),
        ({"average": "1"}, "1 weights for 2 files"),
        ({"average": "1,1", "merge_into": Path("x")}, "--average and --merge-into are two things"),
        ({"family": "wann"}, "no family is named 'wann'"),
        ({"variant": "3.0"}, "wan has no variant '3.0'"),
        ({"output": None, "rank": 3}, "where to"),
        ({"files": []}, "convert which file"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(trained, tmp_path, options, message):
    other = Path(shutil.copy(trained, tmp_path / "other.safetensors"))
    given = {"files": [trained, other], "output": tmp_path / "out", **options}
    with pytest.raises(ConfigError, match=message):
        convert.run(given.pop("files"), given.pop("output"), **given)


@pytest.mark.parametrize(
    ("metadata", "family", "variant"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "stable_diffusion", "sdxl"),
        (
            {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
            "stable_diffusion",
            "sdxl",
        ),
        ({"ss_base_model_version": "flux1"}, "flux", ""),
        ({"ss_base_model_version": "flux2_dev"}, "flux2", ""),
        ({"ss_base_model_version": "qwen_image"}, "qwen_image", ""),
        ({"ss_base_model_version": "hunyuan_video"}, "hunyuan_video", ""),
        ({"ss_base_model_version": "zimage"}, "z_image", ""),
        ({"ss_base_model_version": "sd_v1.5"}, "stable_diffusion", ""),
        ({"ss_base_model_version": "wan21"}, "wan", ""),
    ],
)
def test_bases_of_other_trainers_files_are_known(metadata, family, variant):
    found = base_of(metadata)
    assert found.family == family
    assert not variant or found.variant == variant
    assert base_of({"ss_base_model_version": "something"}) is None
