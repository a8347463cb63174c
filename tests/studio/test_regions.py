"""Weights and names of regions, written where they are read."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from frisket.config.load import load
from frisket.studio.regions.numbers import BadRegion, add_region, find_numbers, rename_region
from frisket.studio.regions.table import write_weights
from frisket.studio.workspace import Workspace

LEVELS = """# first
[[data]]
clips = "clips"   # mine
masks = { path = "masks", levels = { face = 255, body = 128, background = 0 } }  # grey

[regions]   # what each weighs
face = 1.0  # all of it
body = 0.5
background = 0.0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "frisket.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_weight_changes_its_number_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, LEVELS)
    write_weights(path, {"face": 0.725})
    assert path.read_text("utf-8") == LEVELS.replace("face = 1.0", "face = 0.725")


@pytest.mark.parametrize(
    "text",
    [
        '[[data]]\nclips = "c"\n',
        'regions = "person"\n[[data]]\nclips = "c"\n',
        '[[data]]\nclips = "c"\n[regions]\npreset = "person"\n',
        'regions.face = 0.2 # f\n[[data]]\nclips = "c"\n',
        '[regions.face]\nweight = 1\nphrase = "sks"\n[[data]]\nclips = "c"\n',
        "regions = { face = 1, hair = 0.3 }\n[run]\nsteps = 3\n",
    ],
)
def test_every_way_to_write_the_table_takes_weights(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    before = load(path)
    write_weights(path, {"face": 0.75, "hat": 2.0})
    after = load(path)
    wanted = {**before.region_weights, "face": 0.75, "hat": 2.0}
    assert after.region_weights == wanted
    assert after.phrases == before.phrases
    assert after.model_copy(update={"regions": before.regions}) == before


def test_a_new_region_takes_the_freest_grey_level(tmp_path: Path) -> None:
    path = write(tmp_path, LEVELS)
    clip_set = Workspace(tmp_path).list_sets()[0]
    assert (
        add_region(clip_set, "hat", 0.4) == 64
    )  # of 0 to 128, farther from both than 191 of 128 to 255
    config = load(path)
    assert config.region_weights["hat"] == 0.4
    assert config.data[0].masks.levels["hat"] == 64
    with pytest.raises(BadRegion, match="is there already"):
        add_region(clip_set, "hat", 1.0)


def test_a_legend_beside_the_masks_is_extended_and_renamed(tmp_path: Path) -> None:
    path = write(tmp_path, '[[data]]\nclips = "c"\nmasks = "masks"\n[regions]\nface = 1 # f\n')
    legend = tmp_path / "masks" / "legend.json"
    legend.parent.mkdir()
    legend.write_text('{"face": 1}')
    clip_set = Workspace(tmp_path).list_sets()[0]
    assert add_region(clip_set, "Hut ü", 0.5) == 2
    assert json.loads(legend.read_text("utf-8")) == {"face": 1, "Hut ü": 2}
    rename_region(clip_set, "face", "head")
    assert json.loads(legend.read_text("utf-8")) == {"head": 1, "Hut ü": 2}
    assert load(path).region_weights == {"head": 1.0, "Hut ü": 0.5}


def test_a_name_that_something_else_goes_by_is_not_changed(tmp_path: Path) -> None:
    text = (
        '[[data]]\nclips = "c"\nmasks = "masks"\n[[data]]\nclips = "d"\nmasks = "other"\n'
        "[regions]\nface = 1\n"
    )
    path = write(tmp_path, text)
    for name in ("masks", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "legend.json").write_text('{"face": 1}')
    clip_set = Workspace(tmp_path).list_sets()[0]
    with pytest.raises(ValueError, match="other"):
        rename_region(clip_set, "face", "head")
    assert path.read_text("utf-8") == text
    assert (tmp_path / "masks" / "legend.json").read_text() == '{"face": 1}'


@pytest.mark.parametrize("name", ["", " a", "background", "a/b", "..", "a\nb", "x" * 65, "a:b"])
def test_what_cannot_be_a_folder_is_no_region(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, LEVELS)
    with pytest.raises(BadRegion):
        add_region(Workspace(tmp_path).list_sets()[0], name, 1.0)
    assert path.read_text("utf-8") == LEVELS


def test_grey_masks_have_no_room_for_a_second_region(tmp_path: Path) -> None:
    path = write(tmp_path, '[[data]]\nclips = "c"\nmasks = "masks"\n')
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"grey, as nothing says otherwise")
    before = path.read_text("utf-8")
    with pytest.raises(BadRegion, match="grey"):
        add_region(Workspace(tmp_path).list_sets()[0], "hat", 1.0)
    assert path.read_text("utf-8") == before
    assert not (tmp_path / "masks" / "legend.json").exists()


def test_a_set_without_a_configuration_has_a_legend_alone(tmp_path: Path) -> None:
    clip_set = Workspace(tmp_path).list_sets()[0]
    assert add_region(clip_set, "face", 1.0) == 1
    assert find_numbers(clip_set).table == {"face": 1}


def test_routes_refuse_what_is_no_weight(folder: Path, client: TestClient) -> None:
    path = write(folder, LEVELS)
    config = client.get("/api/workspace").json()["configs"][0]["id"]
    url = f"/api/configs/{config}/regions"
    answer = client.put(url, json={"weights": {"face": 0.25}})
    assert answer.json()["regions"][0] == {"name": "face", "weight": 0.25, "phrase": ""}
    text = path.read_text("utf-8")
    for weights in [{}, {"face": -1}, {"face": 1e9}, {"face": "x"}, {"x" * 99: 1}]:
        assert client.put(url, json={"weights": weights}).status_code == 422
    nan = client.put(url, content='{"weights": {"face": NaN}}')
    assert nan.status_code == 422
    assert client.put("/api/configs/none/regions", json={"weights": {"a": 1}}).status_code == 404
    assert path.read_text("utf-8") == text
    clip_set = client.get("/api/workspace").json()["sets"][0]["id"]
    assert client.post(f"/api/sets/{clip_set}/regions", json={"name": "a/b"}).status_code == 422
    assert client.post(f"/api/sets/{clip_set}/regions", json={"name": "hat"}).json()["id"] == 64
    assert client.get(f"/api/sets/{clip_set}/regions").json()["numbers"]["hat"] == 64
