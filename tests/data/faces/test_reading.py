"""Faces of clips in the cache: read once, of the clean frames, for each way a clip is cut."""

import json
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest
import torch
from tests.runs.faces.portrait_set import SIDE, write_keypoints, write_portraits
from torch import Tensor

from frisket.data.cached.index import Index
from frisket.data.cached.store import Cache
from frisket.data.faces.reading import (
    NoFaces,
    draw_marks,
    pack_marks,
    spread_marks,
    unpack_marks,
)
from frisket.data.loader import Loader
from frisket.data.prepare import prepare
from frisket.data.records import Clipset, Masking, Prepared
from frisket.data.refusing import BadClips
from frisket.families.base import FAMILIES, Source
from frisket.losses.faces import FaceMark
from frisket.runs.prepare import Loaded

POCKET = FAMILIES.load("pocket")


class Reader:
    """A ClipFaceReader whose target is the picture's mean colour; counts what it was shown."""

    region = "face"

    def __init__(self, name: str = "mean", found: Sequence[Tensor] | None = None) -> None:
        self.record, self.found = {"name": name}, found
        self.detects = found is not None
        self.embedded = 0

    def detect(self, picture: Tensor) -> Sequence[Tensor]:
        return self.found or ()

    def embed(self, picture: Tensor, points: Tensor) -> Tensor | None:
        self.embedded += 1
        return picture.mean((1, 2))

    def unload(self) -> None:
        pass


def make(folder: Path, reader: Reader | None, *, flip: bool = False, resolution: int = 64):
    cache = Cache(folder / "cache")
    clipset = Clipset(
        clips=folder / "clips",
        masking=Masking(source="folder", folders={"": folder / "masks"}),
        resolution=resolution,
        flip=flip,
    )
    with Index(cache.folder) as index:
        encoders = Loaded(POCKET, Source("image"), index)
        regions = {"background": 0.0, "face": 1.0}
        return prepare([clipset], cache, encoders, regions=regions, faces=reader)


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    return write_portraits(tmp_path / "set", 3)


def read_all(prepared: Prepared) -> list[tuple[FaceMark, ...]]:
    keys = [item.faces for item in prepared.items]
    return [
        () if key is None else unpack_marks(prepared.cache.load("faces", key).tensors)
        for key in keys
    ]


def test_faces_are_read_once_and_again_when_what_made_them_changes(portraits: Path) -> None:
    counts, keys = [], []
    for reader in (Reader(), Reader(), Reader("other")):
        prepared = make(portraits, reader)
        counts.append(reader.embedded)
        keys.append([item.faces for item in prepared.items])
    assert counts == [3, 0, 3]
    assert keys[0] == keys[1] != keys[2]
    path = portraits / "clips" / "p1.keypoints.json"
    tree = json.loads(path.read_text())
    tree["faces"][0]["points"][0][0] += 1
    path.write_text(json.dumps(tree))
    reader = Reader()
    changed = make(portraits, reader)
    assert reader.embedded == 1
    assert prepared.digest != changed.digest


def test_a_run_without_the_term_reads_no_face_and_is_the_run_it_was(portraits: Path) -> None:
    prepared = make(portraits, None)
    assert [item.faces for item in prepared.items] == [None] * 3
    assert Loader(prepared, batch=2, seed=0, prefetch=0).at(0).faces == ()


def test_points_and_targets_are_of_the_clip_as_it_is_cut(portraits: Path) -> None:
    prepared = make(portraits, Reader(), flip=True, resolution=32)
    assert len(prepared.items) == 6
    by_flip = {
        (item.name, item.flip): row
        for item, row in zip(prepared.items, read_all(prepared), strict=True)
    }
    noted = json.loads((portraits / "clips" / "p0.keypoints.json").read_text())
    points = torch.tensor(noted["faces"][0]["points"])
    (plain,), (mirrored,) = by_flip["p0", False], by_flip["p0", True]
    torch.testing.assert_close(plain.keypoints, (points + 0.5) / 2 - 0.5)
    assert mirrored.keypoints[0, 0] < mirrored.keypoints[1, 0]
    torch.testing.assert_close(mirrored.keypoints[1, 0], 31 - plain.keypoints[0, 0])
    torch.testing.assert_close(mirrored.target, plain.target, atol=1e-5, rtol=0)


