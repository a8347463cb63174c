"""Masks on disk: where they lie, legends that stay true, label maps and soft planes read back."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frisket.maskgen.files.store import (
    BadLegend,
    MaskStore,
    extend_legend,
    levels,
    open_label_video,
    read_frames,
    read_legend,
    read_png_legend,
    write_labels,
    write_soft,
)
from frisket.masks.read import read
from frisket.media.files import find
from frisket.media.frames import BadMedia, decode_index, probe

LEGEND = {"face": 1, "hair": 2, "left hand": 3}
NAMES = ["a", "take.1", "sub/deep er/é ü", "v1.2.final"]


def painted(height: int = 24, width: int = 36) -> torch.Tensor:
    labels = torch.zeros(height, width, dtype=torch.uint8)
    labels[4:12, 5:20], labels[2:5], labels[20, 30] = 1, 2, 3
    return labels


@pytest.fixture
def clips(tmp_path) -> Path:
    """Pictures of many names."""
    for name in NAMES:
        path = tmp_path / "clips" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (36, 24)).save(path)
    return tmp_path / "clips"


@contextmanager
def read_only() -> Iterator[Path]:
    """A folder that may not be written to, for root as well."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o555)
        me = os.geteuid()
        try:
            if me == 0:
                os.seteuid(65534)
            yield Path(name)
        finally:
            os.seteuid(me)
            Path(name).chmod(0o755)


@pytest.mark.parametrize("beside", [False, True])
def test_training_finds_every_mask_where_it_was_written(tmp_path, clips, beside):
    place = MaskStore(clips if beside else tmp_path / "masks", beside)
    legend = extend_legend(place.legend, LEGEND)
    for name in NAMES:
        write_labels(place.labels(name, video=False), painted(), legend)
        place.record(name).write_text("{}")
    kind = "sidecar" if beside else "folder"
    found = find(clips, masks=kind, folders={} if beside else {"": place.folder})
    assert {one.name for one in found.clips} == set(NAMES)
    assert not found.orphans
    for one in found.clips:
        planes = read(
            one.masks,
            clip=probe(one.clip),
            alpha=False,
            picks=(0,),
            regions=list(LEGEND),
            legend=legend,
        )
        assert torch.equal(planes["face"][0], (painted() == 1).float())
        assert place.present(one.name, one.clip) == {place.below(one.masks[""]): one.masks[""]}


def test_soft_planes_are_read_as_region_folders(tmp_path, clips):
    place = MaskStore(tmp_path / "masks")
    mask = torch.linspace(0, 1, 36).expand(24, 36)
    for name in NAMES:
        write_soft(place.soft("face", name, video=False), mask)
    found = find(clips, masks="regions", folders={"face": place.folder / "soft" / "face"})
    assert all(one.masks for one in found.clips)
    one = found.clips[0]
    (frame,) = read_frames(one.masks, probe(one.clip), {})
    assert torch.equal(frame["face"], (mask * 255).round() / 255)
    assert set(place.present("a", clips / "a.jpg", ["face", "hair"])) == {"soft/face/a.png"}
    with pytest.raises(ValueError, match="soft planes need a mask folder of their own"):
        MaskStore(clips, beside=True).soft("face", "a", video=False)


def test_hand_masks_of_any_kind_are_seen(tmp_path, clips):
    place = MaskStore(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "a.webp")
    (tmp_path / "take.1").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "take.1" / "0.png")
    assert set(place.present("a", clips / "a.jpg")) == {"a.webp"}
    assert set(place.present("take.1", clips / "take.1.jpg")) == {"take.1"}
    beside = MaskStore(clips, beside=True)
    Image.new("L", (4, 4)).save(clips / "a-masklabel.png")
    assert set(beside.present("a", clips / "a.jpg")) == {"a-masklabel.png"}


def test_a_folder_that_mirrors_clips_is_no_folder_of_frames(tmp_path, clips):
    Image.new("RGB", (4, 4)).save(clips / "sub.png")
    (tmp_path / "sub").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "sub" / "x.png")
    assert not MaskStore(tmp_path).present("sub", clips / "sub.png")


def test_names_typed_on_a_mac_are_the_same_name(tmp_path, clips):
    Image.new("L", (4, 4)).save(tmp_path / "e\N{COMBINING ACUTE ACCENT}.png")
    assert list(MaskStore(tmp_path).present("\N{LATIN SMALL LETTER E WITH ACUTE}", clips / "é.jpg"))


def test_a_clip_named_as_the_legend_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a clip named 'legend' has its record where the legend"):
        MaskStore(tmp_path).record("legend")
    assert MaskStore(tmp_path, beside=True).record("legend").name == "legend.mask.json"


