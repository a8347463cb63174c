"""Writes the image adapter of a run into its folder, in the public layout of its kind."""

from dataclasses import replace
from pathlib import Path
from typing import cast

from diffusers import ControlNetModel
from torch import nn

from frisket.adapters.image.adapter import find_image_adapter
from frisket.adapters.image.branches import write_branch
from frisket.adapters.image.files import write_image_adapter
from frisket.adapters.image.instantid import InstantIdModules
from frisket.runs.image_adapters.results import describe_result


def save_image_adapter(denoiser: nn.Module, folder: Path, metadata: dict[str, str]) -> Path:
    """Write the adapter on a denoiser into a run's folder; returns its file or folder there.

    In the public layout of its kind (transformers: ours with the same names). The metadata go into
    a file of safetensors or beside a branch of UniID; InstantID's files have no place for them.
    """
    adapter = find_image_adapter(denoiser)
    assert adapter is not None
    path = folder / describe_result(adapter.kind).path
    if adapter.identity_net is not None:
        InstantIdModules(adapter, cast(ControlNetModel, adapter.identity_net)).save(path)
    elif path.suffix:
        write_image_adapter(path, adapter.to_file(), metadata)
    else:
        path.mkdir(parents=True, exist_ok=True)
        write_branch(path, replace(adapter.to_file(), config=metadata))
    return path
