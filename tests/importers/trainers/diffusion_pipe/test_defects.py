"""Defects of diffusion-pipe are told, and bad files are refused with place and fix."""

import pytest
from tests.importers.trainers.diffusion_pipe import files
from tests.importers.trainers.diffusion_pipe.files import LAYOUT, MAIN, dataset

from frisket.importers.base import BadImport

project = files.project


# Defects, as the research pages name them.


def test_defect_missing_captions_are_left_out_though_promised(tmp_path, drawn, notes, loaded):
    drawn("a", "a.png", caption="x")
    drawn("a", "b.png")
    imported = dataset(tmp_path, "resolutions = [64]\n[[directory]]\npath = 'a'\n")
    (note,) = notes(imported)["skip_empty_caption"]
    assert (note.kind, note.value, note.line) == ("defect", True, None)
    assert "1 of" in note.message


def test_defect_masks_are_stale_and_still(tmp_path, drawn, notes):
    drawn("a", "a.png", caption="x")
    drawn("m", "a.png", mode="L")
    text = "resolutions = [64]\n[[directory]]\npath = 'a'\nmask_path = 'm'\n"
    mapped, defect = sorted(
        notes(dataset(tmp_path, text))["directory[0].mask_path"], key=lambda note: note.kind
    )[::-1]
    assert (mapped.kind, defect.kind) == ("mapped", "defect")
    assert "--regenerate_cache" in defect.message
    assert "frame by frame" in defect.message


def test_defect_the_documented_huber_option_is_never_read(project, notes):
    (note,) = notes(LAYOUT.read(project / "main.toml"))["pseudo_huber_c"]
    assert note.kind == "defect"


def test_defect_one_family_alone_divides_by_the_mask(project, notes):
    (project / "main.toml").write_text(MAIN.replace("'wan'", "'ltx-video'"))
    kinds = {note.kind for note in notes(LAYOUT.read(project / "main.toml"))["model.type"]}
    assert kinds == {"defect", "no equivalent"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resolutions = [64\n", "line 1, column 18"),
        ("[[directory]]\npath = 'nowhere'\n", "'nowhere' is not there; tried"),
        ("[[directory]]\npath = 'a'\n", "resolutions: is needed"),
        ("resolutions = ['x']\n[[directory]]\npath = 'a'\n", "line 1: resolutions = ['x']"),
        (
            "resolutions = [64]\n[[directory]]\npath = 'a'\nnum_repeats = 0\n",
            "line 4: directory[0].num_repeats = 0",
        ),
        ("directory = 3", "a list is needed"),
        ("[[directory]]\npath = 'empty'\nresolutions = [8]", "holds no image or video"),
    ],
)
def test_bad_files_are_refused_with_place_and_fix(tmp_path, drawn, text, said):
    drawn("a", "a.png", caption="x")
    drawn("empty")
    with pytest.raises(BadImport, match=r"set\.toml") as error:
        dataset(tmp_path, text)
    assert said in str(error.value)
