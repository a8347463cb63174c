"""Defects of ai-toolkit are told, and bad files are refused with place and fix."""

import pytest
from tests.importers.trainers.ai_toolkit import files
from tests.importers.trainers.ai_toolkit.files import job

from frisket.importers.base import BadImport

clips, imported = files.clips, files.imported


# Defects, as the research pages name them.


@pytest.mark.parametrize(
    ("options", "train", "option", "said"),
    [
        ({}, {}, "datasets[0].mask_path", "blurs masks"),
        ({}, {}, "datasets[0].mask_path", "no weight where others of its batch have one"),
        ({}, {}, "datasets[0].mask_path", "to NaN"),
        ({}, {}, "datasets[0].mask_path", "trains a batch whose mask does not fit without it"),
        ({}, {}, "datasets[0].mask_path", "stands still over a video"),
        ({"mask_min_value": 0.1}, {}, "datasets[0].mask_min_value", "contrast alone"),
        ({"buckets": False}, {}, "datasets[0].buckets", "stops without buckets"),
        ({}, {"inverted_mask_prior": True}, "train.inverted_mask_prior", "first clip's mask"),
        (
            {"caption_dropout_rate": 0.1, "cache_text_embeddings": True},
            {},
            "datasets[0].caption_dropout_rate",
            "before August 2026 (ab5fef89) no caption was left out",
        ),
    ],
)
def test_defects_are_told(clips, imported, notes, options, train, option, said):
    row = {"folder_path": "clips", "mask_path": "masks", **options}
    told = notes(imported(job(row, train=train)))[f"config.process[0].{option}"]
    assert any(note.kind == "defect" and said in note.message for note in told)


def test_masks_of_clips_in_sub_folders_are_told(drawn, imported, notes):
    drawn("clips", "sub/a.png", caption="x")
    drawn("masks", "a.png", mode="L")
    done = imported(job({"folder_path": "clips", "mask_path": "masks"}))
    kinds = [note.kind for note in notes(done)["config.process[0].datasets[0].mask_path"]]
    assert "no equivalent" in kinds


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ("job: x\nconfig:\n  process: [\n", "line 4, column 1"),
        (job({"folder_path": "gone"}), "line 7: config.process[0].datasets[0].folder_path"),
        (job({"folder_path": "clips", "resolution": "big"}), "resolution = 'big'"),
        (job({"folder_path": "clips", "flip_x": "maybe"}), "true or false is needed"),
        (job(), "at least one is needed"),
        ({"job": "x", "config": {"name": "x", "process": [{"type": "x"}]}}, "none of them has"),
        ("- 1\n", "a table of options is needed"),
        ("", "is empty"),
    ],
)
def test_bad_files_are_refused_with_place_and_fix(clips, imported, tree, said):
    with pytest.raises(BadImport, match=r"job\.yaml") as error:
        imported(tree)
    assert said in str(error.value)


@pytest.mark.parametrize(("least", "told"), [(1.0, False), (1.5, True)])
def test_a_mask_min_value_of_one_is_no_mask_and_above_it_is_told(
    clips, imported, notes, least, told
):
    done = imported(job({"folder_path": "clips", "mask_path": "masks", "mask_min_value": least}))
    assert done.sections["curve"] == {"floor": 1.0}
    said = notes(done)["config.process[0].datasets[0].mask_min_value"]
    assert any("turn the mask around" in note.message for note in said) == told
