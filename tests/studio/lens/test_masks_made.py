"""The queue of masks, verdicts that training obeys, and the call that the form stands for."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from frisket.config.maskgen import MaskGeneration, MaskRequest
from frisket.maskgen.base import BackendUnusable
from frisket.maskgen.files import record
from frisket.maskgen.files.unsure import is_unsure
from frisket.media.files import find
from frisket.recipes.masks.folder import BadMaskOption
from frisket.recipes.masks.judge import judge_masks
from frisket.recipes.masks.make import MaskingResult, make_masks
from frisket.studio.review.making import BadMaking, build_call, describe_form
from frisket.studio.sets.plan import plan_of
from frisket.studio.workspace import Workspace

PHOTOS = Path(__file__).parents[3] / "examples" / "photos" / "clips"


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph whose draft is done, a sky without anybody, and a mask made by hand."""
    folder = tmp_path_factory.mktemp("drafted")
    clips = folder / "clips"
    clips.mkdir()
    Image.open(PHOTOS / "astronaut.jpg").resize((256, 256)).save(clips / "ada.png")
    Image.open(PHOTOS / "astronaut.jpg").resize((256, 256)).save(clips / "hand.png")
    Image.new("RGB", (128, 96), (90, 120, 200)).save(clips / "sky.png")
    (folder / "train.toml").write_text(
        '[model]\nfamily = "pocket"\n[[data]]\nclips = "clips"\nmasks = "masks"\n'
        "[regions]\nface = 1.0\nhair = 0.5\nbody = 0.5\nbackground = 0.0\n"
    )
    make(folder)
    mask = np.asarray(Image.open(folder / "masks" / "hand.png")).copy()
    mask[:20, :20] = 1
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(folder / "masks" / "hand.png")
    return folder


@pytest.fixture
def made(folder: Path, drafted: Path) -> Path:
    shutil.copytree(drafted, folder, dirs_exist_ok=True)
    return folder


def make(folder: Path, **options: Any) -> MaskingResult:
    """`frisket masks make`, in this process."""
    maskgen = MaskGeneration.model_validate({"workers": 1, **options.pop("maskgen", {})})
    return make_masks(MaskRequest(folder=folder / "clips", maskgen=maskgen, **options))


def doubt(path: Path) -> None:
    """Make a record say that its mask is unsure."""
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"status": "unsure", "confidence": 0.3}))


def set_id(client: TestClient) -> str:
    return str(client.get("/api/workspace").json()["sets"][0]["id"])


def queue_of(client: TestClient) -> dict[str, dict[str, Any]]:
    answer = client.get(f"/api/sets/{set_id(client)}/queue?anew=true").json()
    return {entry["name"]: entry for entry in answer["entries"]}


def test_the_worst_first_and_verdicts_count(made: Path, client: TestClient) -> None:
    doubt(made / "masks" / "ada.json")
    answer = client.get(f"/api/sets/{set_id(client)}/queue").json()
    assert [entry["name"] for entry in answer["entries"]] == ["sky", "ada", "hand"]
    assert [entry["status"] for entry in answer["entries"]] == ["unsure", "unsure", "hand"]
    entries = queue_of(client)
    assert entries["ada"]["confidence"] == 0.3
    assert entries["ada"]["look"]
    address = f"/api/sets/{set_id(client)}/verdicts"
    (ada,) = (clip for clip in find_clips(made) if clip.name == "ada")
    assert is_unsure(ada)
    ids = [entries["ada"]["id"], entries["sky"]["id"], entries["hand"]["id"]]
    answer = client.post(address, json={"ids": ids, "verdict": "accepted"}).json()
    assert answer["judged"] == ids[:1]
    assert "no mask" in answer["refused"][ids[1]]
    assert "by hand" in answer["refused"][ids[2]]
    assert not is_unsure(ada)
    assert queue_of(client)["ada"]["verdict"] == "accepted"
    assert not queue_of(client)["ada"]["look"]
    undone = client.post(address, json={"ids": ids[:1], "verdict": "accepted", "undo": True})
    assert undone.json()["judged"] == ids[:1]
    assert is_unsure(ada)
    client.post(address, json={"ids": ids[:1], "verdict": "rejected"})
    assert is_unsure(ada)
    assert "rejected" in queue_of(client)["ada"]["look"][0]
    sure = client.post(address, json={"above": 0.5, "verdict": "accepted"}).json()
    assert sure["judged"] == []
    for wrong in ({"verdict": "fine"}, {"above": 2, "verdict": "accepted"}, {"ids": ["x" * 99]}):
        assert client.post(address, json=wrong).status_code == 422
    assert client.post(address, json={"ids": ["no"], "verdict": "accepted"}).status_code == 404


