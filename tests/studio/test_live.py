"""A run as it trains: curves that hide nothing, spikes with their clips, a file that grows."""

import json
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from frisket.studio.live.curves import measure_axis, reduce_curves
from frisket.studio.live.graphics_cards import parse_cards
from frisket.studio.live.spikes import UsualErrors, find_spikes, list_step_clips, rank_clips
from frisket.studio.live.tail import MetricsColumns

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def write(path: Path, lines: Sequence[dict[str, Any]], mode: str = "w") -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def draw_lines(
    count: int, *, clip: str = "", at: int = -1, times: float = 8.0
) -> Iterator[dict[str, Any]]:
    """Steps of two clips whose error follows t; one clip of one step is `times` as hard."""
    generator = random.Random(3)
    for step in range(1, count + 1):
        clips = []
        for name in (f"c{step % 5}", clip if step == at else f"c{(step + 2) % 5}"):
            t = generator.random()
            error = (0.1 + t * t) * generator.uniform(0.95, 1.05)
            if step == at and name == clip:
                error *= times
            clips.append({"name": name, "t": t, "error": error, "item": 0})
        loss = sum(each["error"] for each in clips) / 2
        yield {"step": step, "seconds": step * 0.5, "loss": loss, "clips": clips}


def test_a_growing_file_is_read_on_and_a_rewritten_one_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsColumns(path)
    assert not tail.update()
    write(path, list(draw_lines(10)))
    assert tail.update()
    assert (len(tail.steps), tail.update()) == (10, False)
    with path.open("a") as file:
        file.write('{"step": 11, "seconds": 6, "lo')
    assert not tail.update()
    with path.open("a") as file:
        file.write(
            'ss": 0.5, "validation": {"tuned": {"inside": 0.2}}}\nnonsense\n[1]\n{"step": "x"}\n'
        )
    assert tail.update()
    assert (tail.steps[-1], tail.bad) == (11, 3)
    assert list(tail.series["validation/tuned/inside"].values) == [0.2]
    write(path, list(draw_lines(30))[:4])  # shorter: gone on from an earlier step
    assert tail.update()
    assert (list(tail.steps), tail.bad) == ([1, 2, 3, 4], 0)
    write(tmp_path / "other", list(draw_lines(40)))  # longer, and another file: begun anew
    (tmp_path / "other").replace(path)
    assert tail.update()
    assert len(tail.steps) == 40
    path.unlink()
    assert tail.update()
    assert len(tail.steps) == 0


def test_hostile_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        b'{"step": 1e400, "seconds": 0}',
        b'{"step": 1, "seconds": 1, "clips": [{"name": "a"}]}',
        b'{"step": 1, "seconds": 1, "clips": 7}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"step": 2, "seconds": ' + b" " * (5 << 20) + b"1}",  # a line of 5 MB
        b'{"step": 3, "seconds": 1, "loss": null,'
        b' "clips": [{"name": "a", "t": 0.5, "error": null}]}',
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    tail = MetricsColumns(path)
    tail.update()
    assert list(tail.steps) == [3]
    assert tail.bad == 6
    assert math.isnan(tail.series["loss"].values[0])
    assert list_step_clips(tail, 0)[0]["error"] is None


@pytest.mark.parametrize("buckets", [10, 37, 400])
def test_buckets_keep_every_extreme(tmp_path: Path, buckets: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, list(draw_lines(300, clip="c9", at=150)))
    tail = MetricsColumns(path)
    tail.update()
    curves = reduce_curves(tail, measure_axis(tail, "step", None), buckets)
    loss, values = curves["series"]["loss"], np.array(tail.series["loss"].values)
    assert len(curves["x"]) == min(buckets, 300)
    assert max(loss["max"]) == pytest.approx(values.max())
    assert min(loss["min"]) == pytest.approx(values.min())
    assert curves["x"] == sorted(curves["x"])
    sizes = np.histogram(measure_axis(tail, "step", None), bins=len(curves["x"]))[0]
    assert np.average(loss["mean"], weights=sizes) == pytest.approx(values.mean())
    assert measure_axis(tail, "epoch", 60.0)[-1] == pytest.approx(5.0)
    assert measure_axis(tail, "minutes", None)[-1] == pytest.approx(2.5)
    with pytest.raises(ValueError, match="how long its epochs"):
        measure_axis(tail, "epoch", None)


def test_a_spike_names_the_clip_that_made_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, list(draw_lines(200, clip="bad", at=120, times=20)))
    tail = MetricsColumns(path)
    tail.update()
    spike = find_spikes(tail)[0]
    assert (spike["step"], spike["why"]) == (120, "clip")
    assert spike["clips"][0]["name"] == "bad"
    assert spike["clips"][0]["times"] == pytest.approx(20, rel=0.35)
    assert spike["clips"][1]["times"] < 1.5
    assert spike["median"] < spike["value"]


def test_a_clip_of_little_noise_stands_out_in_a_loss_that_does_not(tmp_path: Path) -> None:
    lines = list(draw_lines(200))
    lines[119]["clips"][0] |= {"name": "bad", "t": 0.02, "error": 0.1 * 5}
    path = tmp_path / "metrics.jsonl"
    write(path, lines)
    tail = MetricsColumns(path)
    tail.update()
    (spike,) = find_spikes(tail)
    assert (spike["step"], spike["why"], spike["clips"][0]["name"]) == (120, "clip", "bad")


