"""Sampling from the page: the command it comes to, where LoRAs may act, and what is kept."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from frisket.studio.generation.history import make_folder, write_settings
from frisket.studio.generation.lora_files import name_lora
from frisket.studio.jobs.queue import JobQueue
from frisket.studio.workspace import make_id


def write_lora(path: Path, metadata: dict[str, str] | None = None, key: str = "x.lora_A") -> Path:
    """The header of a LoRA: what the list reads of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tree: dict[str, Any] = {key: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    if metadata:
        tree["__metadata__"] = metadata
    raw = json.dumps(tree).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * 4)
    return path


@pytest.fixture
def project(folder: Path) -> Path:
    """A configuration, and two LoRAs beside it."""
    (folder / "clips").mkdir()
    (folder / "frisket.toml").write_text(
        '[model]\nfamily = "pocket"\ndevice = "cpu"\n[[data]]\nclips = "clips"\n'
    )
    base = json.dumps({"family": "pocket"})
    write_lora(
        folder / "ann.safetensors",
        {"frisket.base": base, "modelspec.trigger_phrase": "ann", "frisket.adapter": "{"},
    )
    write_lora(folder / "loras" / "bob.safetensors", {"frisket.base": base})
    return folder


@pytest.fixture
def queue(client: TestClient) -> Iterator[JobQueue]:
    """The queue of the studio; a child that it started is ended with the test."""
    studio = client.app.state.studio  # type: ignore[attr-defined]
    if studio.jobs is None:
        studio.jobs = JobQueue(studio.home, studio.root, studio.events.publish)
    yield studio.jobs
    for job in studio.jobs.list_jobs():
        if job.child is not None:
            job.child.kill()
            job.child.wait()
    studio.jobs.close()


def form_of(project: Path, **changes: Any) -> dict[str, Any]:
    form: dict[str, Any] = {
        "config": make_id("config", "frisket.toml"),
        "prompts": [{"prompt": "ann and bob"}],
        "seeds": [3],
        "loras": [
            {"lora": name_lora(project / "ann.safetensors"), "strength": 0.8},
            {"lora": name_lora(project / "loras" / "bob.safetensors")},
        ],
        "dry": True,
    }
    return form | changes


def command_of(client: TestClient, form: dict[str, Any]) -> str:
    answer = client.post("/api/generate", json=form)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["command"])


def error_of(client: TestClient, form: dict[str, Any]) -> str:
    answer = client.post("/api/generate", json=form)
    assert answer.status_code in (404, 422), answer.text
    return str(answer.json()["error"])


def test_loras_are_found_by_their_tensors_and_know_their_base(
    client: TestClient, project: Path
) -> None:
    write_lora(project / "model.safetensors", key="transformer.weight")
    (project / "broken.safetensors").write_bytes(b"\xff" * 40)
    (project / "link.safetensors").symlink_to("/etc/passwd")
    write_lora(project / ".hidden" / "x.safetensors")
    loras = client.get("/api/generate/loras").json()["loras"]
    assert {lora["name"] for lora in loras} == {"ann.safetensors", "loras/bob.safetensors"}
    ann = next(lora for lora in loras if lora["name"] == "ann.safetensors")
    assert (ann["family"], ann["trigger"], ann["run"]) == ("pocket", "ann", None)


def test_a_run_that_trained_all_weights_offers_its_model(client: TestClient, project: Path) -> None:
    run = project / "runs" / "whole"
    (run / "model" / "denoiser").mkdir(parents=True)
    (run / "trained.toml").write_text('[model]\nfamily = "pocket"\ntrain = "all"\n')
    listed = client.get("/api/generate/loras").json()["loras"]
    assert not any(lora["is_model"] for lora in listed)  # before its end
    record = {"frisket.base": json.dumps({"family": "pocket"}), "modelspec.trigger_phrase": "ann"}
    (run / "model" / "frisket.json").write_text(json.dumps(record))
    listed = client.get("/api/generate/loras").json()["loras"]
    (model,) = [lora for lora in listed if lora["is_model"]]
    assert (model["name"], model["family"]) == ("runs/whole, all weights", "pocket")
    assert model["trigger"] == "ann"
    alone = form_of(project, loras=[{"lora": model["id"]}], compare=True)
    assert f"--lora={run}/model --strength=1 --compare" in command_of(client, alone)
    two = form_of(project)["loras"]
    for loras in ([{"lora": model["id"]}, *two], [{"lora": model["id"], "strength": 0.5}]):
        assert "acts alone and at strength 1" in error_of(client, form_of(project, loras=loras))
    words = [{"lora": model["id"], "trigger": "ann"}]
    assert "acts everywhere" in error_of(client, form_of(project, loras=words, method="freefuse"))
    (run / "model" / "frisket.json").write_text("{")
    assert client.get("/api/generate/loras").status_code == 200


