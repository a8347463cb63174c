"""InstantID's modules: where they begin, their public folder, and folders that are none."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file
from tests.adapters.image.pipelines import build_pipeline, build_unet

from frisket.adapters import lora
from frisket.adapters.image.instantid import (
    ADAPTER,
    CONFIG,
    NET,
    WEIGHTS,
    InstantIdModules,
    compare_nets,
    start_identity_net,
)
from frisket.adapters.spec import AdapterMismatch
from frisket.families.base import FAMILIES


@cache
def build_modules() -> InstantIdModules:
    """Nobody may change them."""
    unet = build_unet()
    modules = InstantIdModules.start_for_model(unet, hidden=64, tokens=5)
    with torch.no_grad():
        for value in modules.identity_net.controlnet_mid_block.parameters():
            value.normal_()
    return modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "instantid"
    build_modules().save(folder)
    return folder


def test_a_folder_comes_back_bit_for_bit_and_diffusers_reads_both_parts(folder: Path) -> None:
    modules, back = build_modules(), InstantIdModules.from_folder(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert names == {ADAPTER, f"{NET}/{CONFIG}", f"{NET}/{WEIGHTS}"}
    state = back.state_dict()
    assert state.keys() == modules.state_dict().keys()
    for name, value in modules.state_dict().items():
        assert torch.equal(value, state[name])
    theirs = ControlNetModel.from_pretrained(folder / NET)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, state[f"identity_net.{name}"])
    pipeline: Any = build_pipeline(build_unet())
    pipeline.load_ip_adapter(
        str(folder), subfolder="", weight_name=ADAPTER, image_encoder_folder=None
    )
    projection = pipeline.unet.encoder_hid_proj.image_projection_layers[0]
    assert torch.equal(projection.latents, state["adapter.image_proj.latents"])
    assert not any(value.requires_grad for value in back.identity_net.parameters())


def test_it_begins_as_the_text_and_with_residuals_of_zero() -> None:
    unet = build_unet()
    modules = InstantIdModules.start_for_model(unet, hidden=64, tokens=5)
    pair: Any = modules.adapter.ip_adapter["1"]
    text: Any = unet.get_submodule("down_blocks.1.attentions.0.transformer_blocks.0.attn2")
    assert torch.equal(pair.to_k_ip.weight, text.to_k.weight)
    down, middle = modules.identity_net(
        torch.randn(1, 4, 8, 8), torch.tensor(10), torch.randn(1, 5, 64),
        torch.rand(1, 3, 64, 64), return_dict=False,
    )  # fmt: skip
    assert not any(residual.any() for residual in (*down, middle))
    assert all(value.requires_grad for value in modules.parameters())
    assert compare_nets(modules.identity_net, unet) == ""
    other: Any = FAMILIES.load("pocket").tiny("image").denoiser
    assert "in_channels is 4 in IdentityNet and 12" in compare_nets(modules.identity_net, other)


@pytest.mark.parametrize("spatial", [1, 2, 4, 8])
def test_the_picture_is_as_much_larger_as_the_vae_says(spatial: int) -> None:
    net = start_identity_net(build_unet(), spatial)
    cells = net.controlnet_cond_embedding(torch.zeros(1, 3, 8 * spatial, 16 * spatial))
    assert cells.shape[-2:] == (8, 16)


def test_only_a_bare_unet_can_be_begun_from() -> None:
    unet = build_unet()
    for spatial in (3, 16):
        with pytest.raises(AdapterMismatch, match=str(spatial)):
            start_identity_net(unet, spatial)
    transformer: Any = FAMILIES.load("pocket").tiny("dit").denoiser
    with pytest.raises(AdapterMismatch, match="WanTransformer3DModel"):
        start_identity_net(transformer)
    lora.attach(unet, lora.LoraSpec(rank=2, targets=("to_q",)), seed=0)
    with pytest.raises(AdapterMismatch, match="before adapters are attached"):
        start_identity_net(unet)


def _drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _edit_config(**entries: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / NET / CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))

    return edit


def _edit_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / NET / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / NET / WEIGHTS)

    return edit


SPOILED: list[tuple[Callable[[Path], Any], type[Exception], str]] = [
    (_drop(ADAPTER), FileNotFoundError, "ip-adapter.bin.*InstantX/InstantID"),
    (_drop(f"{NET}/{CONFIG}"), FileNotFoundError, "config.json.*InstantX/InstantID"),
    (_drop(f"{NET}/{WEIGHTS}"), FileNotFoundError, "safetensors.*InstantX/InstantID"),
    (
        lambda folder: (folder / NET / CONFIG).write_text("{"),
        AdapterMismatch,
        "config.json is no JSON",
    ),
    (_edit_config(_class_name="UNet2DConditionModel"), AdapterMismatch, "UNet2DConditionModel"),
    (_edit_config(down_block_types=["DownBlock2D"]), AdapterMismatch, "makes no ControlNet"),
    (_edit_config(layers_per_block=10**6), AdapterMismatch, "more layers than there are tensors"),
    (_edit_config(act_fn=0), AdapterMismatch, "makes no ControlNet"),
    (_edit_config(cross_attention_dim=48), AdapterMismatch, "by its config.json it would be"),
    (
        _edit_weights(lambda tensors: tensors.pop("conv_in.bias")),
        AdapterMismatch,
        "lacks conv_in.bias",
    ),
    (
        _edit_weights(lambda tensors: tensors.update(more=torch.zeros(1))),
        AdapterMismatch,
        "'more', for which",
    ),
    (
        _edit_weights(lambda tensors: tensors["conv_in.bias"].fill_(float("nan"))),
        AdapterMismatch,
        "conv_in.bias",
    ),
    (
        lambda folder: (folder / NET / WEIGHTS).write_bytes(b"no tensors"),
        AdapterMismatch,
        "diffusion_pytorch_model.safetensors",
    ),
]


@pytest.mark.parametrize(("spoil", "error", "words"), SPOILED, ids=[row[2] for row in SPOILED])
def test_a_folder_that_is_not_whole_is_named(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], Any], error: Any, words: str
) -> None:
    shutil.copytree(folder, tmp_path / "files")
    spoil(tmp_path / "files")
    with pytest.raises(error, match=words):
        InstantIdModules.from_folder(tmp_path / "files")


def test_halves_of_different_models_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "files")
    parts = FAMILIES.load("stable_diffusion").tiny("sd15")
    assert parts.denoiser is not None
    start_identity_net(parts.denoiser).save_pretrained(tmp_path / "files" / NET)
    with pytest.raises(AdapterMismatch, match="64 channels and IdentityNet reads 16"):
        InstantIdModules.from_folder(tmp_path / "files")


def test_a_folder_may_hold_the_adapter_as_safetensors(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "files")
    content = torch.load(folder / ADAPTER, weights_only=True)
    flat = {f"{part}.{key}": value for part in content for key, value in content[part].items()}
    save_file(flat, (tmp_path / "files" / ADAPTER).with_suffix(".safetensors"))
    (tmp_path / "files" / ADAPTER).unlink()
    back = InstantIdModules.from_folder(tmp_path / "files")
    whole = InstantIdModules.from_folder(folder).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in back.state_dict().items())
