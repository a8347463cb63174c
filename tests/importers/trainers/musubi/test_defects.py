"""Defects of the musubi forks are told, and bad files are refused with place and fix."""

import pytest
from tests.importers.trainers.musubi import files
from tests.importers.trainers.musubi.files import config_of, found_by, notes_of

from frisket.importers.base import BadImport
from frisket.importers.trainers.musubi.read import FORMAT

write, media = files.write, files.media


# One test a defect of the forks, as in the research pages (2 and 3).


def with_masks(media, write, flags, text=""):
    write(text or '[[datasets]]\nimage_directory = "cats"\nmask_directory = "masks"\n')
    return FORMAT.read(
        write("dataset_config = 'set.toml'\nuse_mask_loss = true\n" + flags, "t.toml")
    )


def test_defect_one_frame_was_cached_without_masks(media, write):
    imported = with_masks(media, write, "one_frame = true\n")
    assert "so it trained unmasked, silently" in notes_of(imported, "defect")["one_frame"].message
    assert imported.data[0]["masks"]


def test_defect_masks_of_videos_were_stored_and_not_used(media, write):
    text = '[[datasets]]\nvideo_directory = "films"\nmask_directory = "filmmasks"\n'
    imported = with_masks(media, write, "", text)
    said = notes_of(imported, "defect")["set.toml: datasets[0].mask_directory"].message
    assert "stores it for videos and never reads it" in said
    assert "one still mask over all frames" in said
    assert found_by(config_of(imported).data[0], media)[0].masks


def test_defect_lanczos_bends_levels_and_old_caches_lack_masks(media, write):
    said = notes_of(with_masks(media, write, ""), "defect")["set.toml: datasets[0].mask_directory"]
    assert "by Lanczos, which bends their levels" in said.message
    assert "cached without masks" in said.message


def test_defect_the_scale_of_the_mask_loss_cancels(media, write):
    imported = with_masks(media, write, "mask_loss_scale = 1.5\n")
    assert "it cancels" in notes_of(imported, "defect")["mask_loss_scale"].message


def test_defect_hunyuan_video_caches_no_masks(media, write):
    imported = with_masks(media, write, "network_module = 'networks.lora'\n")
    assert "cached without masks" in notes_of(imported, "defect")["network_module"].message
    assert imported.sections["model"]["family"] == "hunyuan_video"


def test_defect_masks_that_no_flag_turned_on(media, write):
    write('[[datasets]]\nimage_directory = "cats"\nmask_directory = "masks"\n')
    imported = FORMAT.read(write("dataset_config = 'set.toml'\n", "t.toml"))
    assert (
        "the masks of the data were not used"
        in notes_of(imported, "defect")["use_mask_loss"].message
    )


def test_defect_pictures_without_a_caption_were_left_out_silently(media, write):
    imported = FORMAT.read(write('[[datasets]]\nimage_directory = "cats"\n'))
    assert [line["name"] for line in imported.manifests["cats.jsonl"]] == ["a", "b"]


def test_defect_the_rate_is_taken_at_its_word(media, write):
    imported = FORMAT.read(
        write('[[datasets]]\nvideo_directory = "films"\nsource_fps = 30.0\ntarget_frames = [5]\n')
    )
    assert "plays at 16" in notes_of(imported, "defect")["datasets[0].source_fps"].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[datasets]]\nresolution = 64\n", "set.toml line 1: one of image_directory, "),
        ("[[datasets]]\nimage_directory = 'films'\n", "holds no picture itself"),
        ("[[datasets]]\nimage_directory = 'masks'\n", "has a caption (.txt)"),
        ("[[datasets]]\nvideo_directory = 'films'\nframe_extraction = 'tail'\n",
         "line 3: datasets[0].frame_extraction = 'tail': there is no such choice"),
        ("[[datasets]]\nvideo_directory = 'films'\ntarget_frames = 5\n", "whole numbers above 0"),
        ("[[datasets]]\nimage_jsonl_file = 'gone.jsonl'\n", "'gone.jsonl' is not there; tried"),
        ("[[datasets]]\nimage_jsonl_file = 'bad.jsonl'\n", "bad.jsonl line 2: not JSON"),
        ("[[datasets]]\nimage_directory = 'cats'\ncontrol_directory = 'films'\n",
         "holds no picture for"),
        ("[[datasets]]\nimage_directory = 'cats'\nnum_repeats = []\n", "a number of at least 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(media, write, text, said):
    write('{"image_path": "cats/a.png", "caption": "x"}\n{\n', "bad.jsonl")
    with pytest.raises(BadImport) as caught:
        FORMAT.read(write(text))
    assert said in str(caught.value)
