"""The benchmarks of ControlNets and of edits: their scores on drawn pictures, tables and claims."""

from pathlib import Path

import numpy as np
from benchmarks.control import consistency, pose, tables
from benchmarks.control.scenes import AWAY, PLACE, list_scenes, place_creature, place_creature_away
from benchmarks.edit import __main__ as edit_tables
from benchmarks.edit import cases
from benchmarks.edit.rows import measure_clip
from benchmarks.effects.cells import run_cell

from frisket.pocket.world import draw, is_held_out

NOTHING = np.zeros((1, 32, 32, 3), np.uint8)


def put_cell(out: Path, part: str, name: str, seed: int, **scores: float) -> None:
    run_cell(out, part, name, seed, (), lambda: (scores, NOTHING))


def test_drawn_creatures_are_found_where_they_stand() -> None:
    rng = np.random.RandomState(0)
    scenes = [place_creature(rng) for _ in range(6)]
    found, centres = pose.measure_places(np.stack([draw(scene)[0] for scene in scenes]))
    assert found.all()
    assert (np.hypot(*(centres - pose.find_trained_centre()).T) < 1.5).all()
    away = [place_creature_away(rng) for _ in range(6)]
    assert all(np.hypot(s.x - PLACE[0], s.y - PLACE[1]) >= AWAY for s in away)
    _, centres = pose.measure_places(np.stack([draw(scene)[0] for scene in away]))
    assert (np.hypot(*(centres - pose.find_trained_centre()).T) > pose.NEAR).all()


def test_a_drawn_scene_keeps_its_own_control() -> None:
    scenes = list_scenes(np.random.RandomState(0), 4, held_out=True)
    assert all(map(is_held_out, scenes))
    pictures = np.stack([draw(scene)[0] for scene in scenes])
    right = consistency.measure_control(pictures, scenes)
    wrong = consistency.measure_control(pictures[::-1].copy(), scenes)
    assert right["control"] < 0.005  # of 8 bits
    assert wrong["control"] > 0.05


def test_the_truth_of_an_edit_has_no_error() -> None:
    case = cases.list_cases(0)[0]
    scores = measure_clip(case.truth, case)
    assert scores["outside"] == scores["box_ground"] == scores["subject"] == 0
    assert scores["colour"] > 0.9
    unedited = measure_clip(case.source, case)
    assert unedited["outside"] == 0
    assert unedited["subject"] > 30
    assert unedited["colour"] == 0


def test_claims_are_of_every_seed(tmp_path: Path) -> None:
    for seed, near in enumerate((0.3, 0.4)):
        for name, more in (("plain", 0.3), ("control", 0.0), ("control-all", -0.1)):
            scores = {"found": 0.9, "near": near + more, "spread": 2, "found_under": 1, "miss": 2}
            put_cell(tmp_path, "pose", name, seed, **(scores | {"miss": 2 + more}))
    text = tables.build(tmp_path, (0, 1))
    assert "Claim 1 holds: near 0.35 against 0.65." in text
    assert "Claim 2 holds" in text
    assert "Claim 3 holds" in text
    assert text.count("Not run.") == 2
    put_cell(tmp_path, "pose", "plain", 2, found=0.9, near=0.1, spread=2, found_under=1, miss=1)
    assert "Claim 1 holds" in tables.build(tmp_path, (0, 1, 2))  # of the seeds that all rows have
    put_cell(tmp_path, "pose", "control", 2, found=0.9, near=0.2, spread=2, found_under=1, miss=2)
    put_cell(
        tmp_path, "pose", "control-all", 2, found=0.9, near=0.1, spread=2, found_under=1, miss=2
    )
    assert "Claim 1 does not hold" in tables.build(tmp_path, (0, 1, 2))


def test_edits_are_judged_only_when_all_rows_are_there(tmp_path: Path) -> None:
    scores = {"outside": 2.0, "box_ground": 10.0, "subject": 20.0, "colour": 0.8}
    for name, outside in (("base", 2.0), ("plain", 3.0), ("edit", 1.0)):
        put_cell(tmp_path, "edit", name, 0, **(scores | {"outside": outside}))
    assert "Claim" not in edit_tables.build(tmp_path, (0,))
    put_cell(tmp_path, "edit", "mask-only", 0, **(scores | {"outside": 0.5}))
    text = edit_tables.build(tmp_path, (0,))
    assert "Claim 1 holds: outside 1.00 against 3.00." in text
    assert "Claim 4 does not hold" in text


def test_a_scrolling_background_moves_in_source_and_truth_alike() -> None:
    case = cases.list_cases(0, 2.0)[0]
    ground = ~case.boxes.any(0)
    assert np.array_equal(case.source[:, ground], case.truth[:, ground])
    assert not np.array_equal(case.source[0][ground], case.source[1][ground])
    assert case.scene.background.pattern != "wall"
