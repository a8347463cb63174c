import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from tests.adapters.image import scene

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.branches import find_branches, split_branch
from frisket.adapters.image.files import read_image_adapter, write_image_adapter
from frisket.adapters.image.layouts import LAYOUTS, recognise
from frisket.adapters.spec import AdapterMismatch

BRANCHES = ("uniid-text", "uniid-adapter")
SINGLE = [kind for kind in LAYOUTS if kind not in BRANCHES]


def tensors_of(file):
    return {**file.projection, **file.layers, **file.loras}


def assert_same(one, other):
    first, second = tensors_of(one), tensors_of(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype, key
        assert torch.equal(value, second[key]), key
    assert (one.kind, one.tokens, one.width) == (other.kind, other.tokens, other.width)


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_what_is_written_is_read_bit_for_bit(tmp_path, kind, suffix):
    file = scene.build_file(kind)
    path = tmp_path / f"ip-adapter-{kind}{suffix}"
    write_image_adapter(path, file)
    assert_same(read_image_adapter(path), file)


@pytest.mark.parametrize("kind", BRANCHES)
def test_a_branch_of_uniid_goes_round(tmp_path, kind):
    branch = replace(scene.build_file(kind), config={"seed": 3})
    folder = tmp_path / f"{kind.removeprefix('uniid-')}_branch"
    write_image_adapter(folder, branch)
    back = read_image_adapter(folder)
    assert_same(back, branch)
    assert back.config["seed"] == 3
    assert find_branches(tmp_path).keys() == {folder.name}
    with pytest.raises(FileNotFoundError, match="not one: give"):
        read_image_adapter(tmp_path)


def test_half_precision_stays():
    tensors = {key: value.half() for key, value in scene.build_file("plus").projection.items()}
    layers = {key: value.half() for key, value in scene.build_layers("plus").items()}
    file = recognise(tensors, layers)
    assert {p.dtype for p in ImageAdapterModules.from_file(file).parameters()} == {torch.float16}
    assert_same(ImageAdapterModules.from_file(file).to_file(), file)


def test_the_authors_names_of_uniids_tensors_are_read():
    keys = json.loads(Path(__file__).with_name("peer_keys.json").read_text())
    for prefix, kind in (("text_branch.", "uniid-text"), ("adapter_branch.", "uniid-adapter")):
        tensors = {key: torch.ones(shape) for key, shape in keys.items() if key.startswith(prefix)}
        branch = recognise(*split_branch(tensors))
        assert branch.kind == kind
        assert branch.numbers == (() if kind == "uniid-text" else (1, 3, 5, 7))
        assert len(tensors_of(branch)) == len(tensors)
        assert branch.tokens == {"uniid-text": 3, "uniid-adapter": 5}[kind]


def test_sizes_of_a_file_are_said():
    file = scene.build_file("faceid-plus")
    assert (file.tokens, file.width, file.embedding, file.states) == (4, (64,), 512, 24)
    assert (file.numbers, file.inner, file.form) == ((1, 3, 5), (32, 64, 32), "unit")
    assert len(file.loras) == 48
    assert scene.build_file("full").tokens == 257
    assert scene.build_file("uniid-text").width == (64, 128)
    assert scene.build_file("instantid").form == "raw"


def test_portraits_sixteen_tokens_are_counted():
    projection = scene.FaceProjection(512, 64, 16).state_dict()
    assert recognise(projection, scene.build_layers("base")).tokens == 16


def test_the_second_version_is_told_by_the_file_name_and_said(tmp_path):
    file = scene.build_file("faceid-plusv2")
    path = tmp_path / "ip-adapter-faceid-plusv2_sdxl.bin"
    write_image_adapter(path, file)
    back = read_image_adapter(path)
    assert back.shortcut
    assert "file name" in back.notes[0]
    plain = path.rename(tmp_path / "renamed.bin")
    assert not read_image_adapter(plain).shortcut
    assert "first version" in read_image_adapter(plain).notes[0]
    named = read_image_adapter(plain, "faceid-plusv2")
    assert named.shortcut
    assert not named.notes
    with pytest.raises(AdapterMismatch, match="put plusv2 into it"):
        write_image_adapter(plain, file)
    ours = tmp_path / "mine.safetensors"
    write_image_adapter(ours, file)
    assert read_image_adapter(ours).shortcut


def test_a_resampler_over_512_numbers_is_instantids_and_said(tmp_path):
    file = scene.build_file("instantid")
    path = tmp_path / "ip-adapter.bin"
    write_image_adapter(path, file)
    assert read_image_adapter(path).kind == "instantid"
    assert "512" in read_image_adapter(path).notes[0]
    assert read_image_adapter(path, "plus").kind == "plus"
    with pytest.raises(AdapterMismatch, match="those of instantid, not of faceid"):
        read_image_adapter(path, "faceid")


def change(kind, edit):
    file = scene.build_file(kind)
    parts = SimpleNamespace(projection=file.projection, layers=scene.build_layers(kind))
    edit(parts)
    return parts.projection, parts.layers


@pytest.mark.parametrize(
    ("kind", "edit", "words"),
    [
        ("base", lambda f: f.projection.pop("norm.bias"), "lacks norm.bias"),
        ("base", lambda f: f.projection.pop("norm.weight"), "without 'norm.weight'"),
        ("plus", lambda f: f.projection.update(odd=torch.ones(1)), "no place for odd"),
        ("plus", lambda f: f.projection.pop("layers.2.1.3.weight"), "lacks layers.2.1.3.weight"),
        ("faceid", lambda f: f.projection.update({"proj.0.bias": torch.ones(3)}), "proj.0.bias is"),
        ("faceid", lambda f: f.layers.pop("2.to_q_lora.up.weight"), "LoRA has 2.to_q_lora.down"),
        ("base", lambda f: f.layers.pop("3.to_v_ip.weight"), "layer 3 lacks 3.to_v_ip.weight"),
        (
            "base",
            lambda f: f.layers.update({"4.to_k_ip.weight": f.layers["3.to_k_ip.weight"]}),
            "numbered",
        ),
        ("base", lambda f: f.layers.clear(), "no keys and values"),
        ("base", lambda f: f.layers.update({"1.to_q_ip.weight": torch.ones(1)}), "1.to_q_ip"),
        ("base", lambda f: f.layers.update({"1.to_q_lora.up.weight": torch.ones(1)}), "has a LoRA"),
        ("base", lambda f: f.projection.clear(), "no image adapter known"),
        (
            "base",
            lambda f: f.layers.update({f"1.to_{x}_ip.weight": torch.ones(32, 48) for x in "kv"}),
            "reads tokens of 48 channels",
        ),
        ("base", lambda f: f.layers.update({"1.to_k_ip.weight": torch.ones(8, 64)}), "keys of"),
    ],
)
def test_a_tensor_out_of_place_is_named(kind, edit, words):
    with pytest.raises(AdapterMismatch, match=words):
        recognise(*change(kind, edit))


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="h94/IP-Adapter"):
        read_image_adapter(tmp_path / "nothing.bin")
    path = tmp_path / "some.bin"
    path.write_bytes(b"no torch file")
    with pytest.raises(AdapterMismatch, match=r"some\.bin"):
        read_image_adapter(path)
    torch.save({"image_proj": {}, "other": {}}, path)
    with pytest.raises(AdapterMismatch, match="no 'ip_adapter'"):
        read_image_adapter(path)
    torch.save({"image_proj": {"a": Path("x")}, "ip_adapter": {}}, path)
    with pytest.raises(AdapterMismatch, match="nothing in it was run"):
        read_image_adapter(path)
    torch.save({"image_proj": {"a": 3}, "ip_adapter": {}}, path)
    with pytest.raises(AdapterMismatch, match="'a' is int, not a tensor"):
        read_image_adapter(path)
    flat = tmp_path / "lora.safetensors"
    save_file({"unet.to_q.lora_A.weight": torch.ones(2, 2)}, flat)
    with pytest.raises(AdapterMismatch, match="called image_proj"):
        read_image_adapter(flat)
    with pytest.raises(ValueError, match="ends in"):
        write_image_adapter(tmp_path / "file.pt", scene.build_file("base"))


def test_a_config_of_another_run_is_refused(tmp_path):
    branch = scene.build_file("uniid-adapter")
    write_image_adapter(tmp_path, branch)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_adapter_tokens": 25}))
    with pytest.raises(AdapterMismatch, match=r"num_adapter_tokens 25, the tensors .* 5"):
        read_image_adapter(tmp_path)