def find_clips(folder: Path) -> Any:
    return find(folder / "clips", masks="folder", folders={"": folder / "masks"}).clips


def test_an_accepted_mask_is_kept_under_other_settings(made: Path) -> None:
    assert judge_masks(made / "clips", "accepted", names=["ada"]).judged == ["ada"]
    before = (made / "masks" / "ada.png").read_bytes()
    grown = {"maskgen": {"cleanup": {"grow": 9}}, "only": ("ada",)}
    assert make(made, **grown).counts == {"accepted, kept": 1}
    assert (made / "masks" / "ada.png").read_bytes() == before
    judge_masks(made / "clips", "accepted", names=["ada"], undo=True)
    assert make(made, **grown).counts["done"] == 1
    assert (made / "masks" / "ada.png").read_bytes() != before
    made_record = record.load(made / "masks" / "ada.json")
    assert made_record is not None
    assert made_record.verdict is None
    result = judge_masks(made / "clips", "accepted", above=0.0)
    assert "ada" in result.judged
    assert "hand" not in result.judged
    with pytest.raises(BadMaskOption, match="'adda'"):
        judge_masks(made / "clips", "accepted", names=["adda"])
    with pytest.raises(BackendUnusable, match="--only adda"):
        make(made, only=("adda",))


def test_the_form_is_the_model_and_paths_never_come_from_the_page(made: Path) -> None:
    plan = plan_of(Workspace(made).list_sets()[0])
    fields = {field["name"]: field for field in describe_form(plan)["fields"]}
    assert fields["cleanup.threshold"]["kind"] == "number"
    assert fields["combine"]["choices"][0] == "union"
    assert fields["backends"]["kind"] == "list"
    assert not {"output", "brush", "sources", "prompts.rules", "people.like"} & set(fields)
    call = build_call(plan, {"prompts.phrases": 'a "red" hat; \u00e9', "cleanup.grow": 2.5})
    words = call.spell("cpu")
    assert words[:3] == ["masks", "make", str(made / "clips")]
    assert f"--output={made / 'masks'}" in words
    assert '--set=maskgen.prompts.phrases="a \\"red\\" hat; \u00e9"' in words
    for name, value in {
        "output": "/etc",
        "sources.sam2": "/",
        "prompts.captions": "/etc/passwd",
        "nonsense": 1,
        "cleanup.threshold": 7,
        "backends": [],
    }.items():
        with pytest.raises(BadMaking):
            build_call(plan, {name: value})


def test_a_run_is_a_job_and_a_redo_is_of_one_clip(made: Path, client: TestClient) -> None:
    address = f"/api/sets/{set_id(client)}/making"
    form = client.get(address).json()
    assert "draft" in {backend["name"] for backend in form["backends"]}
    planned = client.post(f"{address}/plan", json={"options": {"cleanup.grow": 3}}).json()
    assert planned.get("counts", planned) == {"by hand, kept": 1, "to make": 2}
    ada = queue_of(client)["ada"]
    before = (made / "masks" / "ada.png").read_bytes()
    sky = (made / "masks" / "sky.json").read_bytes()
    body = {"options": {"cleanup.grow": 3}, "ids": [ada["id"]], "again": True}
    job = client.post(address, json=body).json()["job"]
    deadline = time.monotonic() + 120
    state = ""
    while state not in ("finished", "failed"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
        jobs = client.get("/api/jobs").json()["jobs"]
        state = next(each["state"] for each in jobs if each["id"] == job)
    assert state == "finished"
    assert (made / "masks" / "ada.png").read_bytes() != before
    assert (made / "masks" / "sky.json").read_bytes() == sky
    for wrong in ({"options": {"../x": 1}}, {"options": {"brush": "/etc"}}, {"ids": ["?"]}):
        assert client.post(address, json=wrong).status_code in (404, 422)


def test_damaged_records_are_entries(made: Path, client: TestClient) -> None:
    (made / "masks" / "ada.json").write_text("{")
    assert queue_of(client)["ada"]["status"] == "broken"
    shutil.rmtree(made / "masks")
    assert {entry["status"] for entry in queue_of(client).values()} == {"unmade"}
