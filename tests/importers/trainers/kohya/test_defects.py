"""Defects of sd-scripts are told, and bad files are refused with place and fix."""

import numpy as np
import pytest
from tests.importers.trainers.kohya import files
from tests.importers.trainers.kohya.files import config_of, draw, found_by, notes_of

from frisket.importers.base import BadImport
from frisket.importers.trainers.kohya.read import FORMAT

write, photos, everything = files.write, files.photos, files.everything


# One test a defect of sd-scripts, as in the research pages (1.7).


def test_defect_masks_on_the_command_line_alone_were_never_read(photos, write):
    draw(photos / "train" / "1_x" / "a.png")
    text = 'train_data_dir = "train"\nconditioning_data_dir = "masks"\nmasked_loss = true\n'
    imported = FORMAT.read(write(text + "resolution = 64\n"))
    assert "trained without masks" in notes_of(imported, "defect")["conditioning_data_dir"].message
    data = config_of(imported).data[0]
    assert found_by(data, photos)[0].masks[""] == photos / "masks" / "a.png"
    assert imported.sections["losses"] == {"compat": "kohya"}


def test_defect_masked_loss_without_any_mask(photos, write):
    draw(photos / "train" / "1_x" / "a.png")
    text = 'train_data_dir = "train"\nresolution = 64\nmasked_loss = true\n'
    imported = FORMAT.read(write(text))
    assert "no data set has masks" in notes_of(imported, "defect")["masked_loss"].message
    assert "losses" not in imported.sections


def test_defect_masks_squashed_to_the_bucket(everything):
    said = notes_of(FORMAT.read(everything), "defect")
    mask = said["datasets[0].subsets[0].conditioning_data_dir"].message
    assert "it squashes a mask to the bucket" in mask


def test_defect_cached_alpha_that_cannot_be_switched_off(photos, write):
    np.savez(photos / "cats" / "a_sdxl.npz", latents=np.zeros(1), alpha_mask=np.ones(4))
    text = '[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = "cats"\n'
    imported = FORMAT.read(write(text))
    assert (
        "goes on applying"
        in notes_of(imported, "defect")["datasets[0].subsets[0].alpha_mask"].message
    )
    assert "masks" not in imported.data[0]


def test_defect_alpha_is_ignored_by_the_full_training_of_sdxl(everything):
    said = notes_of(FORMAT.read(everything), "defect")["datasets[0].subsets[1].alpha_mask"].message
    assert "sdxl_train.py ignores the alpha unless masked_loss is set" in said


def test_defect_alpha_of_pictures_that_have_none(photos, write):
    text = "[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = 'cats'\n"
    imported = FORMAT.read(write(text + "alpha_mask = true\n"))
    assert (
        "has an alpha channel"
        in notes_of(imported, "defect")["datasets[0].subsets[0].alpha_mask"].message
    )
    assert found_by(config_of(imported).data[0], photos)  # and not MasksNotFound


def test_defect_captions_that_are_not_looked_for(tmp_path, write):
    draw(tmp_path / "cats" / "a.png")
    (tmp_path / "cats" / "a.txt").write_text("a cat")
    text = '[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = "cats"\n'
    imported = FORMAT.read(write(text))
    assert (
        "it looks for .caption files"
        in notes_of(imported, "defect")["datasets[0].subsets[0].caption_extension"].message
    )
    assert found_by(config_of(imported).data[0], tmp_path)[0].caption == "a cat"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[datasets]]\nresolution = 64\n", "set.toml line 1: datasets[0].subsets: is needed"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'gone'\n",
         "set.toml line 3: datasets[0].subsets[0].image_dir = 'gone': 'gone' is not there; tried"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'masks/empty'\n", "holds no picture"),
        ("[[datasets]]\nresolution = 'big'\n[[datasets.subsets]]\nimage_dir = 'cats'\n",
         "set.toml line 2: datasets[0].resolution = 'big': the side of a square is needed"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'cats'\nnum_repeats = 'x'\n",
         "a number of at least 0 is needed"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'cats'\nnum_repeats = 0\n",
         "trains nothing"),
        ("datasets = 3\n", "a list is needed"),
        ("train_data_dir = 'cats'\n", "holds no folder N_name with pictures"),
        ("train_data_dir = 'cats'\noptimizer_args = ['x']\n", "holds no folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(photos, write, text, said):
    (photos / "masks" / "empty").mkdir()
    with pytest.raises(BadImport) as caught:
        FORMAT.read(write(text))
    assert said in str(caught.value)
