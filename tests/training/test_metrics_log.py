"""Metrics: valid JSON whatever happens, no line twice after a resume, trackers checked early."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker

from frisket.training.metrics_log import (
    BadMetricsLog,
    MetricsLog,
    MissingTracker,
    open_trackers,
    read,
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_is_on_disk_at_once_and_says_step_and_seconds(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "metrics.jsonl"
    with MetricsLog(path) as record:
        record.write(1, {"loss": 0.5, "name": "größe", "inside": {"face": 0.25}, "t": [0.1, 0.9]})
        (line,) = lines(path)
    assert line.pop("seconds") >= 0
    assert line == {
        "step": 1,
        "loss": 0.5,
        "name": "größe",
        "inside": {"face": 0.25},
        "t": [0.1, 0.9],
    }


def test_what_is_not_finite_becomes_null_and_is_named(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as record:
        record.write(1, {"loss": math.nan, "inside": {"face": math.inf, "hair": 1.0}})
    text = (tmp_path / "m.jsonl").read_text()
    (line,) = [json.loads(text, parse_constant=pytest.fail)]
    assert line["loss"] is None
    assert line["inside"] == {"face": None, "hair": 1.0}
    assert line["nonfinite"] == ["loss", "inside.face"]


def test_scalars_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as record:
        record.write(1, {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": np.int64(3)})
    (line,) = lines(tmp_path / "m.jsonl")
    assert (line["a"], line["b"], line["c"]) == (0.5, 2.0, 3.0)


def test_a_resume_cuts_what_lies_beyond_its_step(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsLog(path) as record:
        for step in range(1, 8):
            record.write(step, {"loss": float(step)})
    with path.open("a") as file:
        file.write('{"step": 8, "los')  # killed while writing
    with MetricsLog(path, step=4) as record:
        assert record.mean("loss") == 2.5
        record.write(5, {"loss": 50.0})
    assert [(line["step"], line["loss"]) for line in lines(path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 4.0),
        (5, 50.0),
    ]
    seconds = [line["seconds"] for line in lines(path)]
    assert seconds == sorted(seconds)
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_wall_time_goes_on_over_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 3, "seconds": 1000.0}\n')
    with MetricsLog(path, step=3) as record:
        assert 1000 <= record.seconds < 1010


def test_a_new_run_keeps_the_metrics_of_the_one_before(tmp_path: Path) -> None:
    for run in range(3):
        with MetricsLog(tmp_path / "metrics.jsonl") as record:
            record.write(1, {"run": run})
    found = {p.name: lines(p)[0]["run"] for p in tmp_path.iterdir()}
    assert found == {"metrics.1.jsonl": 0, "metrics.2.jsonl": 1, "metrics.jsonl": 2}


@pytest.mark.parametrize("broken", ["{oops", "[1, 2]", '{"step": 1}', "7"])
def test_a_damaged_line_is_named_and_nothing_lost(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "m.jsonl"
    text = '{"step": 1, "seconds": 0.1}\n' + broken + '\n{"step": 3, "seconds": 0.3}\n'
    path.write_text(text)
    with pytest.raises(BadMetricsLog, match=r"m\.jsonl, line 2 is not a line of metrics"):
        MetricsLog(path, step=3)
    assert path.read_text() == text
    path.write_text('{"step": 1, "seconds": 0.1}\n{"step"')
    assert [line["step"] for line in read(path)] == [1]


def test_the_mean_is_of_the_last_finite_values(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl", window=3) as record:
        assert math.isnan(record.mean("loss"))
        for step, loss in enumerate([100.0, 1.0, math.nan, 2.0, 6.0], 1):
            record.write(step, {"loss": loss, "inside": {"face": 2 * loss}, "clip": "a"})
        assert record.mean("loss") == 3
        assert record.mean("inside/face") == 6
        assert math.isnan(record.mean("clip"))


class Listed(GeneralTracker):  # type: ignore[misc]
    """A tracker of the public kind that keeps what it is told."""

    name = "listed"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int | None, dict[str, float]]] = []
        self.finished = False

    @property
    def tracker(self) -> object:
        return self.told

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_trackers_get_the_finite_numbers_by_flat_name(tmp_path: Path) -> None:
    tracker = Listed()
    with MetricsLog(tmp_path / "m.jsonl", trackers=[tracker]) as record:
        record.write(7, {"loss": 1.0, "lr": math.inf, "at": {"face": 2}, "clip": "a", "ok": True})
    assert tracker.told == [(7, {"loss": 1.0, "at/face": 2.0})]
    assert tracker.finished


def test_a_tracker_that_is_not_installed_stops_before_training(tmp_path: Path) -> None:
    absent = next(name for name in ("trackio", "wandb", "tensorboard") if not installed(name))
    with pytest.raises(MissingTracker, match=rf'pip install "frisket\[{absent}\]"'):
        open_trackers([absent], project="p", folder=tmp_path, settings={})
    with pytest.raises(MissingTracker, match="no tracker is named 'csv'"):
        open_trackers(["csv"], project="p", folder=tmp_path, settings={})
    assert open_trackers([], project="p", folder=tmp_path, settings={}) == []
    assert list(tmp_path.iterdir()) == []


def installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


class Broken(GeneralTracker):
    """A tracker whose server is gone."""

    name = "broken"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    @property
    def tracker(self) -> None:
        return None

    def log(self, values: dict[str, float], step: int | None = None, **_: object) -> None:
        self.asked += 1
        raise ConnectionError("no route to host")

    def finish(self) -> None:
        raise ConnectionError("no route to host")


def test_a_tracker_that_fails_is_left_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Broken()
    with MetricsLog(tmp_path / "metrics.jsonl", trackers=[tracker]) as record:
        for step in (1, 2, 3):
            record.write(step, {"loss": 1.0})
    assert tracker.asked == 1
    assert caplog.text.count("the tracker broken failed at step 1 (ConnectionError") == 1
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_lines_wait_for_a_disk_that_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = MetricsLog(tmp_path / "metrics.jsonl")
    record.write(1, {"loss": 1.0})
    disk = record._file
    with Path("/dev/full").open("ab", buffering=0) as full:
        record._file = full
        for step in (2, 3):
            record.write(step, {"loss": 1.0})
    record._file = disk
    record.write(4, {"loss": 1.0})
    record.close()
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert caplog.text.count("No space left on device") == 1
    assert "the 3 lines that waited are written" in caplog.text
