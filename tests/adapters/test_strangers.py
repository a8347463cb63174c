"""What strangers write beside the tensors, and into them: read with care, or one sentence."""

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from frisket.adapters import files, formats, lora
from frisket.adapters.lora import AdapterMismatch
from frisket.config.provenance import ConfigError
from frisket.families.models.wan.family import FAMILY as WAN
from frisket.recipes import convert
from frisket.runs.adapter_base import base_of, family_of

VARIANT = "2.1-t2v-1.3b"
LAYER = "diffusion_model.blocks.0.ffn.0"  # 24 to 32 in the tiny model
OURS = "blocks.0.ffn.net.0.proj"


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return WAN.tiny(VARIANT).denoiser


def pair(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{name}.lora_A.weight": torch.randn(2, 24, generator=generator),
        f"{name}.lora_B.weight": torch.randn(32, 2, generator=generator),
    }


def saved(path: Path, values: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(values, path, metadata)
    return path


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", "is no JSON"),
        ("null", "is null, not an object"),
        ("[1]", "is a list, not an object"),
        ("[" * 90_000, "nested too deep"),
        ('{"rank": 1' + "0" * 5000 + "}", "is no JSON that can be read"),
        (
            '{"kind": "lora", "rank": 2, "use_rslora": true}',
            "says use_rslora.*a later one wrote it",
        ),
        ('{"rank": 2}', "does not say its kind"),
        ('{"kind": "oft", "rank": 2}', "says kind = 'oft'"),
        ('{"kind": "lora", "rank": "2"}', "says rank = '2'"),
        ('{"kind": "lora", "rank": true}', "says rank = True"),
        ('{"kind": "lora", "rank": 2, "alpha": NaN}', "says alpha = nan"),
        ('{"kind": "lora", "rank": 2, "targets": "to_q"}', "says targets = 'to_q'"),
    ],
)
def test_a_record_that_is_not_ours_is_one_sentence_with_a_way_out(tiny, tmp_path, record, message):
    file = saved(tmp_path / "a.safetensors", pair(LAYER), {"frisket.adapter": record})
    for doing in (
        lambda: lora.load(deepcopy(tiny), file, names=WAN.names),
        lambda: lora.spec_of(file, WAN.names),
        lambda: convert.run([file], None),
    ):
        with pytest.raises(AdapterMismatch, match=f"a.safetensors: .*{message}") as caught:
            doing()
        assert len(str(caught.value)) < 500
    out = tmp_path / "b.safetensors"
    convert.run([file], out, family="wan", leave_out=("frisket.adapter",))
    lora.load(deepcopy(tiny), out, names=WAN.names)


@pytest.mark.parametrize(
    "base", ["", "null_", "[]", '{"family": 3}', '{"variant": "x"}', "[" * 90_000]
)
def test_a_base_that_is_not_ours_is_one_sentence_and_the_option_comes_first(tmp_path, base):
    file = saved(tmp_path / "a.safetensors", pair(LAYER), {"frisket.base": base})
    with pytest.raises(ConfigError, match=r"a.safetensors: .*frisket\.base.*--family"):
        convert.run([file], None)
    convert.run([file], tmp_path / "b.safetensors", family="wan")
    assert "frisket.base" not in files.header(tmp_path / "b.safetensors")[1]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"family": "later", "variant": ""}, "no family is named 'later'"),
        ({"family": "wan", "variant": "9.9"}, "wan has no variant '9.9'"),
    ],
)
def test_a_base_that_there_is_not_names_the_file(tmp_path, base, message):
    file = saved(tmp_path / "a.safetensors", pair(LAYER), {"frisket.base": json.dumps(base)})
    for out in (None, tmp_path / "b.safetensors"):
        with pytest.raises(ConfigError, match=rf"a\.safetensors: {message}"):
            convert.run([file], out)


@pytest.mark.parametrize("span", ["", "null", "[1]", '["a", "b"]', "[0, NaN]", "[0, 1, 2]", "{}"])
def test_a_range_that_is_not_ours_is_one_sentence(tmp_path, span):
    said = {"frisket.expert": "high", "frisket.expert_range": span}
    file = saved(tmp_path / "a.safetensors", pair(LAYER), said)
    with pytest.raises(AdapterMismatch, match=r"a.safetensors: .*frisket\.expert_range"):
        convert.run([file], None)


@pytest.mark.parametrize("record", ["null", "[]", "{", '{"transformer.r": "x"}', "[" * 90_000,
                                    '{"transformer.lora_alpha": []}'])  # fmt: skip