@given(
    st.lists(
        st.lists(st.sampled_from(["face", "hair", "hands", "body", "hat"]), unique=True),
        max_size=6,
    )
)
def test_an_index_once_given_never_changes(runs):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "legend.json"
        before: dict[str, int] = {}
        for regions in runs:
            legend = extend_legend(path, regions)
            assert set(regions) <= set(legend)
            assert before.items() <= legend.items()
            assert sorted(legend.values()) == list(range(1, len(legend) + 1))
            assert read_legend(path) == legend
            before = legend


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", r"legend\.json: its legend is not JSON"),
        ("[1]", r"legend\.json: its legend is a list"),
        ('{"face": 0}', r"legend\.json: 'face' has the index 0"),
        ('{"face": 1, "hair": 1}', r"legend\.json: two regions share an index"),
        ('{"face": true}', r"legend\.json: 'face' has the index True"),
    ],
)
def test_a_damaged_legend_is_named_and_kept(tmp_path, text, fault):
    path = tmp_path / "legend.json"
    path.write_text(text)
    with pytest.raises(BadLegend, match=fault + ".*it should be like"):
        extend_legend(path, ["face"])
    assert path.read_text() == text


def test_regions_that_cannot_be(tmp_path):
    path = tmp_path / "legend.json"
    with pytest.raises(ValueError, match="'background' is what no region covers"):
        extend_legend(path, ["background"])
    with pytest.raises(ValueError, match=r"'\.\./x' cannot be the name of a folder"):
        extend_legend(path, ["../x"])
    path.write_text(json.dumps({str(i): i for i in range(1, 256)}))
    with pytest.raises(BadLegend, match="256 regions need the index 256, but a label map ends"):
        extend_legend(path, ["one more"])


def test_a_label_map_is_an_indexed_png_with_its_legend(tmp_path):
    path = tmp_path / "a.png"
    write_labels(path, painted(), LEGEND)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((0, 10)) == (0, 0, 0)
        assert image.convert("RGB").getpixel((6, 6)) == (230, 159, 0)
    assert torch.equal(decode_index(path)[0], painted().int())
    assert read_png_legend(path) == LEGEND
    Image.fromarray(painted().numpy()).save(path)
    assert read_png_legend(path) == {}


def test_labels_beyond_the_legend_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png: labels hold the index 3, which the legend"):
        write_labels(tmp_path / "a.png", painted(), {"face": 1, "hair": 2})
    with pytest.raises(ValueError, match=r"a\.mkv: labels hold the index 3, which the legend"):  # noqa: SIM117
        with open_label_video(tmp_path / "a.mkv", 16, {"face": 1, "hair": 2}) as add:
            add(painted())
    with pytest.raises(ValueError, match=r"written as \.png, not '\.jpg'"):
        write_labels(tmp_path / "a.jpg", painted(), LEGEND)
    assert not list(tmp_path.iterdir())


@given(st.integers(0, 255))
def test_grey_levels_survive_a_soft_plane(level):
    assert (levels(torch.full((2, 3), level / 255)) == level).all()


def test_frames_of_a_label_video(tmp_path, encode):
    path, clip = tmp_path / "a.mkv", encode(tmp_path / "clip.mkv", 4)
    with open_label_video(path, 16, LEGEND) as add:
        for index in range(4):
            add(painted().roll(index, 1))
    frames = list(read_frames({"": path}, probe(clip), LEGEND))
    assert len(frames) == 4
    assert torch.equal(frames[3]["hair"], (painted().roll(3, 1) == 2).float())
    write_labels(tmp_path / "still.png", painted(), LEGEND)
    still = list(read_frames({"": tmp_path / "still.png"}, probe(clip), LEGEND))
    assert [torch.equal(each["face"], still[0]["face"]) for each in still] == [True] * 4
    with pytest.raises(BadMedia, match=r"a\.mkv has 4 frames but its clip .*c5\.mkv has 5"):
        list(read_frames({"": path}, probe(encode(tmp_path / "c5.mkv", 5)), LEGEND))


def test_a_mask_of_another_size_or_legend_is_refused(tmp_path, clips):
    clip = probe(clips / "a.jpg")
    write_labels(tmp_path / "m.png", painted(24, 35), LEGEND)
    with pytest.raises(BadMedia, match=r"m\.png is 35 x 24, its clip .*a\.jpg is 36 x 24"):
        list(read_frames({"": tmp_path / "m.png"}, clip, LEGEND))
    write_labels(tmp_path / "m.png", painted(), LEGEND)
    with pytest.raises(BadMedia, match=r"m\.png: holds the index 3, but the legend has only"):
        list(read_frames({"": tmp_path / "m.png"}, clip, {"face": 1, "hair": 2}))


def test_folders_that_may_not_be_written_are_named(tmp_path):
    with read_only() as folder:
        with pytest.raises(PermissionError, match=r"a\.png: cannot be written .* choose a folder"):
            write_labels(folder / "a.png", painted(), LEGEND)
        with pytest.raises(PermissionError, match=r"legend\.json: cannot be written"):
            extend_legend(folder / "legend.json", ["face"])
        with pytest.raises(PermissionError, match=r"deep.a\.png: its folder cannot be made"):
            write_soft(folder / "deep" / "a.png", torch.zeros(2, 2))
        assert not list(folder.iterdir())


@pytest.fixture
def encode():
    """A short FFV1 clip of 36 x 24."""
    from frisket.media.frames import write_video

    def make(path: Path, frames: int) -> Path:
        pixels = np.zeros((frames, 24, 36, 3), np.uint8)
        write_video(path, torch.from_numpy(pixels), 16, lossless=True)
        return path

    return make
