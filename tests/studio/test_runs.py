"""Runs as the page finds, shows and compares them; what it may not be shown."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.studio.pocket_runs import make_runs

from frisket.studio.jobs.queue import JobQueue
from frisket.studio.runs.artefacts import name_token
from frisket.studio.runs.index import RunIndex, name_id
from frisket.studio.runs.metrics_tail import StepTail


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "work"
    make_runs(root)
    return root


@pytest.fixture
def folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs, opened: a test may harm it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "work"
    shutil.copytree(base, root, ignore=shutil.ignore_patterns("cache"))
    # A report names its runs by their folders.
    report = root / "runs" / "mask" / "evaluation" / "report.json"
    report.write_text(report.read_text().replace(str(base), str(root)))
    return root


@pytest.fixture
def queue(client: TestClient) -> Iterator[JobQueue]:
    """The queue of the studio; nothing of it is started here."""
    studio = client.app.state.studio  # type: ignore[attr-defined]
    studio.jobs = studio.jobs or JobQueue(studio.home, studio.root, studio.events.publish)
    yield studio.jobs
    studio.jobs.close()


def ids_of(folder: Path, *names: str) -> dict[str, list[str]]:
    return {"run": [name_id(folder / "runs" / name) for name in names]}


def test_runs_are_found_with_state_config_and_pages(client: TestClient, folder: Path) -> None:
    runs = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    assert set(runs) == {"runs/mask", "runs/plain"}
    mask = runs["runs/mask"]
    assert (mask["state"], mask["steps"], mask["of_steps"]) == ("finished", 4, 4)
    assert mask["config"] == "mask.toml"
    assert mask["family"] == "pocket"
    assert set(mask["pages"]) == {"run", "report"}
    assert mask["best"]["step"] in (2, 4)
    assert mask["best"]["error"] < mask["best"]["base"] * 2
    one = client.get(f"/api/runs/{mask['id']}").json()
    assert one["settings"]["optimizer"]["lr"] == 0.01
    assert client.get("/api/runs/" + "0" * 18).status_code == 404
    assert client.get("/api/runs/..%2f..").status_code in (404, 422)


def test_a_run_stopped_one_killed_and_one_at_work_are_told_apart(folder: Path) -> None:
    index = RunIndex(folder, lambda: [])
    mask = folder / "runs" / "mask"
    (mask / "lora.safetensors").unlink()
    assert index.get(name_id(mask)).state == "stopped"  # its last step is in a checkpoint
    with (mask / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "seconds": 3.0, "loss": 1.0}\n{"step": 10, "sec')
    run = index.get(name_id(mask))
    assert (run.state, run.steps) == ("failed", 9)
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from frisket.training.lock import lock_folder\n"
        "with lock_folder(Path(sys.argv[1])):\n print('locked', flush=True)\n time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(mask)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "locked\n"
    assert index.get(name_id(mask)).state == "running"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert index.get(name_id(mask)).state == "failed"  # the lock's file is still there


def test_metrics_are_followed_from_where_they_ended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = StepTail(path)
    tail.refresh()
    assert tail.step == 0
    path.write_text('{"step": 1, "seconds": 0.5}\n{"step": 2, "sec')
    tail.refresh()
    assert (tail.step, tail.seconds) == (1, 0.5)
    with path.open("a") as file:
        file.write('onds": 1.5}\nno json\n')
    tail.refresh()
    assert tail.step == 1  # the last whole line is none of metrics: what was known stays
    scores = {"base": {"loss/face": 2.0}, "tuned": {"loss/face": 1.0, "loss/outside": 0.0}}
    with path.open("a") as file:
        file.write(json.dumps({"step": 3, "seconds": 2, "validation": scores}) + "\n")
    tail.refresh()
    assert tail.best is not None
    assert (tail.best.step, tail.best.error, tail.best.base) == (3, 1.0, 2.0)
    path.write_text('{"step": 1, "seconds": 0.1}\n')  # begun anew
    tail.refresh()
    assert (tail.step, tail.best) == (1, None)


def test_settings_masks_and_clips_that_differ_are_named(client: TestClient, folder: Path) -> None:
    answer = client.get("/api/compare/settings", params=ids_of(folder, "mask", "plain")).json()
    rows = {row["key"]: row["values"] for row in answer["rows"]}
    assert rows["optimizer.lr"] == ["0.01", "0.005"]
    assert rows["data.0.masks.source"] == ["folder", "none"]
    assert "lora.rank" not in rows
    assert "run.output" not in rows
    clips = answer["clips"]
    assert clips["counts"]["mask"] == clips["clips"][0]
    assert clips["masked"][1] == 0
    (folder / "runs" / "plain" / "clips.json").unlink()
    answer = client.get("/api/compare/settings", params=ids_of(folder, "mask", "plain")).json()
    assert answer["clips"]["lacking"] == ["runs/plain"]


def test_samples_of_equal_prompt_and_seed_share_a_row(
    client: TestClient, folder: Path, base: Path
) -> None:
    answer = client.get("/api/compare/samples", params=ids_of(folder, "mask", "plain")).json()
    for preview in answer["previews"]:
        assert [step["step"] for step in preview["steps"]] == [2, 4]
        assert (preview["prompts"], preview["seeds"]) == (["sks"], [0, 1])
    generated = answer["generated"]
    assert [column["title"] for column in generated["columns"]] == [
        "base",
        "runs/mask",
        "runs/plain",
    ]
    assert [(row["prompt"], row["seed"]) for row in generated["rows"]] == [("sks", 0), ("sks", 1)]
    for row in generated["rows"]:
        for cell in row["cells"]:
            picture = client.get(cell["url"])
            assert picture.headers["content-type"] == "image/png"
            assert picture.content.startswith(b"\x89PNG")
    called = folder / "generated" / "001"  # the page's own, newer
    shutil.copytree(folder / "runs" / "plain" / "samples" / "001", called)
    again = client.get("/api/compare/samples", params=ids_of(folder, "mask", "plain")).json()
    assert (
        again["generated"]["rows"][0]["cells"][2]["url"] == generated["rows"][0]["cells"][2]["url"]
    )
    record = called / "generate.json"
    record.write_text(record.read_text().replace(str(base), str(folder)))
    again = client.get("/api/compare/samples", params=ids_of(folder, "mask", "plain")).json()
    cell = again["generated"]["rows"][0]["cells"][2]
    assert cell["url"].startswith("/api/generated/001/file/")
    assert client.get(cell["url"]).status_code == 200
    evaluation = answer["evaluation"]
    assert [column["title"] for column in evaluation["columns"]] == ["base", "mask", "plain"]
    assert [row["unrelated"] for row in evaluation["rows"]] == [False, False, True]
    assert client.get(evaluation["rows"][2]["cells"][0]["url"]).status_code == 200


def test_the_verdict_is_of_the_numbers_that_were_measured(
    client: TestClient, folder: Path, queue: JobQueue
) -> None:
    runs = ids_of(folder, "plain", "mask")
    report = client.get("/api/compare/report", params=runs).json()["report"]
    assert [run["name"] for run in report["runs"]] == ["plain", "mask"]  # as they were chosen
    assert report["comparison"]["sentence"]
    assert {pair["metric"] for pair in report["comparison"]["pairs"]} >= {"gain/inside", "drift"}
    assert report["metrics"][0]["title"] == "learnt inside"
    assert report["stale"] == []
    later = time.time() + 60
    os.utime(folder / "runs" / "mask" / "lora.safetensors", (later, later))
    report = client.get("/api/compare/report", params=runs).json()["report"]
    assert report["stale"] == ["runs/mask"]
    shutil.rmtree(folder / "runs" / "mask" / "evaluation")
    assert client.get("/api/compare/report", params=runs).json()["report"] is None
    form = {"runs": runs["run"], "prompts": ["--strict"], "seeds": 2, "dry": True}
    answer = client.post("/api/compare/evaluate", json=form).json()
    assert answer["job"] is None
    assert answer["command"].startswith(f"frisket evaluate {folder}/runs/plain {folder}/runs/mask")
    assert " --prompt=--strict" in answer["command"]  # a value, and no option
    assert client.post("/api/compare/evaluate", json=form | {"seeds": 0}).status_code == 422
    assert client.post("/api/compare/evaluate", json=form | {"shell": "x"}).status_code == 422
    wrong = client.post("/api/compare/evaluate", json=form | {"prompts": ["a\nb"]})
    assert "line break" in wrong.json()["error"]


def test_reports_are_sandboxed_and_carry_their_pictures(client: TestClient, folder: Path) -> None:
    runs = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    for kind in ("run", "report"):
        page = client.get(runs["runs/mask"]["pages"][kind])
        policy = page.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts; default-src 'none'")
        assert "allow-same-origin" not in policy
        assert 'http-equiv="refresh"' not in page.text
        assert 'src="previews/' not in page.text
        assert 'src="data:image/' in page.text


def test_no_token_leads_out_of_the_folder(client: TestClient, folder: Path) -> None:
    runs = {run["name"]: run for run in client.get("/api/runs").json()["runs"]}
    mask = folder / "runs" / "mask"
    secret = folder / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    (mask / "previews" / "link.png").symlink_to(secret)
    address = f"/api/runs/{runs['runs/mask']['id']}/file/"
    for place in (
        "previews/link.png",
        "../../secret.png",
        "/etc/passwd",
        "trained.toml",
        "checkpoints/step-00000004/state.pt",
        "previews/../../../secret.png",
    ):
        assert client.get(address + name_token(place)).status_code == 404, place
    for token in ("0" * 18, "x", "..%2f..%2fsecret.png", "%00"):
        assert client.get(address + token).status_code in (404, 422), token
    # A folder on the way that has become a link since the token was given.
    good = address + name_token("previews/step-000002.png")
    assert client.get(good).status_code == 200
    (mask / "previews").rename(folder / "elsewhere")
    (mask / "previews").symlink_to(folder / "elsewhere")
    assert client.get(good).status_code == 404


def test_a_hostile_report_is_text_and_never_a_traceback(client: TestClient, folder: Path) -> None:
    evaluation = folder / "runs" / "mask" / "evaluation"
    params = ids_of(folder, "mask", "plain")
    for text in ("[]", "{", '{"runs": 5}', '{"runs": [{"folder": 3}]}', "9" * 5000):
        (evaluation / "report.json").write_text(text)
        assert client.get("/api/compare/report", params=params).json()["report"] is None
        assert client.get("/api/compare/samples", params=params).json()["evaluation"] is None
    record = folder / "runs" / "mask" / "samples" / "001" / "generate.json"
    record.write_text(
        '{"pictures": [{"file": "../../../secret.png", "prompt": 1, "seed": 0,'
        ' "width": 1, "height": 1, "frames": 1}, 5, {}], "lora": 3}'
    )
    answer = client.get("/api/compare/samples", params=params)
    titles = [column["title"] for column in answer.json()["generated"]["columns"]]
    assert titles == ["runs/plain"]
    (folder / "runs" / "mask" / "trained.toml").write_text("= nonsense")
    assert client.get("/api/compare/settings", params=params).json()["lacking"] == ["runs/mask"]
