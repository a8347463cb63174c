"""The presets' scenarios: what their metrics say of pictures and clips that are right or wrong."""

from pathlib import Path

import numpy as np
from benchmarks.effects.presets import motion, style

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
