"""Adapters of ours for transformers, and XLabs' own names."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.adapters.image import scene

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.files import read_image_adapter, write_image_adapter
from frisket.adapters.image.layouts import ImageAdapterFile, recognise
from frisket.adapters.spec import AdapterMismatch


def build_own_file(kind: str) -> ImageAdapterFile:
    layers = {
        f"{number}.to_{part}_ip.weight": scene.draw(f"{number}{part}", (32, scene.WIDTH))
        for number in range(3)
        for part in "kv"
    }
    projection = scene.build_projection(kind).state_dict()
    return recognise(projection, layers, kind=kind, family="wan")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["base", "plus", "full", "faceid", "faceid-plusv2"])
def test_one_of_ours_goes_round_with_its_family(tmp_path: Path, kind: str) -> None:
    file = build_own_file(kind)
    assert file.numbers == (0, 1, 2)
    path = tmp_path / "ours.safetensors"
    write_image_adapter(path, ImageAdapterModules.from_file(file).to_file())
    back = read_image_adapter(path)
    assert (back.family, back.kind, back.numbers) == ("wan", kind, (0, 1, 2))
    assert all(torch.equal(back.layers[key], value) for key, value in file.layers.items())
    with pytest.raises(AdapterMismatch, match="metadata"):
        write_image_adapter(tmp_path / "plusv2.bin", file)
    save_file(
        {f"ip_adapter.{key}": value for key, value in file.layers.items()}
        | {f"image_proj.{key}": value.clone() for key, value in file.projection.items()},
        path,
    )
    with pytest.raises(AdapterMismatch, match="number"):
        read_image_adapter(path, file.kind)


def test_xlabs_own_names_are_the_same_file(tmp_path: Path) -> None:
    file = scene.build_file("xlabs-flux")
    own = {f"ip_adapter_proj_model.{key}": value for key, value in file.projection.items()}
    for key, value in file.layers.items():
        number, part, end = key.split(".")
        own[f"double_blocks.{number}.processor.ip_adapter_double_stream_{part[3]}_proj.{end}"] = (
            value
        )
    path = tmp_path / "ip_adapter.safetensors"
    save_file({key: value.clone() for key, value in own.items()}, path)
    back = read_image_adapter(path)
    assert replace(back, projection={}, layers={}) == replace(file, projection={}, layers={})
    for theirs, ours in ((back.layers, file.layers), (back.projection, file.projection)):
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    own["single_blocks.0.processor.ip_adapter_single_stream_k_proj.weight"] = torch.ones(2, 2)
    save_file({key: value.clone() for key, value in own.items()}, path)
    with pytest.raises(AdapterMismatch, match="single_blocks"):
        read_image_adapter(path)