def test_a_high_noise_level_is_no_clips_fault(tmp_path: Path) -> None:
    lines = []
    generator = random.Random(5)
    for step in range(1, 301):  # nearly all draws are of little noise, a few of much
        t = 0.98 if step % 40 == 0 else generator.uniform(0, 0.1)
        error = (0.05 + 3 * t**8) * generator.uniform(0.95, 1.05)
        clip = {"name": f"c{step % 3}", "t": t, "error": error}
        lines.append({"step": step, "seconds": step, "loss": error, "clips": [clip]})
    path = tmp_path / "metrics.jsonl"
    write(path, lines)
    tail = MetricsColumns(path)
    tail.update()
    usual = UsualErrors.measure(tail)
    assert usual.interpolate(np.array([0.02]))[0] == pytest.approx(0.05, rel=0.1)
    spikes = find_spikes(tail)
    assert {spike["step"] % 40 for spike in spikes} == {0}
    assert not [
        spike for spike in spikes if spike["why"] == "clip" and spike["clips"][0]["times"] < 1.5
    ]


def test_a_clip_that_is_hard_at_every_noise_level_comes_first(tmp_path: Path) -> None:
    lines = list(draw_lines(400))
    for line in lines:
        for clip in line["clips"]:
            if clip["name"] == "c3":
                clip["error"] *= 2.5
    path = tmp_path / "metrics.jsonl"
    write(path, lines)
    tail = MetricsColumns(path)
    tail.update()
    first, second, *_ = rank_clips(tail)
    assert (first["name"], first["draws"]) == ("c3", 160)
    assert first["times"] > 2
    assert second["times"] < 1.2
    assert find_spikes(MetricsColumns(tmp_path / "none")) == []
    assert rank_clips(MetricsColumns(tmp_path / "none")) == []


def test_the_cards_are_what_the_driver_says() -> None:
    text = "NVIDIA GeForce RTX 3090, 24576, 1034, 7, 41\nTesla, T4, 15360, [N/A], [N/A], 33\n"
    first, second = parse_cards(text)
    assert (first.name, first.total_mib, first.busy_percent) == (
        "NVIDIA GeForce RTX 3090",
        24576,
        7,
    )
    assert (second.index, second.name, second.used_mib) == (1, "Tesla, T4", None)
    assert parse_cards("") == ()


def test_a_run_is_followed_while_it_trains(client: TestClient, folder: Path) -> None:
    for name in ("clips", "masks"):
        (folder / name).mkdir()
        for path in (PHOTOS / name).iterdir():
            (folder / name / path.name).write_bytes(path.read_bytes())
    text = (PHOTOS / "pocket.toml").read_text().replace("../../runs/photos-pocket", "run")
    (folder / "pocket.toml").write_text(text.replace("every = 50", "every = 2"))
    command = [sys.executable, "-m", "frisket.cli", "train", str(folder / "pocket.toml")]
    trainer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        run, seen = follow(client, steps=4)
    finally:
        trainer.send_signal(signal.SIGINT)
        trainer.wait(60)
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
    metrics = client.get(f"/api/runs/{run}/metrics").json()
    names = {
        "loss",
        "inside",
        "outside",
        "loss/face",
        "loss/body",
        "loss/hair",
        "lr",
        "step_seconds",
        "resident_mib",
    }
    assert names <= metrics["series"].keys()
    assert metrics["state"] == "stopped"
    assert client.get(f"/api/runs/{run}/metrics?x=epoch").json()["x"][-1] == metrics["steps"] / 2
    step = client.get(f"/api/runs/{run}/steps/2").json()
    assert len(step["clips"]) == 2
    for clip in step["clips"]:
        assert client.get(f"/api/clips/{clip['id']}").json()["name"] == clip["name"]
        assert len(clip["crop"]) == 4
        assert clip["masked"]
    watched = client.get(f"/api/runs/{run}/watch").json()
    assert dict(watched["banner"]["rows"])["with a mask"] == "2 of 2"
    assert [each["step"] for each in watched["previews"]["steps"]][:2] == [2, 4]
    assert watched["saved_step"] == metrics["steps"]
    assert client.get(f"/api/runs/{run}/spikes").json()["named"]
    assert len(client.get(f"/api/runs/{run}/hard-clips").json()["clips"]) == 2
    assert client.get(f"/api/runs/{run}/steps/99999").status_code == 404
    assert client.get("/api/runs/000000000000000000/metrics").status_code == 404
    assert client.get(f"/api/runs/{run}/metrics?buckets=100000").status_code == 422


def follow(client: TestClient, steps: int) -> tuple[str, list[int]]:
    """Ask until a run has so many steps; its id and the steps that were seen on the way."""
    seen: list[int] = []
    for _ in range(1200):
        for run in client.get("/api/runs").json()["runs"]:
            metrics = client.get(f"/api/runs/{run['id']}/metrics").json()
            seen.append(metrics["steps"])
            if metrics["steps"] >= steps:
                assert metrics["state"] == "running"
                return run["id"], seen
        time.sleep(0.1)
    raise AssertionError("the run made no steps")
