"""Defects of OneTrainer are told, and bad files are refused with place and fix."""

import pytest
from tests.importers.trainers.onetrainer import files
from tests.importers.trainers.onetrainer.files import concept, config

from frisket.importers.base import BadImport

clips, imported = files.clips, files.imported


# Defects, as the research pages name them.


@pytest.mark.parametrize(
    ("options", "option", "said"),
    [
        ({"normalize_masked_area_loss": True}, "normalize_masked_area_loss", "every column"),
        ({"normalize_masked_area_loss": True}, "normalize_masked_area_loss", "NaN"),
        ({"masked_prior_preservation_weight": 1}, "masked_prior_preservation_weight", "NaN"),
        ({"masked_prior_preservation_weight": 1}, "masked_prior_preservation_weight", "validation"),
        ({"unmasked_probability": 0.2}, "unmasked_probability", "does nothing there"),
        ({}, "masked_training", "clear_cache_before_training"),
        ({"model_type": "HUNYUAN_VIDEO"}, "masked_training", "without a mask stops it"),
    ],
)
def test_defects_are_told(clips, imported, notes, options, option, said):
    told = notes(imported(config(**options)))[option]
    assert any(note.kind == "defect" and said in note.message for note in told)


def test_of_a_model_that_is_shown_the_mask_no_loss_is_masked(clips, imported, notes):
    done = imported(config(model_type="FLUX_FILL_DEV_1", unmasked_probability=0.2))
    assert "curve" not in done.sections
    assert "masks" not in done.data[0]
    (note,) = notes(done)["masked_training"]
    assert note.kind == "no equivalent"
    assert "no loss is masked there" in note.message


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (config(concepts=[concept("C:\\data\\nowhere")]), "'C:\\\\data\\\\nowhere' is not there"),
        (config(concepts=[concept("empty")]), "holds no image or video"),
        (config(concepts=[]), "no concept is enabled"),
        (config(concepts=3), "a list of concepts is needed"),
        (config(resolution="large"), "512,768 or 1024x768"),
        (config(batch_size="two"), "line 14: batch_size = 'two': a number of at least 1"),
        (config(concepts=[concept("set", type="SOMETHING")]), "no such choice"),
    ],
)
def test_bad_files_are_refused_with_place_and_fix(clips, drawn, imported, tree, said):
    drawn("empty")
    with pytest.raises(BadImport, match=r"config\.json") as error:
        imported(tree)
    assert said in str(error.value)
