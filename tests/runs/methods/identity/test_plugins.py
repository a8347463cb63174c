"""The methods that ship, by config table, with the files they publish in tiny form: they add up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.methods.identity.test_generate import pixels, run, write_lora
from tests.runs.methods.identity.toy import Album

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.files import write_image_adapter
from frisket.adapters.image.instantid import InstantIdModules
from frisket.adapters.image.projections import FaceProjection
from frisket.faces.base import EmbeddingMixup
from frisket.faces.embedders.iresnet import build_tiny
from frisket.families.models.pocket.family import FAMILY

PEOPLE = 64  # numbers of the tiny embedder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """InstantID's folder and a FaceID file for the tiny pocket model."""
    folder = tmp_path_factory.mktemp("files")
    denoiser: Any = FAMILY.tiny("image").denoiser
    torch.manual_seed(0)
    modules = InstantIdModules.start_for_model(denoiser, hidden=64, embedding=PEOPLE, spatial=2)
    modules.save(folder / "instantid")
    projection = FaceProjection(PEOPLE, denoiser.config.cross_attention_dim)
    adapter = ImageAdapterModules.start_for_model("faceid", projection, denoiser)
    write_image_adapter(folder / "faceid.safetensors", adapter.to_file())
    return folder


def test_both_act_by_themselves_and_together_beside_a_lora(
    model: Path, album: Album, files: Path, tmp_path: Path
) -> None:
    ada, pose = album.draw("ada", 1), album.draw("pose", 3, views=5)
    options = {"identity_net": 0.5}
    tables = (
        album.table(ada, method="instantid", source=files / "instantid", options=options),
        album.table(ada, method="faceid", source=files / "faceid.safetensors", scale=0.7),
    )
    tables[0]["pose"] = pose
    lora = [(write_lora(tmp_path / "trained.safetensors"), 1.0)]
    made = run(model, tmp_path / "both", *tables, lora=lora, without=True)
    shown = [pixels(path) for path in made.pictures]
    assert len(shown) == 5
    assert all((a != b).any() for i, a in enumerate(shown) for b in shown[:i])
    again = run(
        model, tmp_path / "base"
    )  # nothing of a method stays on a model that is loaded anew
    assert (pixels(again.pictures[0]) == shown[0]).all()
    record = json.loads(made.record.read_text())["methods"]
    assert record[0]["options"]["identity_net"] == 0.5
    assert record[0]["pose"][0]["path"] == str(pose)
    names = {Path(file["path"]).name for file in record[0]["source"]}
    assert names >= {"ip-adapter.bin", "config.json"}


def test_a_network_of_another_width_is_named(
    model: Path, album: Album, files: Path, tmp_path: Path
) -> None:
    keys = {"embedder": "iresnet", "embedder_source": build_tiny(tmp_path / "pack")}
    for method, source in (("instantid", "instantid"), ("faceid", "faceid.safetensors")):
        table = album.table(album.draw("ada", 1), method=method, source=files / source, **keys)
        with pytest.raises(EmbeddingMixup, match=r"ada\.png.* 16 .*64"):
            run(model, tmp_path / "out", table)
