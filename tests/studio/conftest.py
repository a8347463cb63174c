"""A studio in this process, for tests of its routes: guarded as a real one is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from frisket.studio.app import build_app
from frisket.studio.guard import Credentials
from frisket.studio.state import Studio
from frisket.studio.workspace import Workspace

PORT = 8471


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is opened: empty, for the test to fill before it asks for a client."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "work"
    root.mkdir()
    return root


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """The browser of one who has opened the printed address; `client.app.state.studio` is there."""
    credentials = Credentials(port=PORT)
    app = build_app(Studio(Workspace(folder)), credentials)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}") as browser:
        browser.get(credentials.address)
        browser.headers["X-Frisket"] = "1"
        yield browser