def test_a_diffusers_record_that_is_none_is_one_sentence(tmp_path, record):
    said = {"lora_adapter_metadata": record}
    values = pair(f"transformer.{OURS}")
    with pytest.raises(AdapterMismatch, match=r"a.safetensors: .*lora_adapter_metadata"):
        formats.read(saved(tmp_path / "a.safetensors", values, said), WAN.names)


def test_a_strangers_words_do_not_drive_the_terminal(tmp_path):
    said = {"modelspec.title": "\x1b[2Jgone" + "x" * 5000, "frisket.expert": "\x07high",
            "frisket.base": json.dumps({"family": "\x1b[31mwan", "variant": ""})}  # fmt: skip
    file = saved(tmp_path / "a.safetensors", pair(LAYER), said)
    with pytest.raises(ConfigError) as caught:
        convert.run([file], None)
    assert "\x1b" not in str(caught.value)
    lines = "\n".join(convert.run([file], None, family="wan"))
    assert not re.search("[\x1b\x07]", lines)
    assert len(lines) < 1000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("end", ["lora_A.weight", "lora_B.weight", "alpha"])
def test_numbers_that_are_not_finite_are_refused_with_their_tensor(tiny, tmp_path, value, end):
    values = pair(LAYER) | {f"{LAYER}.alpha": torch.tensor(2.0)}
    values[f"{LAYER}.{end}"].view(-1)[0] = value
    bad = saved(tmp_path / "a.safetensors", values)
    good = saved(tmp_path / "good.safetensors", pair(LAYER))
    tiny.save_pretrained(tmp_path / "model")
    out = tmp_path / "out.safetensors"
    for doing in (
        lambda: lora.load(deepcopy(tiny), bad, names=WAN.names),
        lambda: convert.run([bad], None),
        lambda: convert.run([bad], out, family="wan"),
        lambda: convert.run([bad], out, family="wan", rank=1),
        lambda: convert.run([good, bad], out, family="wan", average="1,1"),
        lambda: convert.run([bad], out, family="wan", merge_into=tmp_path / "model"),
    ):
        with pytest.raises(AdapterMismatch, match=rf"1 of \d+ values of {LAYER}.{end} are not fin"):
            doing()
    assert not out.exists()


def test_a_sum_that_a_kind_cannot_do_names_the_file(tmp_path):
    values = pair(LAYER) | {f"{LAYER}.dora_scale": torch.ones(32, 1)}
    file = saved(tmp_path / "a.safetensors", values)
    good = saved(tmp_path / "good.safetensors", pair(LAYER))
    out = tmp_path / "out.safetensors"
    for doing in (
        lambda: convert.run([file], out, family="wan", rank=1),
        lambda: convert.run([file], out, family="wan", scale=0.5),
        lambda: convert.run([good, file], out, family="wan", average="1,1"),
    ):
        with pytest.raises(AdapterMismatch, match=r"a\.safetensors: a dora cannot be"):
            doing()


@pytest.mark.parametrize(
    ("word", "family"),
    [
        ("Qwen-Image-2512", "qwen_image"),
        ("Qwen-Image-2.1", "qwen_image_21"),
        ("qwen_image_2.1", "qwen_image_21"),
        ("Qwen-Image", "qwen_image"),
        ("Qwen-Image-Edit-2509", "qwen_image"),
        ("Qwen-Image-20B", "qwen_image"),
        ("qwen2.5-vl", None),
        ("sd_v1", "stable_diffusion"),
        ("sd1.5", "stable_diffusion"),
        ("sd15", "stable_diffusion"),
        ("sd_v2", None),
        ("stable-diffusion-v1-5", "stable_diffusion"),
        ("stable-diffusion-v2-768-v", None),
        ("sdxl_base_v1-0", "stable_diffusion"),
        ("stable-diffusion-xl-v1-base", "stable_diffusion"),
        ("sd3.5", "sd3"),
        ("stable-diffusion-3-5-large", "sd3"),
        ("stable-diffusion-30", None),
        ("flux1", "flux"),
        ("flux-1-dev", "flux"),
        ("Flux.2-klein-4b", "flux2"),
        ("wan2.1", "wan"),
        ("wan_2.2_ti2v", "wan"),
        ("hunyuan-video-1.5", "hunyuan_video"),
        ("Z-Image-Turbo", "z_image"),
        ("something-else", None),
    ],
)
def test_a_word_for_a_base_is_taken_whole(word, family):
    found = family_of(word)
    assert (found[0] if found else None) == family
    base = base_of({"modelspec.architecture": f"{word}/lora"})
    assert (base.family if base else None) == family