def test_the_command_says_all_that_was_chosen(client: TestClient, project: Path) -> None:
    form = form_of(project, width=64, height=32, steps=4, guidance=3.5, compare=True, negative="x")
    assert command_of(client, form) == (
        f"frisket generate {project}/frisket.toml '--prompt=ann and bob' --seed=3 --negative=x"
        f" --width=64 --height=32 --steps=4 --guidance=3.5 --lora={project}/ann.safetensors"
        f" --lora={project}/loras/bob.safetensors --strength=0.8 --strength=1 --compare"
        f" --output={project}/generated/NNN"
    )
    assert not (project / "generated").exists()
    assert "--base" in command_of(client, form_of(project, loras=[]))
    triggers = form_of(project, method="freefuse", background="a park", fuse_step=2)
    for lora, words in zip(triggers["loras"], ("ann", "bob"), strict=True):
        lora["trigger"] = words
    assert (
        "--fuse=freefuse --trigger=ann --trigger=bob '--fuse-background=a park' --fuse-step=2"
        in command_of(client, triggers)
    )


def test_what_could_not_arrive_is_refused_before_any_folder_is_made(
    client: TestClient, project: Path, queue: JobQueue
) -> None:
    real = {"dry": False}
    rows = [{"prompt": "a fox --s 4", "seed": 1}]
    assert "would begin an option" in error_of(client, form_of(project, prompts=rows, **real))
    lines = [{"prompt": "one\n--output=/tmp/x"}]
    assert "line break" in error_of(client, form_of(project, prompts=lines, **real))
    assert "is empty" in error_of(client, form_of(project, prompts=[{"prompt": " "}], **real))
    assert "no trigger" in error_of(client, form_of(project, method="freefuse", **real))
    assert "choose a LoRA" in error_of(client, form_of(project, loras=[], compare=True, **real))
    assert "not there any more" in error_of(client, form_of(project, loras=[{"lora": "0" * 18}]))
    for wrong in ({"seeds": [-1]}, {"seeds": []}, {"width": 10**9}, {"guidance": "nan"}, {"x": 1}):
        assert client.post("/api/generate", json=form_of(project, **wrong)).status_code == 422
    both = form_of(project, run="0" * 18)
    assert "choose a configuration or a run" in error_of(client, both)
    assert not list((project / "generated").glob("*")) if (project / "generated").exists() else True
    assert queue.list_jobs() == []
    # What begins with a dash is the value of its option, and nothing else.
    assert " --prompt=--output=/tmp/x " in command_of(
        client, form_of(project, prompts=[{"prompt": "--output=/tmp/x"}])
    )


