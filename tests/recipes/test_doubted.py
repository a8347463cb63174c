"""A mask is doubted as long as it is what `frisket masks` was unsure of."""

from pathlib import Path

import pytest

from frisket.maskgen.files.record import MaskRecord, Stamp, save
from frisket.maskgen.files.unsure import is_unsure
from frisket.media.files import ClipFiles


def made(folder: Path, status: str, name: str = "a.png") -> ClipFiles:
    clip, mask = folder / "clip.png", folder / name
    for path in (clip, mask):
        path.write_bytes(b"pixels")
    record = MaskRecord(
        Stamp.of(clip), 1, 8, 8, status, {}, "key", (Stamp.of(mask, f"below/{name}"),)
    )
    save(record, folder / f"{name.removesuffix('.png')}.json")
    return ClipFiles("a", clip, "", {"": mask}, alpha=False)


@pytest.mark.parametrize("name", ["a.png", "a.mask.png", "take.1.png"])
def test_an_unsure_mask_is_doubted_until_it_is_changed(tmp_path: Path, name: str) -> None:
    found = made(tmp_path, "unsure", name)
    assert is_unsure(found)
    found.masks[""].write_bytes(b"mended by hand")
    assert not is_unsure(found)


def test_so_it_is_until_its_record_is_deleted(tmp_path: Path) -> None:
    found = made(tmp_path, "unsure")
    (tmp_path / "a.json").unlink()
    assert not is_unsure(found)


def test_other_masks_are_not_doubted(tmp_path: Path) -> None:
    assert not is_unsure(made(tmp_path, "done"))
    (tmp_path / "a.json").write_text("{")  # no record of ours
    assert not is_unsure(made(tmp_path, "done"))
    (tmp_path / "a.json").write_text('{"clips": 3}')
    assert not is_unsure(
        ClipFiles("a", tmp_path / "clip.png", "", {"": tmp_path / "a.png"}, alpha=False)
    )
