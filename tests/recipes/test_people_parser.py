"""`frisket masks --people`: what is at hand is taken, and nothing is fetched unasked."""

from pathlib import Path

import pytest
from tests.maskgen.tiny import people

from frisket.maskgen.backends import segformer
from frisket.maskgen.base import BackendUnusable
from frisket.maskgen.vision.people_parser import choose_parser

PHOTOS = Path("photos")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def downloaded(hub: Path, repo: str, build) -> Path:
    """A tiny model as the hub's cache lays out what was downloaded."""
    home = hub / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    return build(home / "snapshots" / ("0" * 40))


def test_a_model_that_was_downloaded_is_taken_without_a_question(hub: Path) -> None:
    folder = downloaded(hub, segformer.REPO, people.segformer)
    found = choose_parser(PHOTOS, {}, None)
    assert found.backend == "segformer"
    assert found.sources == {"segformer": str(folder)}


def test_half_a_download_is_none(hub: Path) -> None:
    folder = downloaded(hub, segformer.REPO, people.segformer)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackendUnusable, match="no model that parses people"):
        choose_parser(PHOTOS, {}, None)


def test_the_better_of_two_is_taken(hub: Path) -> None:
    downloaded(hub, segformer.REPO, people.segformer)
    downloaded(hub, "facebook/sapiens2-seg-1b", people.sapiens2)
    assert choose_parser(PHOTOS, {}, None).backend == "sapiens"


def test_weights_that_are_named_come_first() -> None:
    told = {"segformer": "models/faces"}
    assert choose_parser(PHOTOS, told, None).backend == "segformer"
    with pytest.raises(BackendUnusable, match="name the parser"):
        choose_parser(PHOTOS, {"": "models/faces"}, None)


def test_nothing_is_fetched_before_a_yes() -> None:
    asked: list[str] = []
    assert choose_parser(PHOTOS, {}, lambda text: not asked.append(text)).backend == "segformer"
    assert choose_parser(PHOTOS, {}, lambda _: False).backend == "draft"
    assert "110 MB" in asked[0]
    assert "NVIDIA" in asked[0]


def test_where_nobody_can_be_asked_both_commands_are_named() -> None:
    with pytest.raises(BackendUnusable, match="110 MB") as error:
        choose_parser(PHOTOS, {}, None)
    assert "`frisket masks photos -b segformer`" in str(error.value)
    assert "`frisket masks photos` makes drafts" in str(error.value)
    assert choose_parser(PHOTOS, {}, None, dry=True).backend == "segformer"


def test_a_backend_beside_it_is_refused() -> None:
    with pytest.raises(BackendUnusable, match="not both"):
        choose_parser(PHOTOS, {}, None, backend_typed=True)
