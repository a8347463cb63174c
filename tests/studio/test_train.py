"""Starting a run from the page: what it comes to is told first, and one run has one trainer."""

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from frisket.studio.workspace import make_id

TEXT = '[[data]]\nclips = "clips"\n\n[run]\noutput = "out"\nsteps = 300\n'
ID = make_id("config", "frisket.toml")


@pytest.fixture
def config(folder: Path) -> Path:
    (folder / "clips").mkdir()
    path = folder / "frisket.toml"
    path.write_text(TEXT)
    return path


def read_state(client: TestClient) -> dict[str, Any]:
    state: dict[str, Any] = client.get(f"/api/train/state/{ID}").json()
    return state


def save_checkpoint(folder: Path, step: int) -> None:
    place = folder / "out" / "checkpoints" / f"step-{step:08d}"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(f'{{"step": {step}}}')


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (0, "starts at step 0"),
        (120, "goes on from step 120 of 300"),
        (300, "is finished: all 300 steps are done"),
        (400, "more than run.steps = 300: it would be refused"),
    ],
)
def test_what_starting_comes_to(
    client: TestClient, folder: Path, config: Path, step: int, words: str
) -> None:
    if step:
        save_checkpoint(folder, step)
    state = read_state(client)
    assert words in state["words"]
    assert state["command"] == "frisket train frisket.toml"
    assert state["output"] == str(folder / "out")
    assert {disk["name"] for disk in state["disks"]} == {"output", "cache"}
    config.write_text("[run]\nsteps = 0\n")
    assert read_state(client)["ready"] is False


def test_one_run_has_one_trainer(client: TestClient, config: Path) -> None:
    revision = read_state(client)["revision"]
    old = client.post("/api/train", json={"config": ID, "revision": "0"})
    assert old.status_code == 409
    job = client.post("/api/train", json={"config": ID, "revision": revision, "fresh": True}).json()
    assert job["command"].endswith("frisket.toml --set run.resume=false")
    assert job["about"]["config"] == ID
    try:
        again = client.post("/api/train", json={"config": ID, "revision": revision})
        assert again.status_code == 409
        assert "already trains" in again.json()["error"]
        assert read_state(client)["job"]["id"] == job["id"]
    finally:
        client.post(f"/api/jobs/{job['id']}/stop", json={"hard": True})
    for _ in range(200):
        if client.get(f"/api/jobs/{job['id']}").json()["job"]["ended"] is not None:
            break
        time.sleep(0.05)
    assert read_state(client)["job"] is None


def test_a_broken_configuration_starts_nothing(client: TestClient, config: Path) -> None:
    config.write_text(TEXT + "batch = 0\n")
    answer = client.post(
        "/api/train", json={"config": ID, "revision": read_state(client)["revision"]}
    )
    assert answer.status_code == 422
    assert "run.batch" in answer.json()["error"]
    assert client.get("/api/jobs").json()["jobs"] == []


def test_presets_and_cards_need_no_torch(client: TestClient) -> None:
    presets = client.get("/api/train/presets").json()["presets"]
    assert {"family", "variant", "card", "memory"} <= presets[0].keys()
    assert client.get("/api/train/cards").json()["cards"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("memory", {"config": ID, "text": "", "room_mib": -1}),
        ("memory", {"config": ID, "text": "", "room_mib": "nan"}),
        ("look", {"config": ID, "text": "x" * (2 << 20)}),
        ("preset", {"family": "x" * 200, "variant": ""}),
        ("preset", {"family": "wan", "variant": "", "sets": 10**9}),
    ],
)
def test_bounds_are_kept(client: TestClient, config: Path, path: str, body: dict[str, Any]) -> None:
    assert client.post(f"/api/train/{path}", json=body).status_code == 422
