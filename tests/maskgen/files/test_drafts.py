"""Painted frames on disk, and what a record says of them."""

import numpy as np
import pytest

from frisket.maskgen.files import record
from frisket.maskgen.files.by_hand import note_frames
from frisket.maskgen.files.drafts import BadDraft, DraftFolder, FrameDraft, share_out, write_png
from frisket.maskgen.files.frame_codes import FrameCode, fit_levels, pack_levels


def test_a_draft_comes_back_and_is_known_without_its_pixels(tmp_path):
    plane = np.arange(48, dtype=np.uint8).reshape(6, 8)
    folder = DraftFolder(tmp_path / "frames")
    assert folder.list_notes() == {}
    draft = FrameDraft(7, {"": write_png(plane)}, "tracked", 0.5, 3, share_out(plane % 2))
    folder.save(draft)
    (note,) = folder.list_notes().values()
    assert (note.frame, note.maker, note.confidence, note.number) == (7, "tracked", 0.5, 3)
    assert note.shares == {0: 0.5, 1: 0.5}
    loaded = folder.load(7)
    assert loaded == draft
    assert np.array_equal(loaded.read_planes()[""], plane)
    folder.drop(7, number=2)
    assert folder.load(7) is not None  # it was changed since
    folder.drop(7, number=3)
    assert folder.load(7) is None


def test_a_draft_that_is_no_draft_names_its_file(tmp_path):
    folder = DraftFolder(tmp_path)
    folder.locate(1).write_bytes(b"PK nothing")
    with pytest.raises(BadDraft, match=r"00000001\.zip"):
        folder.load(1)


def test_codes_spell_ids_and_read_them_again():
    ids = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    for code in (
        FrameCode("labels"),
        FrameCode("levels", {0: 0, 1: 255, 2: 80}),
        FrameCode("soft", keys={"face": 1, "hair": 2}),
        FrameCode("soft", keys={"face": 1, "hair": 2}, invert=True),
    ):
        assert np.array_equal(code.to_ids(code.from_ids(ids)), ids)
        assert FrameCode.parse(code.dump()) == code
    with pytest.raises(ValueError, match="region 2"):
        FrameCode("levels", {0: 0, 1: 255}).from_ids(ids)
    with pytest.raises(ValueError, match="label 300"):
        pack_levels(np.array([[300]]))
    assert fit_levels(ids, 4, 6)[3].tolist() == [2, 2, 1, 1, 0, 0]


def test_a_record_names_painted_and_tracked_frames(tmp_path):
    clip, path = tmp_path / "a.mp4", tmp_path / "a.json"
    clip.write_bytes(b"clip")
    note_frames(path, clip, (9, 4, 6), painted=[4, 0], tracked={2: 0.5, 1: 0.75}, legend={"x": 1})
    noted = record.load(path)
    assert noted.painted == (0, 4)
    assert noted.tracked == ((1, 0.75), (2, 0.5))
    assert noted.masks == ()
    assert "edited by hand" in noted.notes[0]
    mask = tmp_path / "a.mkv"
    mask.write_bytes(b"mask")
    assert record.state(noted, clip=clip, masks={"a.mkv": mask}, key="") == "hand"
