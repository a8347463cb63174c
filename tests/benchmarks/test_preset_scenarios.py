"""The presets' scenarios: what their metrics say of pictures and clips that are right or wrong."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from benchmarks.effects.cells import Cell
from benchmarks.effects.presets import motion, style
from benchmarks.effects.presets.parts import build_parts

from frisket.media.frames import decode
from frisket.pocket.world import draw


def test_a_glazed_picture_has_the_look_and_keeps_what_it_shows() -> None:
    scenes = style.list_scenes()
    plain = np.stack([draw(scene)[0] for scene in scenes])
    glazed = np.stack([style.glaze(picture) for picture in plain])
    right = style.score_look(glazed, plain, scenes)
    assert right["look"] > 0.95
    assert right["content"] == right["shape"] == 1
    assert right["spill"] < 0.05
    wrong = style.score_look(plain, glazed, scenes[1:] + scenes[:1])
    assert wrong["look"] < 0.05
    assert wrong["content"] < 0.1
    assert wrong["spill"] > 0.95


def test_only_the_asked_motion_counts_and_only_of_what_was_asked() -> None:
    scenes = motion.list_scenes()
    clips = np.stack([motion.draw_clip(scene)[0] for scene in scenes])
    assert motion.score_clips(clips, scenes) == {"right": 1, "moves": 1, "kept": 1}
    still = np.repeat(clips[:, 2:3], motion.FRAMES, axis=1)
    assert motion.score_clips(still, scenes) == {"right": 0, "moves": 0, "kept": 1}
    assert motion.score_clips(clips[:, ::-1], scenes)["moves"] == 0
    assert motion.score_clips(clips, scenes[1:] + scenes[:1])["right"] < 0.2


def test_clips_of_a_seed_have_masks_and_captions(tmp_path: Path) -> None:
    style.make_clips(tmp_path / "style", 0)
    assert (tmp_path / "style/clips/7.txt").read_text().startswith("glz a ")
    motion.make_clips(tmp_path / "motion", 0)
    caption = (tmp_path / "motion/clips/7.txt").read_text()
    assert caption == "a diving red circle on white and blue stripes\n"
    assert len(list((tmp_path / "motion/paths").iterdir())) == motion.CLIPS
    assert decode(tmp_path / "motion/masks/0.mkv").shape[0] == motion.FRAMES


def write_cell(out: Path, name: str, seed: int, **scores: float) -> None:
    known = {"leak": 0.02, "fidelity": 15.0, "found": 1.0, "drift": 0.05}
    cell = Cell("one", name, seed, known | scores, 1.0, (), "0", "a machine")
    (out / "cells").mkdir(exist_ok=True)
    (out / f"{cell.place}.json").write_text(json.dumps(asdict(cell)), encoding="utf-8")


def test_a_part_that_is_taken_away_is_told_by_what_every_seed_says(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_cell(tmp_path, "swap", seed)
    write_cell(tmp_path, "no-prior", 0, drift=0.1, fidelity=15.2)
    write_cell(tmp_path, "no-prior", 1, drift=0.06, fidelity=14.6)
    lines = build_parts(tmp_path, (0, 1))
    (row,) = [line for line in lines if "`no-prior`" in line]
    assert row == "| no prior | `no-prior` | none | -0.10 dB | none | **x 1.60** | 2 |"
    assert any("`tlora`" in line and "not run" in line for line in lines)