def test_batches_carry_the_faces_and_the_same_ones_again(portraits: Path) -> None:
    (portraits / "clips" / "p2.keypoints.json").unlink()
    prepared = make(portraits, Reader())
    loader = Loader(prepared, batch=3, seed=0, prefetch=0)
    batch, again = loader.at(0), loader.at(0)
    by_name = dict(zip(batch.names, batch.faces, strict=True))
    assert [len(by_name[name]) for name in ("p0", "p1", "p2")] == [1, 1, 0]
    for row, other in zip(batch.faces, again.faces, strict=True):
        assert [mark.frame for mark in row] == [mark.frame for mark in other]


def test_of_several_faces_that_in_the_mask_counts_and_none_elsewhere(portraits: Path) -> None:
    noted = json.loads((portraits / "clips" / "p0.keypoints.json").read_text())
    points = torch.tensor(noted["faces"][0]["points"]).numpy()
    size = (SIDE, SIDE)
    write_keypoints(portraits / "clips" / "p0.keypoints.json", size, points * 0.2, points)
    write_keypoints(portraits / "clips" / "p1.keypoints.json", size, points * 0.2)
    rows = dict(zip(("p0", "p1", "p2"), read_all(make(portraits, Reader())), strict=True))
    torch.testing.assert_close(rows["p0"][0].keypoints, torch.from_numpy(points).float())
    assert rows["p1"] == ()
    assert len(rows["p2"]) == 1


def test_a_detector_finds_what_no_file_says(portraits: Path) -> None:
    for path in (portraits / "clips").glob("*.keypoints.json"):
        path.unlink()
    face = torch.tensor([[26.0, 30], [38, 30], [32, 36], [27, 42], [37, 42]])
    reader = Reader(found=[face])
    assert all(len(row) == 1 for row in read_all(make(portraits, reader)))


def test_no_face_anywhere_stops_before_anything_is_encoded(portraits: Path) -> None:
    for path in (portraits / "clips").glob("*.keypoints.json"):
        path.unlink()
    with pytest.raises(NoFaces, match=r"no clip with a mask has key points beside it"):
        make(portraits, Reader())
    assert not list((portraits / "cache" / "latents").rglob("*.safetensors"))
    with pytest.raises(NoFaces, match=r"of 3 clips that were looked into none shows a face"):
        make(portraits, Reader(found=[]))


def test_a_broken_file_of_key_points_is_named(portraits: Path) -> None:
    (portraits / "clips" / "p1.keypoints.json").write_text("{")
    with pytest.raises(BadClips, match=r"p1\.keypoints\.json: no JSON"):
        make(portraits, Reader())


def marks_of(count: int) -> tuple[FaceMark, ...]:
    return tuple(FaceMark(n, torch.full((5, 2), float(n)), torch.ones(3) * n) for n in range(count))


def test_marks_survive_the_cache() -> None:
    for count in (0, 1, 4):
        back = unpack_marks(pack_marks(marks_of(count)))
        assert [mark.frame for mark in back] == list(range(count))
        for mark, own in zip(back, marks_of(count), strict=True):
            assert torch.equal(mark.keypoints, own.keypoints)
            assert torch.equal(mark.target, own.target)


def draw_chance(number: int, what: str) -> float:
    return crc32(f"{what} {number}".encode()) % 997 / 997


def test_draws_are_bounded_and_every_frame_has_its_turn() -> None:
    seen = set()
    for number in range(60):
        drawn = draw_marks(
            marks_of(5), 2, lambda what, n=number: crc32(f"{what} {n}".encode()) % 997 / 997
        )
        frames = [mark.frame for mark in drawn]
        assert frames == sorted(set(frames))
        assert len(frames) == 2
        seen |= set(frames)
    assert seen == set(range(5))
    assert len(draw_marks(marks_of(1), 3, lambda _: 0.5)) == 1
    assert [mark.frame for mark in spread_marks(marks_of(9), 3)] == [1, 4, 7]
    assert len(spread_marks(marks_of(2), 3)) == 2
