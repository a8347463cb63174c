"""Defects of SimpleTuner are told, and bad files are refused with place and fix."""

import pytest
from tests.importers.trainers.simpletuner import files
from tests.importers.trainers.simpletuner.files import TEXTS, images, masks

from frisket.importers.base import BadImport

clips, imported = files.clips, files.imported


# Defects, as the research pages name them.


def test_defect_masks_stop_at_video(clips, imported, notes):
    done = imported([images(dataset_type="video", conditioning_data="masks"), masks()])
    kinds = {note.kind: note.message for note in notes(done)["[1].conditioning_type"]}
    assert "stops at video" in kinds["defect"]


def test_defect_the_probability_counts_for_segmentation_alone(clips, imported, notes, tmp_path):
    imported([images(conditioning_data="masks"), masks()])
    flags = {"data_backend_config": "multidatabackend.json", "masked_loss_probability": 0.5}
    done = imported(flags, "config.json")
    assert done.sections["curve"] == {"unmasked_probability": 0.5}
    assert "defect" in [note.kind for note in notes(done)["masked_loss_probability"]]


def test_defect_masks_beside_references_may_be_the_reference(clips, drawn, imported, notes):
    drawn("edits", "a_b.png")
    edits = masks("reference_strict", id="edits", instance_data_dir="edits")
    done = imported([images(conditioning_data=["edits", "masks"]), edits, masks()])
    kinds = [note.kind for note in notes(done)["[0].conditioning_data"]]
    assert sorted(kinds) == ["defect", "mapped"]


def test_defect_segmentation_is_not_documented(clips, imported, notes):
    done = imported([images(conditioning_data="masks"), masks("segmentation")])
    assert "defect" in [note.kind for note in notes(done)["[1].conditioning_type"]]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([images(instance_data_dir="gone")], "'gone' is not there"),
        ([images(conditioning_data="nobody")], "no conditioning set has the id 'nobody'"),
        ([images(caption_strategy="instanceprompt")], "instance_prompt: is needed"),
        ([images(repeats=-1)], "line 8: [0].repeats = -1"),
        ([TEXTS], "no data set in local files"),
        ([images(dataset_type="imgae")], "did you mean 'image'"),
        ([images(disabled=True)], "no data set in local files"),
        ([images(type="huggingface")], "download 'subject' (huggingface) to a folder"),
    ],
)
def test_bad_files_are_refused_with_place_and_fix(clips, imported, tree, said):
    with pytest.raises(BadImport, match=r"multidatabackend\.json") as error:
        imported(tree)
    assert said in str(error.value)
