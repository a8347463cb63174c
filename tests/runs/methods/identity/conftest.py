"""The toy plugins on the shelves, an album of drawn people, a tiny model."""

from pathlib import Path

import pytest
from tests.runs.methods.identity import toy

from frisket.families.models.pocket.family import FAMILY


@pytest.fixture(scope="session")
def _package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    toy.install(folder)
    return folder


@pytest.fixture(autouse=True)
def toys(_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(_package))


@pytest.fixture
def album(tmp_path: Path) -> toy.Album:
    return toy.Album(tmp_path / "album")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pocket model on disk."""
    folder = tmp_path_factory.mktemp("model")
    FAMILY.save(FAMILY.tiny("image"), folder)
    return folder