def test_painted_places_are_masks_as_the_command_reads_them(
    client: TestClient, project: Path
) -> None:
    numbers = bytes([1] * 16 + [2] * 8 + [0] * 8) * 16  # 32 x 16: left, right, nobody's
    answer = client.post(
        "/api/generate/paintings?width=32&height=16", content=zlib.compress(numbers)
    ).json()
    assert answer["shares"] == {"1": 0.5, "2": 0.25}
    form = form_of(project, painting=answer["id"])
    form["loras"][0]["painted"] = True
    masks = project / ".frisket-studio" / "lora-masks"
    assert f"--lora-mask={masks}/{answer['id']}-1.png --lora-mask=-" in command_of(client, form)
    with Image.open(masks / f"{answer['id']}-1.png") as mask:
        assert (mask.mode, mask.size) == ("L", (32, 16))
        assert mask.tobytes() == (b"\xff" * 16 + b"\0" * 16) * 16
    again = client.get(f"/api/generate/paintings/{answer['id']}")
    assert again.headers["x-frisket-size"] == "32 16"
    assert zlib.decompress(again.content) == numbers
    from frisket.grid import LatentGrid
    from frisket.runs.methods.regional import lay_mask

    plane = lay_mask(masks / f"{answer['id']}-2.png", [(1, 16, 32)], LatentGrid(4, 8))[1, 2, 4]
    assert plane[0, 0, 0].tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]
    third = [*form["loras"], {**form["loras"][1], "painted": True}]
    assert "its colour is nowhere" in error_of(client, form | {"loras": third})
    assert "finds each LoRA's place" in error_of(client, form | {"method": "tara"})


def test_a_painting_that_is_none_is_refused(client: TestClient, folder: Path) -> None:
    address = "/api/generate/paintings?width=32&height=16"
    bomb = zlib.compress(b"\0" * (64 << 20))
    for body in (b"", b"no zlib", zlib.compress(b"\1" * 511), zlib.compress(b"\1" * 513), bomb):
        assert client.post(address, content=body).status_code == 422
    assert client.post(address, content=zlib.compress(b"\x09" * 512)).status_code == 422
    huge = "/api/generate/paintings?width=99999&height=99999"
    assert client.post(huge, content=b"").status_code == 422
    assert client.get("/api/generate/paintings/" + "0" * 18).status_code == 404
    assert not (folder / ".frisket-studio" / "lora-masks").exists()


def test_a_call_is_queued_with_its_settings_and_its_pictures_are_listed(
    client: TestClient, project: Path, queue: JobQueue
) -> None:
    form = form_of(project, dry=False, prompts=[{"prompt": "ann", "seed": 7}, {"prompt": "bob"}])
    answer = client.post("/api/generate", json=form).json()
    folder = project / "generated" / answer["call"]
    assert (folder / "prompts.txt").read_text() == "ann --d 7\nbob\n"
    (job,) = queue.list_jobs()
    assert (job.id, job.spec.kind, job.spec.device) == (answer["job"], "generate", "cpu")
    call = client.get(f"/api/generated/{answer['call']}").json()
    assert (call["job"], call["done"], call["pictures"]) == (answer["job"], False, [])
    assert call["form"]["prompts"][0]["seed"] == 7
    Image.new("RGB", (8, 8)).save(folder / "000-ann-7-lora.png")
    (picture,) = client.get(f"/api/generated/{answer['call']}").json()["pictures"]
    assert (picture["seed"], picture["lora"]) == (7, True)
    assert client.get(picture["url"]).content.startswith(b"\x89PNG")
    spec = {"file": "000-ann-7-lora.png", "lora": True, "prompt": "ann", "seed": 7, "width": 8}
    spec |= {"height": 8, "frames": 1, "steps": 2, "guidance": 1.0, "negative": ""}
    (folder / "generate.json").write_text(json.dumps({"pictures": [spec]}))
    call = client.get("/api/generated").json()["calls"][0]
    assert call["done"]
    assert call["pictures"][0]["prompt"] == "ann"


def test_removed_pictures_come_back_from_the_trash(client: TestClient, folder: Path) -> None:
    call = make_folder(folder)
    write_settings(call, {"form": {}})
    answer = client.delete(f"/api/generated/{call.name}").json()
    assert not call.exists()
    assert client.get("/api/generated").json()["calls"] == []
    again = make_folder(folder)  # takes the number meanwhile
    assert again == call
    restored = client.post("/api/generated/restore", json=answer).json()["call"]
    assert restored == "002"
    assert client.post("/api/generated/restore", json=answer).status_code == 404
    for name in ("../../x", "001-..", "001"):
        assert client.post("/api/generated/restore", json={"trash": name}).status_code == 422
    (folder / "generated" / "009").symlink_to("/etc")
    assert client.get("/api/generated/009").status_code == 404
